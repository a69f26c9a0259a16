//! `docker cp` and `docker export` of containers that do their worst.

use std::fs;

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

/// A container's links lead nowhere outside of it, whichever way a copy goes, whether it runs or rests.
#[test]
fn privileged_docker_copies_stay_inside() {
    check(|engine| {
        let outside = engine.folder().join("outside");
        fs::create_dir(&outside)?;
        fs::write(outside.join("secret"), "of the host")?;
        let mine = engine.folder().join("mine");
        fs::write(&mine, "mine")?;
        let (outside, mine) = (outside.display().to_string(), mine.display().to_string());
        let script = format!(
            "ln -s {outside} /out; ln -s ../../../..{outside} /up; ln -s /proc/1/root{outside} /magic; sleep 1000"
        );
        engine.run(&["run", "-d", "--name", "evil", BUSYBOX, "sh", "-c", &script])?;
        engine.run(&["exec", "evil", "sh", "-c", "while ! test -L /magic; do :; done"])?;
        for state in ["runs", "rests"] {
            for link in ["out", "up", "magic", "proc/1/root/out", "proc/self/root"] {
                let from = format!("evil:/{link}/secret");
                let to = format!("{}/got", engine.folder().display());
                ensure!(engine.docker(&["cp", &from, &to])?.code != 0, "{state}: {from} was read");
                let into = format!("evil:/{link}/new");
                ensure!(engine.docker(&["cp", &mine, &into])?.code != 0, "{state}: {into} was written");
            }
            engine.run(&["stop", "-t", "0", "evil"])?;
        }
        ensure!(fs::read_dir(&outside)?.count() == 1);
        Ok(())
    });
}

/// What is copied into a container that rests is there when it starts, with owners and modes; an export has it all.
#[test]
fn privileged_docker_copies_reach_what_rests() {
    check(|engine| {
        let folder = engine.folder().join("tree");
        fs::create_dir_all(folder.join("sub"))?;
        fs::write(folder.join("sub/file"), "x".repeat(3 << 20))?;
        std::os::unix::fs::symlink("sub/file", folder.join("link"))?;
        std::os::unix::fs::chown(folder.join("sub"), Some(1234), Some(4321))?;
        let script = "wc -c < /in/tree/link; stat -c '%u %g' /in/tree/sub";
        engine.run(&["create", "--name", "c1", "-w", "/in", BUSYBOX, "sh", "-c", script])?;
        let tar = engine.folder().join("tree.tar").display().to_string();
        engine.world().shell(&format!("tar -C {} -czf {tar} tree", engine.folder().display()))?;
        // By hand, since the command line sends nothing that is compressed.
        let missing = engine.curl("PUT", "/containers/c1/archive?path=/in", "")?;
        ensure!(missing.0 == 404, "{missing:?}");
        engine.world().shell(&format!("mkdir {0}/in; tar -C {0}/in -xf {tar}", engine.folder().display()))?;
        let source = engine.folder().join("in").display().to_string();
        engine.run(&["cp", &source, "c1:/"])?;
        ensure!(engine.run(&["start", "-a", "c1"])? == "3145728\n1234 4321");
        let out = engine.folder().join("out.tar").display().to_string();
        engine.run(&["export", "-o", &out, "c1"])?;
        let listed = engine.world().shell(&format!("tar -tvf {out} in/tree/sub/file in/tree/link"))?;
        ensure!(listed.contains("3145728") && listed.contains("link -> sub/file"), "{listed}");
        Ok(())
    });
}
