//! crictl: containers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cleat_tests_cri::{Node, check, parse};

use crate::crictl_pods::{run_pod, start};

const SLEEPER: &str = "trap 'exit 0' TERM; echo up; while true; do sleep 3600 & wait $!; done";

#[test]
fn privileged_crictl_ps_inspect_stop_rm() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "life")?;
        let id = start(node, &crictl, &pod, "sleeper", SLEEPER)?;
        let ended = start(node, &crictl, &pod, "ended", "exit 3")?;
        node.await_end(&ended)?;
        let row = |table: &str, id: &str| {
            table.lines().find(|line| line.starts_with(&id[..13])).map(ToOwned::to_owned)
        };
        let running = crictl.run(&["ps"])?;
        let line = row(&running, &id).context("a row for the running container")?;
        assert!(line.contains("Running") && line.contains("sleeper") && line.contains(&pod[..13]), "{line}");
        assert_eq!(row(&running, &ended), None, "{running}");
        let all = crictl.run(&["ps", "-a"])?;
        assert!(row(&all, &ended).context("a row for the one that ended")?.contains("Exited"), "{all}");
        let told = crictl.json(&["inspect", &ended])?;
        let status = &told["status"];
        assert_eq!(
            (&status["state"], &status["exitCode"], &status["reason"]),
            (&"CONTAINER_EXITED".into(), &3.into(), &"Error".into())
        );
        let told = crictl.json(&["inspect", &id])?;
        assert_eq!(told["status"]["state"], "CONTAINER_RUNNING");
        assert_eq!(told["status"]["image"]["image"], cleat_tests_cri::BUSYBOX);
        assert_eq!(told["status"]["labels"]["app"], "sleeper");
        let info = &told["info"];
        assert_eq!(info["sandboxID"], *pod);
        assert!(info["pid"].as_u64().context("pid")? > 1);
        let environment = info["runtimeSpec"]["process"]["env"].as_array().context("environment")?;
        assert!(environment.contains(&"GIVEN=value".into()), "{environment:?}");
        assert_eq!(crictl.run(&["stop", "--timeout", "10", &id])?, id);
        assert_eq!(crictl.json(&["inspect", &id])?["status"]["exitCode"], 0);
        assert_eq!(crictl.run(&["rm", &id])?, id);
        assert_eq!(crictl.run(&["ps", "-a", "-q"])?, ended);
        Ok(())
    });
}

#[test]
fn privileged_crictl_exec() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "exec")?;
        let id = start(node, &crictl, &pod, "exec", SLEEPER)?;
        assert_eq!(crictl.run(&["exec", "-s", &id, "sh", "-c", "echo $GIVEN; hostname"])?, "value\nexec");
        let failed = crictl.output(&["exec", "-s", &id, "sh", "-c", "echo out; echo err >&2; exit 9"])?;
        // crictl shows no output of a command that failed.
        let errors = String::from_utf8_lossy(&failed.stderr);
        assert!(errors.contains("exited with 9") && errors.contains("err"), "{errors}");
        assert!(!failed.status.success());
        let late = crictl.failure(&["exec", "-s", "--timeout", "1", &id, "sleep", "100"])?;
        assert!(late.contains("DeadlineExceeded"), "{late}");
        Ok(())
    });
}

#[test]
fn privileged_crictl_logs() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "logs")?;
        let script = "seq 1 5; echo to-stderr >&2";
        let ended = start(node, &crictl, &pod, "ended", script)?;
        node.await_end(&ended)?;
        let output = crictl.output(&["logs", &ended])?;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "1\n2\n3\n4\n5\n");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "to-stderr\n");
        assert_eq!(crictl.run(&["logs", "--tail", "3", &ended])?, "4\n5");
        let times = crictl.run(&["logs", "--timestamps", "--tail", "2", &ended])?;
        assert!(times.starts_with("20") && times.ends_with(" 5"), "{times}");
        since(node, &crictl, &pod)?;
        follow(node, &crictl, &pod)
    });
}

/// `--since` leaves out what is older.
fn since(node: &Node, crictl: &cleat_test_support::Crictl<'_>, pod: &str) -> Result<()> {
    let id = start(node, crictl, pod, "since", "echo old; sleep 0.2; echo new")?;
    let path = node.await_end(&id)?.log_path;
    let lines = parse(&std::fs::read_to_string(path).context("read the log")?)?;
    let new = lines.last().context("a line")?;
    assert_eq!(crictl.run(&["logs", "--since", &new.time, &id])?, "new");
    assert_eq!(crictl.run(&["logs", "--since", "1h", &id])?, "old\nnew");
    Ok(())
}

/// `-f` shows lines as they come and ends with the container.
fn follow(node: &Node, crictl: &cleat_test_support::Crictl<'_>, pod: &str) -> Result<()> {
    let id = start(node, crictl, pod, "follow", "for n in 1 2 3 4 5 6; do echo line $n; sleep 0.3; done")?;
    let begun = Instant::now();
    let shown = crictl.run(&["logs", "-f", &id])?;
    assert_eq!(shown, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6");
    assert!(begun.elapsed() > Duration::from_secs(1), "it did not follow: {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(20), "it did not end: {:?}", begun.elapsed());
    Ok(())
}

#[test]
fn privileged_crictl_update() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "update")?;
        let id = start(node, &crictl, &pod, "update", SLEEPER)?;
        let limit =
            |told: &serde_json::Value| told["status"]["resources"]["linux"]["memoryLimitInBytes"].clone();
        assert_eq!(limit(&crictl.json(&["inspect", &id])?), "67108864");
        crictl.run(&[
            "update",
            "--memory",
            "134217728",
            "--cpu-quota",
            "70000",
            "--cpu-period",
            "100000",
            &id,
        ])?;
        let told = crictl.json(&["inspect", &id])?;
        assert_eq!(limit(&told), "134217728");
        assert_eq!(told["status"]["resources"]["linux"]["cpuQuota"], "70000");
        let folder = node.cgroup(&id, "memory")?;
        let file = ["memory.limit_in_bytes", "memory.max"].map(|name| folder.join(name));
        let file = file.iter().find(|file| file.exists()).context("a limit")?;
        assert_eq!(std::fs::read_to_string(file).context("read the limit")?.trim(), "134217728");
        Ok(())
    });
}
