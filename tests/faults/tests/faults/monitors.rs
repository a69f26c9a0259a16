//! A monitor, or the pause process, killed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Ended, kill_and_wait, wait_limited};
use cleat_tests_cri::{Node, Pod, check, configs};
use cleat_tests_faults::Witness;

/// How long a process may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// The parent of a process: a container's init's is its monitor.
fn parent_of(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read a process's stat")?;
    let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)).context("stat")?;
    parent.parse().context("stat")
}

/// The pause process of a pod.
fn pause_of(node: &Node, pod: &Pod) -> Result<u32> {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.id.clone(), verbose: true };
    let info = node.cri().pod_sandbox_status(request)?.info;
    let info: serde_json::Value = serde_json::from_str(info.get("info").context("info")?).context("info")?;
    u32::try_from(info["pid"].as_u64().context("pid")?).context("pid")
}

/// The container is told as ended, its processes are gone, and it can be removed.
fn is_over(node: &Node, id: &str, init: u32) -> Result<()> {
    let status = node.await_end(id)?;
    ensure!(status.exit_code != 0, "nobody knows how it ended: {status:?}");
    ensure!(wait_limited(init, END_LIMIT)? == Ended::Yes, "process {init} outlived its container");
    node.cri().stop(id, 5)?;
    node.cri().remove(id).context("RemoveContainer")
}

#[test]
fn privileged_a_container_whose_monitor_is_killed_has_ended() {
    check(Node::builder(), |node| {
        let witness = Witness::new(node)?;
        let pod = node.run_pod(configs::pod("monitors"))?;
        for daemon_runs in [true, false] {
            let script = "setsid sleep 4000 & trap '' TERM; echo up; while true; do sleep 1; done";
            let id = node.start(&pod, &configs::script("victim", script))?;
            node.await_log(&id, " up")?;
            let init = node.init_pid(&id)?;
            if daemon_runs {
                kill_and_wait(parent_of(init)?, END_LIMIT)?;
            } else {
                node.cleat_mut().kill()?;
                kill_and_wait(parent_of(init)?, END_LIMIT)?;
                node.start_again()?;
            }
            is_over(node, &id, init).with_context(|| format!("the daemon ran: {daemon_runs}"))?;
            fs::remove_dir_all(node.folder().join("logs/monitors")).context("remove the log")?;
            fs::create_dir(node.folder().join("logs/monitors")).context("make the folder of logs")?;
        }
        witness.is_unharmed(node)?;
        witness.ends_well(node)
    });
}

#[test]
fn privileged_a_pod_whose_pause_process_or_monitor_is_killed_is_not_ready() {
    check(Node::builder(), |node| {
        for monitor in [false, true] {
            let pod = node.run_pod(configs::pod("paused"))?;
            node.start(&pod, &configs::sleeper("inside"))?;
            let pause = pause_of(node, &pod)?;
            kill_and_wait(if monitor { parent_of(pause)? } else { pause }, END_LIMIT)?;
            node.until("the pod is not ready", || {
                let state = node.cri().pod_status(&pod.id)?.state();
                Ok((state == PodSandboxState::SandboxNotready).then_some(()))
            })?;
            node.remove_pod(&pod.id)?;
            ensure!(wait_limited(pause, END_LIMIT)? == Ended::Yes, "the pause process outlived its pod");
            node.no_leaks()?;
        }
        Ok(())
    });
}
