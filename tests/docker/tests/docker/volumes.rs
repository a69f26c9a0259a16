//! Volumes: what outlives a container, what goes with it, and what an image wants one for.

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_docker_volumes_of_an_image_are_filled_and_go_with_the_container() {
    check(|engine| {
        engine.run(&["run", "--name", "base", BUSYBOX, "sh", "-c", "mkdir -p /data/sub; echo of-image > /data/sub/file; chown 5:6 /data; chmod 1750 /data; ln -s sub/file /data/link"])?;
        let tar = engine.folder().join("base.tar").display().to_string();
        engine.run(&["export", "-o", &tar, "base"])?;
        engine.run(&["import", "-c", "VOLUME /data", &tar, "kept:1"])?;
        let look = "cat /data/link; stat -c '%a %u %g' /data; echo more > /data/more";
        engine.run(&["run", "-d", "--name", "c1", "--read-only", "kept:1", "sh", "-c", "sleep 1000"])?;
        ensure!(engine.run(&["exec", "c1", "sh", "-c", look])? == "of-image\n1750 5 6");
        // It stays through a stop, and the death of the daemon.
        engine.run(&["stop", "-t", "0", "c1"])?;
        engine.cleat().kill()?;
        engine.cleat().start()?;
        engine.run(&["start", "c1"])?;
        ensure!(engine.run(&["exec", "c1", "cat", "/data/more"])? == "more");
        ensure!(engine.run(&["volume", "ls", "-q"])?.lines().count() == 1);
        engine.run(&["rm", "-f", "c1"])?;
        ensure!(engine.run(&["volume", "ls", "-q"])?.lines().count() == 1, "without -v it stays");
        engine.run(&["volume", "prune", "-f"])?;
        // --rm takes it along, also where nobody was there to see the end.
        engine.run(&["run", "-d", "--rm", "--name", "c2", "kept:1", "sh", "-c", "sleep 1000"])?;
        let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", "c2"])?;
        engine.cleat().kill()?;
        engine.cleat().world().shell(&format!("kill -9 {pid}"))?;
        engine.cleat().start()?;
        // The daemon follows the end up behind its first answers; a removal joins that, or finds nothing any more.
        let removed = engine.docker(&["rm", "-f", "c2"])?;
        ensure!(removed.code == 0 || removed.err.contains("No such container"), "{removed:?}");
        ensure!(engine.run(&["volume", "ls", "-q"])?.is_empty(), "--rm takes it along");
        engine.run(&["rm", "base"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_volumes_are_shared_and_kept_while_they_are_used() {
    check(|engine| {
        engine.run(&[
            "run",
            "-d",
            "--name",
            "c1",
            "-v",
            "shared:/a",
            "-v",
            "/own",
            BUSYBOX,
            "sleep",
            "1000",
        ])?;
        engine.run(&[
            "run",
            "--rm",
            "--volumes-from",
            "c1",
            BUSYBOX,
            "sh",
            "-c",
            "echo x > /a/f; echo y > /own/f",
        ])?;
        ensure!(engine.run(&["exec", "c1", "cat", "/a/f", "/own/f"])? == "x\ny", "the lender keeps its own");
        let used = engine.docker(&["volume", "rm", "shared"])?;
        ensure!(used.code == 1 && used.err.contains("volume is in use"), "{used:?}");
        engine.run(&["run", "-d", "--name", "c2", "--volumes-from", "c1:ro", BUSYBOX, "sleep", "1000"])?;
        engine.run(&["rm", "-f", "-v", "c1"])?;
        ensure!(engine.run(&["exec", "c2", "cat", "/own/f"])? == "y", "somebody else uses it");
        engine.run(&["rm", "-f", "c2"])?;
        engine.run(&["volume", "rm", "shared"])?;
        engine.run(&["volume", "prune", "-f", "-a"])?;
        ensure!(engine.run(&["volume", "ls", "-q"])?.is_empty());
        Ok(())
    });
}
