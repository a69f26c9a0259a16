//! What happens while no daemon runs is known when one does.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Ended, wait_limited};
use cleat_tests_cri::{Node, Pod, check, configs};
use cleat_tests_faults::Witness;

/// How long a container may take to end.
const END_LIMIT: Duration = Duration::from_secs(20);

/// A container that does `what` once the host says so; returns its id and process.
fn waiting(node: &Node, pod: &Pod, name: &str, what: &str) -> Result<(String, u32)> {
    let script = format!("echo up; while [ ! -e /signal/go ]; do sleep 0.02; done; {what}");
    let mut config = configs::script(name, &script);
    let folder = node.folder().join("signal");
    fs::create_dir_all(&folder).context("make a folder")?;
    config.mounts = vec![configs::mount(&folder, "/signal")];
    configs::resources(&mut config).memory_limit_in_bytes = 24 << 20;
    configs::resources(&mut config).memory_swap_limit_in_bytes = 24 << 20;
    let id = node.start(pod, &config)?;
    node.await_log(&id, " up")?;
    let pid = node.init_pid(&id)?;
    Ok((id, pid))
}

/// Gives the signal and waits until `pids` have ended.
fn signal(node: &Node, pids: &[u32]) -> Result<()> {
    fs::write(node.folder().join("signal/go"), "").context("signal")?;
    for pid in pids {
        ensure!(wait_limited(*pid, END_LIMIT)? == Ended::Yes, "process {pid} did not end");
    }
    Ok(())
}

#[test]
fn privileged_what_ends_without_a_daemon_keeps_its_code_reason_and_log() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("down"))?;
        let table = [
            ("code", "echo last words; exit 42", 42, "Error", " last words\n"),
            ("success", "seq 1 5000; echo the end", 0, "Completed", " the end\n"),
            ("memory", "exec tail /dev/zero", 137, "OOMKilled", ""),
        ];
        let started = table
            .iter()
            .map(|row| waiting(node, &pod, row.0, row.1))
            .collect::<Result<Vec<(String, u32)>>>()?;
        node.cleat_mut().kill()?;
        let pids: Vec<u32> = started.iter().map(|(_, pid)| *pid).collect();
        signal(node, &pids)?;
        node.start_again()?;
        for ((name, _, code, reason, words), (id, _)) in table.iter().zip(&started) {
            let status = node.await_end(id)?;
            assert_eq!((status.exit_code, &*status.reason), (*code, *reason), "{name}: {status:?}");
            assert!(status.finished_at > status.started_at && status.started_at > 0, "{name}: {status:?}");
            let log = fs::read_to_string(&status.log_path).context("log")?;
            assert!(log.ends_with(words), "{name}: {log}");
        }
        Ok(())
    });
}

#[test]
fn privileged_sigterm_ends_the_daemon_and_nothing_else() {
    check(Node::builder(), |node| {
        let witness = Witness::new(node)?;
        let status = node.cleat_mut().terminate()?;
        ensure!(status.success(), "cleatd ended with {status}");
        node.start_again()?;
        witness.is_unharmed(node)?;
        witness.ends_well(node)
    });
}

#[test]
fn privileged_after_a_power_cut_everything_has_ended_and_can_be_removed() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("cut"))?;
        let running = node.start(&pod, &configs::sleeper("running"))?;
        let created = node.create(&pod, &configs::sleeper("created"))?;
        let exited = node.run(&pod, &configs::script("exited", "exit 5"))?.status.id;
        node.cleat_mut().kill()?;
        // What a boot leaves: no process, no mount, no cgroup, nothing in the state folder.
        let scope = node.cleat().scope();
        scope.kill_processes(END_LIMIT)?;
        let state = node.cleat().state();
        node.cleat().world().shell(&format!(
            "awk '$5 ~ \"^{0}\" {{ print $5 }}' /proc/self/mountinfo | sort -r | xargs -r umount; rm -rf {0}",
            state.display()
        ))?;
        scope.remove_cgroups()?;
        node.start_again()?;
        let cri = node.cri();
        assert_eq!(cri.pod_status(&pod.id)?.state(), PodSandboxState::SandboxNotready);
        let status = cri.container(&running)?;
        assert_eq!(status.state(), ContainerState::ContainerExited, "{status:?}");
        assert!(status.exit_code != 0, "{status:?}");
        assert_eq!(cri.container(&exited)?.exit_code, 5);
        assert!(cri.container(&created)?.state() != ContainerState::ContainerRunning);
        node.remove_pod(&pod.id)?;
        let again = node.run_pod(configs::pod("cut"))?;
        let output = node.output(&again, &configs::script("works", "echo works"))?;
        assert_eq!(output, "works");
        Ok(())
    });
}
