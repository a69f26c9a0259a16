//! The daemon's death and Docker's containers.

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_docker_containers_outlive_the_daemon_with_codes_and_logs() {
    check(|engine| {
        let script = "trap 'echo end; exit 3' TERM; echo begin; while :; do sleep 0.1; done";
        engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sh", "-c", script])?;
        engine.run(&["run", "-d", "--name", "short", BUSYBOX, "sh", "-c", "exit 9"])?;
        ensure!(engine.run(&["wait", "short"])? == "9");
        engine.run(&["run", "-d", "--rm", "--name", "gone", BUSYBOX, "sleep", "1000"])?;
        let pid = engine.run(&["inspect", "-f", "{{.State.Pid}}", "gone"])?;
        engine.cleat().kill()?;
        engine.cleat().world().shell(&format!("kill -9 {pid}"))?;
        engine.cleat().start()?;
        ensure!(engine.run(&["exec", "c1", "echo", "still"])? == "still");
        engine.run(&["stop", "c1"])?;
        ensure!(engine.run(&["wait", "c1"])? == "3");
        ensure!(engine.run(&["logs", "c1"])? == "begin\nend");
        ensure!(engine.run(&["inspect", "-f", "{{.State.ExitCode}}", "short"])? == "9");
        engine.run(&["start", "c1"])?;
        ensure!(engine.run(&["exec", "c1", "ls", "/sys/class/net"])? == "eth0\nlo");
        Ok(())
    });
}
