//! Namespaces that a container shares: with another one, with the host, or with nobody.

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// What `script` writes in a container with these options.
fn inside(engine: &Engine, options: &[&str], script: &str) -> Result<String> {
    let all = [&["run", "--rm"], options, &[BUSYBOX, "sh", "-c", script]].concat();
    engine.run(&all)
}

fn refused(engine: &Engine, arguments: &[&str], words: &str) -> Result<()> {
    let said = engine.docker(arguments)?;
    ensure!(
        said.code != 0 && said.err.contains(words),
        "docker {arguments:?} should say {words:?}: {said:?}"
    );
    Ok(())
}

/// A namespace of a container's first process, as the host sees it.
fn namespace(engine: &Engine, container: &str, kind: &str) -> Result<String> {
    let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", container])?;
    engine.world().shell(&format!("readlink /proc/{pid}/ns/{kind}"))
}

#[test]
fn privileged_docker_memory_and_processes_of_another_container_at_each_start() {
    check(|engine| {
        let lends = ["run", "-d", "--name", "lends", "--ipc", "shareable", "--shm-size", "8m", BUSYBOX];
        engine.run(&[&lends[..], &["sh", "-c", "echo x > /dev/shm/f; exec sleep 1000"]].concat())?;
        engine.run(&["exec", "lends", "sh", "-c", "while ! test -s /dev/shm/f; do :; done"])?;
        let joined = ["--ipc", "container:lends", "--pid", "container:lends"];
        let joins = [&["run", "-d", "--name", "joins"], &joined[..], &[BUSYBOX, "sleep", "1001"]].concat();
        engine.run(&joins)?;
        for kind in ["ipc", "pid"] {
            let (own, theirs) = (namespace(engine, "lends", kind)?, namespace(engine, "joins", kind)?);
            ensure!(own == theirs && !own.is_empty(), "{kind}: {own} {theirs}");
        }
        let look = "cat /dev/shm/f; df -k /dev/shm | tail -n 1 | awk '{print $2}'; ps -o args | grep -c '[s]leep 1000'";
        ensure!(engine.run(&["exec", "joins", "sh", "-c", look])? == "x\n8192\n1");
        // Who joins what has joined is with both.
        ensure!(
            inside(engine, &["--ipc", "container:joins", "--pid", "container:joins"], look)? == "x\n8192\n1"
        );
        let id = engine.run(&["inspect", "-f", "{{.Id}}", "lends"])?;
        let told =
            engine.run(&["inspect", "-f", "{{.HostConfig.IpcMode}} {{.HostConfig.PidMode}}", "joins"])?;
        ensure!(told == format!("container:{id} container:{id}"), "{told}");
        // The namespace ends with its first process, and everybody in it. The next start finds the next one, also of a
        // daemon that was not there before.
        engine.run(&["stop", "-t", "0", "lends"])?;
        ensure!(engine.run(&["wait", "joins"])? == "137");
        refused(engine, &["start", "joins"], "start it first")?;
        engine.cleat().kill()?;
        engine.cleat().start()?;
        engine.run(&["start", "lends"])?;
        engine.run(&["start", "joins"])?;
        ensure!(namespace(engine, "lends", "pid")? == namespace(engine, "joins", "pid")?);
        engine.run(&["rm", "-f", "lends"])?;
        engine.run(&["wait", "joins"])?;
        refused(engine, &["start", "joins"], "gone")
    });
}

#[test]
fn privileged_docker_what_is_private_is_not_joined() {
    check(|engine| {
        engine.run(&["run", "-d", "--name", "own", BUSYBOX, "sleep", "1000"])?;
        let run = |mode: [&'static str; 2]| ["run", "--rm", mode[0], mode[1], BUSYBOX, "true"];
        refused(engine, &run(["--ipc", "container:own"]), "non-shareable IPC")?;
        refused(engine, &run(["--ipc", "container:nosuch"]), "No such container: nosuch")?;
        refused(engine, &run(["--pid", "container:nosuch"]), "No such container: nosuch")?;
        engine.run(&["run", "-d", "--name", "none", "--ipc", "none", BUSYBOX, "sleep", "1000"])?;
        refused(engine, &run(["--ipc", "container:none"]), "non-shareable IPC")?;
        ensure!(engine.run(&["exec", "none", "sh", "-c", "test -e /dev/shm || echo absent"])? == "absent");
        ensure!(namespace(engine, "none", "ipc")? != namespace(engine, "own", "ipc")?);
        Ok(())
    });
}

#[test]
fn privileged_docker_names_and_cgroups_of_the_host() {
    check(|engine| {
        let name = engine.world().shell("cat /proc/sys/kernel/hostname")?.trim().to_owned();
        let look = "hostname; cat /etc/hostname; echo $HOSTNAME";
        ensure!(inside(engine, &["--uts", "host"], look)? == format!("{name}\n{name}\n{name}"));
        refused(
            engine,
            &["run", "--rm", "--uts", "host", "-h", "x", BUSYBOX, "true"],
            "conflicting options",
        )?;
        let own = |options: &[&str]| inside(engine, options, "grep -c ':/$' /proc/self/cgroup; true");
        let (private, host) = (own(&["--cgroupns", "private"])?, own(&["--cgroupns", "host"])?);
        ensure!(private != "0" && host == "0", "{private} {host}");
        ensure!(own(&["--privileged"])? == "0" && own(&["--privileged", "--cgroupns", "private"])? != "0");
        // Nobody else's cgroup is made a parent twice: the test has a name of its own for it.
        let parent = format!("cleat-parent-{}", std::process::id());
        let asked = format!("/x/../{parent}");
        let script = "grep -E '(:memory|^0):' /proc/self/cgroup | cut -d/ -f2 | sort -u";
        let found = inside(engine, &["--cgroupns", "host", "--cgroup-parent", &asked], script);
        engine
            .world()
            .shell(&format!("rmdir /sys/fs/cgroup/*/{parent} /sys/fs/cgroup/{parent} 2>/dev/null; true"))?;
        ensure!(found?.lines().any(|line| line == parent));
        Ok(())
    });
}
