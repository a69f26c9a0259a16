//! Health checks: what is told of them is compared with dockerd line by line (`commands.txt`); here is what only the engine's
//! own ends and pauses show.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// How long a container may take to be well, or not.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits until the container's health is `status`.
fn await_health(engine: &Engine, name: &str, status: &str) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    while engine.run(&["inspect", "-f", "{{.State.Health.Status}}", name])? != status {
        ensure!(Instant::now() < deadline, "{name} is not {status}");
    }
    Ok(())
}

#[test]
fn privileged_docker_probes_go_on_after_the_daemons_end() {
    check(|engine| {
        // Probed often until it is well, then not again for as long as the test takes.
        let often =
            ["--health-start-period", "1h", "--health-start-interval", "100ms", "--health-interval", "1h"];
        let run = ["run", "-d", "--name", "c1", "--health-cmd", "echo well"];
        engine.run(&[&run[..], &often, &[BUSYBOX, "sleep", "1000"]].concat())?;
        await_health(engine, "c1", "healthy")?;
        let log = |engine: &Engine| {
            engine.run(&["inspect", "-f", "{{range .State.Health.Log}}{{.Start}} {{.Output}}{{end}}", "c1"])
        };
        let before = log(engine)?;
        engine.cleat().kill()?;
        engine.cleat().start()?;
        await_health(engine, "c1", "healthy")?;
        let after = log(engine)?;
        ensure!(
            after.starts_with(&before) && after.lines().count() > before.lines().count(),
            "{before}\n{after}"
        );
        // What ended while no daemon ran is not probed by the next one.
        let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", "c1"])?;
        engine.cleat().kill()?;
        engine.cleat().world().shell(&format!("kill -9 {pid}"))?;
        engine.cleat().start()?;
        engine.run(&["wait", "c1"])?;
        ensure!(engine.run(&["inspect", "-f", "{{.State.Health.Status}}", "c1"])? == "unhealthy");
        Ok(())
    });
}

#[test]
fn privileged_docker_a_pause_ends_the_probe_under_way() {
    check(|engine| {
        let probe = "echo $$ >> /pids; exec sleep 999";
        let often = ["--health-interval", "100ms", "--health-timeout", "1h"];
        let run = ["run", "-d", "--name", "c1", "--health-cmd", probe];
        engine.run(&[&run[..], &often, &[BUSYBOX, "sleep", "1000"]].concat())?;
        let probes = |count: &str| format!("until test $(cat /pids | wc -l) = {count}; do sleep 0.1; done");
        engine.run(&["exec", "c1", "sh", "-c", &probes("1")])?;
        engine.run(&["pause", "c1"])?;
        let told =
            engine.run(&["inspect", "-f", "{{.State.Health.Status}} {{len .State.Health.Log}}", "c1"])?;
        ensure!(told == "unhealthy 0", "{told}");
        engine.run(&["unpause", "c1"])?;
        engine.run(&["exec", "c1", "sh", "-c", &probes("2")])?;
        engine.run(&["exec", "c1", "sh", "-c", "while kill -0 $(head -n 1 /pids); do sleep 0.1; done"])?;
        // The second one ends with the container, and no other begins.
        engine.run(&["stop", "-t", "0", "c1"])?;
        engine.run(&["start", "c1"])?;
        engine.run(&["exec", "c1", "sh", "-c", &probes("3")])?;
        Ok(())
    });
}
