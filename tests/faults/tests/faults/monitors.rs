//! A monitor, or the pause process, killed.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Ended, kill_and_wait, wait_limited};
use cleat_tests_cri::{Node, Pod, check, configs};
use cleat_tests_faults::Witness;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, waitpid};

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

/// A monitor that is stopped until this is dropped. The kernel would have it go on when its daemon dies, as it does with
/// every stopped process group without a parent in its session; so this process takes it over.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("pid")?;
        set_child_subreaper(Some(getpid())).context("take over a daemon's children")?;
        kill_process(pid, Signal::STOP).context("stop a monitor")?;
        Ok(Self(pid))
    }

    /// Lets it go on, to its end.
    fn ends(&self) -> Result<()> {
        kill_process(self.0, Signal::CONT).context("let a monitor go on")?;
        let ended = wait_limited(self.0.as_raw_nonzero().get().cast_unsigned(), END_LIMIT)?;
        ensure!(ended == Ended::Yes, "monitor {:?} should end by itself", self.0);
        waitpid(Some(self.0), WaitOptions::NOHANG).context("reap a monitor").map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // ESRCH: it has ended, as it should.
        let continued = kill_process(self.0, Signal::CONT).or_else(|errno| match errno {
            Errno::SRCH => Ok(()),
            errno => Err(errno),
        });
        if let Err(errno) = continued.and_then(|()| set_child_subreaper(None)) {
            eprintln!("let monitor {:?} go on: {errno}", self.0);
        }
    }
}

/// What was open is finished only when the monitors of the daemon before are gone too, or have had their time.
#[test]
fn privileged_a_start_waits_for_monitors_that_it_did_not_launch() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("slow"))?;
        let mut config = configs::sleeper("slow");
        // Else the pause process would stay as long as the init that is not reaped, and its monitor with it.
        configs::namespaces(&mut config).pid = NamespaceMode::Container.into();
        let id = node.start(&pod, &config)?;
        node.await_log(&id, " up")?;
        let init = node.init_pid(&id)?;
        let monitor = Stopped::new(parent_of(init)?)?;
        let cri = node.connect()?;
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| cri.remove_pod(&pod.id));
            ensure!(wait_limited(init, END_LIMIT)? == Ended::Yes, "the removal should kill process {init}");
            node.cleat_mut().kill()?;
            ensure!(caller.join().is_ok_and(|answer| answer.is_err()), "its monitor could not have told");
            node.start_again()
        })?;
        let log = fs::read_to_string(node.cleat().log_path()).context("read the daemon's log")?;
        let told = log.lines().any(|line| line.contains("lingers") && line.contains(&id));
        ensure!(told, "the start did not wait for the container's monitor");
        monitor.ends()?;
        ensure!(node.cri().pod_status(&pod.id).is_err(), "the removal was begun, and the pod is there");
        Ok(())
    });
}
