//! Restart policies.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// How long a state may take to come. Nothing depends on how long it does take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `inspect` of the container by `format` says `expected`.
fn await_state(engine: &Engine, name: &str, format: &str, expected: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = engine.run(&["inspect", "-f", format, name])?;
        if found == expected {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("{name} is {found:?} and not {expected:?} after {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

const COUNT: &str = "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}";

#[test]
fn privileged_docker_on_failure_starts_again_so_often_and_no_more() {
    check(|engine| {
        let fails = [
            "run",
            "-d",
            "--name",
            "c1",
            "--restart",
            "on-failure:3",
            BUSYBOX,
            "sh",
            "-c",
            "echo run; exit 5",
        ];
        engine.run(&fails)?;
        await_state(engine, "c1", COUNT, "3 exited 5")?;
        ensure!(engine.run(&["logs", "c1"])? == "run\nrun\nrun\nrun");
        // One that succeeds is not started again.
        engine.run(&["run", "-d", "--name", "c2", "--restart", "on-failure", BUSYBOX, "true"])?;
        await_state(engine, "c2", COUNT, "0 exited 0")?;
        // A start by its user begins the count anew.
        engine.run(&["start", "c1"])?;
        await_state(engine, "c1", COUNT, "3 exited 5")?;
        for (arguments, words) in [
            (&["--restart", "always:2"][..], "maximum retry count can only be used with 'on-failure'"),
            (&["--restart", "sometimes"], "unknown policy 'sometimes'"),
            (&["--restart", "always", "--rm"], "--rm"),
        ] {
            let all = [&["run"], arguments, &[BUSYBOX, "true"]].concat();
            let said = engine.docker(&all)?;
            ensure!(said.code == 125 && said.err.contains(words), "{all:?}: {said:?}");
        }
        Ok(())
    });
}

#[test]
fn privileged_docker_always_starts_again_until_it_is_stopped() {
    check(|engine| {
        engine.run(&["run", "-d", "--name", "c1", "--restart", "always", BUSYBOX, "sleep", "1000"])?;
        ensure!(engine.run(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", "c1"])? == "always");
        for count in ["1", "2"] {
            let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", "c1"])?;
            engine.cleat().world().shell(&format!("kill -9 {pid}"))?;
            await_state(engine, "c1", "{{.RestartCount}} {{.State.Status}}", &format!("{count} running"))?;
            ensure!(engine.run(&["exec", "c1", "ls", "/sys/class/net"])? == "eth0\nlo");
        }
        engine.run(&["stop", "-t", "0", "c1"])?;
        await_state(engine, "c1", COUNT, "2 exited 137")?;
        engine.run(&["start", "c1"])?;
        engine.run(&["kill", "c1"])?;
        await_state(engine, "c1", COUNT, "0 exited 137")?;
        // A container that waits for its next start: it counts as running, and can be stopped and removed.
        engine.run(&["run", "-d", "--name", "c2", "--restart", "always", BUSYBOX, "false"])?;
        await_state(
            engine,
            "c2",
            "{{.State.Restarting}} {{.State.Running}} {{.State.Status}}",
            "true true restarting",
        )?;
        let row = engine.run(&["ps", "--filter", "name=c2", "--format", "{{.Status}}"])?;
        ensure!(row.starts_with("Restarting (1)") || row.starts_with("Up"), "{row}");
        engine.run(&["stop", "c2"])?;
        await_state(engine, "c2", "{{.State.Status}} {{.State.ExitCode}}", "exited 1")?;
        engine.run(&["update", "--restart", "no", "c2"])?;
        engine.run(&["start", "c2"])?;
        ensure!(engine.run(&["wait", "c2"])? == "1");
        await_state(engine, "c2", COUNT, "0 exited 1")?;
        engine.run(&["run", "-d", "--name", "c3", "--restart", "always", BUSYBOX, "false"])?;
        engine.run(&["rm", "-f", "c3"])?;
        Ok(())
    });
}

#[test]
fn privileged_docker_policies_hold_through_the_daemons_death() {
    check(|engine| {
        for (name, policy) in
            [("always", "always"), ("stopped", "unless-stopped"), ("up", "unless-stopped"), ("plain", "no")]
        {
            engine.run(&["run", "-d", "--name", name, "--restart", policy, BUSYBOX, "sleep", "1000"])?;
        }
        engine.run(&["stop", "-t", "0", "always", "stopped"])?;
        let pids = engine.run(&["inspect", "-f", "{{.State.Pid}}", "up", "plain"])?;
        engine.cleat().kill()?;
        for pid in pids.lines() {
            engine.cleat().world().shell(&format!("kill -9 {pid}"))?;
        }
        engine.cleat().start()?;
        for (name, status) in
            [("always", "running"), ("up", "running"), ("stopped", "exited"), ("plain", "exited")]
        {
            await_state(engine, name, "{{.State.Status}}", status)?;
        }
        // The count of a container that was waiting goes on where it was.
        engine.run(&["run", "-d", "--name", "waits", "--restart", "on-failure:4", BUSYBOX, "false"])?;
        await_state(engine, "waits", "{{.RestartCount}}", "3")?;
        engine.cleat().kill()?;
        engine.cleat().start()?;
        await_state(engine, "waits", COUNT, "4 exited 1")?;
        Ok(())
    });
}
