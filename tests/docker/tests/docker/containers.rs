//! Containers by the command line: exit codes, states, refusals.

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

fn code(engine: &Engine, arguments: &[&str], expected: i32) -> Result<String> {
    let said = engine.docker(arguments)?;
    ensure!(said.code == expected, "docker {arguments:?} should end with {expected}: {said:?}");
    Ok(said.out + &said.err)
}

#[test]
fn privileged_docker_run_has_the_programs_exit_code_or_why_there_is_none() {
    check(|engine| {
        ensure!(code(engine, &["run", "--rm", BUSYBOX, "echo", "hi"], 0)? == "hi");
        code(engine, &["run", "--rm", BUSYBOX, "sh", "-c", "exit 7"], 7)?;
        code(engine, &["run", "--rm", BUSYBOX, "nosuchcmd"], 127)?;
        code(engine, &["run", "--rm", BUSYBOX, "/etc"], 126)?;
        code(engine, &["run", "--rm", "127.0.0.1:5000/none:1", "true"], 125)?;
        let unbuilt = code(engine, &["run", "--link", "a:b", BUSYBOX, "true"], 125)?;
        ensure!(unbuilt.contains("not implemented"), "{unbuilt}");
        let network = code(engine, &["run", "--rm", "--network", "nosuch", BUSYBOX, "true"], 125)?;
        ensure!(network.contains("network nosuch not found"), "{network}");
        ensure!(engine.run(&["ps", "-aq"])?.is_empty());
        Ok(())
    });
}

#[test]
fn privileged_docker_start_stop_kill_rm_of_every_state() {
    check(|engine| {
        engine.run(&["create", "--name", "c1", BUSYBOX, "sleep", "1000"])?;
        let state = ["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "c1"];
        ensure!(engine.run(&state)? == "created 0");
        engine.run(&["start", "c1"])?;
        // Started twice, and stopped twice, is no error.
        engine.run(&["start", "c1"])?;
        ensure!(engine.run(&state)? == "running 0");
        let taken = code(engine, &["create", "--name", "c1", BUSYBOX], 1)?;
        ensure!(taken.contains("The container name \"/c1\" is already in use"), "{taken}");
        let running = code(engine, &["rm", "c1"], 1)?;
        ensure!(running.contains("container is running"), "{running}");
        engine.run(&["stop", "-t", "0", "c1"])?;
        engine.run(&["stop", "c1"])?;
        ensure!(engine.run(&state)? == "exited 137");
        code(engine, &["kill", "c1"], 1)?;
        engine.run(&["restart", "-t", "0", "c1"])?;
        ensure!(engine.run(&["ps", "--format", "{{.Names}} {{.State}}"])? == "c1 running");
        engine.run(&["kill", "c1"])?;
        ensure!(engine.run(&["wait", "c1"])? == "137");
        engine.run(&["rm", "c1"])?;
        code(engine, &["rm", "c1"], 1)?;
        Ok(())
    });
}

#[test]
fn privileged_docker_run_with_options_has_them() {
    check(|engine| {
        let folder = engine.folder().display().to_string();
        std::fs::write(engine.folder().join("f"), "from the host\n")?;
        let bind = format!("{folder}:/hv:ro");
        let out = engine.run(&[
            "run", "--rm", "-e", "X=1", "-w", "/hv", "-u", "1:2", "-m", "64m", "--cpus", "0.5", "-v", &bind, "--tmpfs",
            "/tt", "--hostname", "inside", BUSYBOX, "sh", "-c",
            "id -u; id -g; pwd; cat f; echo $X; hostname; grep -c ' /tt tmpfs' /proc/mounts; touch /hv/x 2>/dev/null || echo ro",
        ])?;
        ensure!(out == "1\n2\n/hv\nfrom the host\n1\ninside\n1\nro", "{out}");
        let host = engine.run(&["run", "--rm", "--network", "host", BUSYBOX, "ls", "/sys/class/net"])?;
        ensure!(host.contains("cleat0"), "{host}");
        let own = engine.run(&["run", "--rm", BUSYBOX, "ls", "/sys/class/net"])?;
        ensure!(own == "eth0\nlo", "{own}");
        let none = engine.run(&["run", "--rm", "--network", "none", BUSYBOX, "ls", "/sys/class/net"])?;
        ensure!(none == "lo", "{none}");
        let crowd = "(sleep 3 | sleep 3 | sleep 3) 2>/dev/null || echo full";
        let few = engine.run(&["run", "--rm", "--pids-limit", "3", BUSYBOX, "sh", "-c", crowd])?;
        ensure!(few == "full", "{few}");
        Ok(())
    });
}

#[test]
fn privileged_docker_stats_and_update() {
    check(|engine| {
        engine.run(&["run", "-d", "-m", "64m", "--name", "c1", BUSYBOX, "sleep", "1000"])?;
        let shown =
            engine.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}} {{.MemUsage}}", "c1"])?;
        ensure!(shown.starts_with("c1 1 ") && shown.ends_with(" / 64MiB"), "{shown}");
        engine.run(&["update", "-m", "32m", "--memory-swap", "64m", "c1"])?;
        ensure!(engine.run(&["inspect", "-f", "{{.HostConfig.Memory}}", "c1"])? == "33554432");
        let shown = engine.run(&["stats", "--no-stream", "--format", "{{.MemUsage}}", "c1"])?;
        ensure!(shown.ends_with(" / 32MiB"), "{shown}");
        Ok(())
    });
}
