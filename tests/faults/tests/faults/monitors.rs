//! A monitor, or the pause process, killed.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Ended, kill_and_wait, wait_limited};
use cleat_tests_cri::{Node, Pod, check, configs};
use cleat_tests_faults::Witness;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
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
struct Stopped {
    pid: Pid,
    is_taken_over: bool,
}

impl Stopped {
    fn new(pid: u32) -> Result<Self> {
        set_child_subreaper(Some(getpid())).context("take over a daemon's children")?;
        let mut stopped = Self::orphan(pid)?;
        stopped.is_taken_over = true;
        Ok(stopped)
    }

    /// One whose daemon has died before, or will not.
    fn orphan(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(pid, Signal::STOP).context("stop a monitor")?;
        Ok(Self { pid, is_taken_over: false })
    }

    /// Lets it go on.
    fn goes_on(self) {}

    /// Lets it go on, to its end.
    fn ends(&self) -> Result<()> {
        kill_process(self.pid, Signal::CONT).context("let a monitor go on")?;
        let ended = wait_limited(self.pid.as_raw_nonzero().get().cast_unsigned(), END_LIMIT)?;
        ensure!(ended == Ended::Yes, "monitor {:?} should end by itself", self.pid);
        if !self.is_taken_over {
            return Ok(());
        }
        waitpid(Some(self.pid), WaitOptions::NOHANG).context("reap a monitor").map(drop)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // ESRCH: it has ended, as it should.
        let continued = kill_process(self.pid, Signal::CONT).or_else(|errno| match errno {
            Errno::SRCH => Ok(()),
            errno => Err(errno),
        });
        let left = || if self.is_taken_over { set_child_subreaper(None) } else { Ok(()) };
        if let Err(errno) = continued.and_then(|()| left()) {
            eprintln!("let monitor {:?} go on: {errno}", self.pid);
        }
    }
}

/// Connects to the monitor in `folder` until it takes no more: what becomes of one that accepts nobody, in time.
fn crowd(folder: &Path) -> Result<()> {
    let is_socket = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_socket());
    let mut entries = fs::read_dir(folder)?.filter_map(Result::ok).filter(is_socket);
    let name = entries.next().context("a monitor's socket")?.file_name();
    // A socket's address has room for 107 bytes.
    let folder = File::open(folder)?;
    let short = format!("/proc/self/fd/{}/{}", folder.as_raw_fd(), name.to_string_lossy());
    let address = SocketAddrUnix::new(short)?;
    // More than net.core.somaxconn lets wait anywhere.
    for _ in 0..1_000_000 {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(errno) => return Err(errno).context("connect to a monitor"),
        }
    }
    anyhow::bail!("the monitor's queue has no end")
}

/// A monitor that lives and does not answer is none that is gone: what it watches runs on, whichever daemon comes.
#[test]
fn privileged_a_container_whose_monitor_does_not_answer_runs_on_and_can_be_stopped() {
    check(Node::builder(), |node| {
        let witness = Witness::new(node)?;
        let pod = node.run_pod(configs::pod("silent"))?;
        let mut config = configs::sleeper("silent");
        // Else the pause process would stay as long as the init that is not reaped.
        configs::namespaces(&mut config).pid = NamespaceMode::Container.into();
        let id = node.start(&pod, &config)?;
        node.await_log(&id, " up")?;
        let init = node.init_pid(&id)?;
        let state = node.cleat().state().join("containers").join(&id);
        node.cleat_mut().kill()?;
        let monitor = Stopped::orphan(parent_of(init)?)?;
        crowd(&state)?;
        node.start_again()?;
        let status = node.cri().container(&id)?;
        ensure!(status.state() == ContainerState::ContainerRunning, "it runs: {status:?}");
        ensure!(node.init_pid(&id)? == init && Path::new(&format!("/proc/{init}")).exists());
        // As soon as it answers, all is as it was.
        monitor.goes_on();
        node.until("the monitor answers", || Ok(node.cri().shell(&id, "echo here").ok()))?;
        // A stop needs no monitor.
        let monitor = Stopped::orphan(parent_of(init)?)?;
        node.cri().stop(&id, 1)?;
        let status = node.cri().container(&id)?;
        ensure!(status.state() == ContainerState::ContainerExited && status.exit_code != 0, "{status:?}");
        ensure!(wait_limited(init, END_LIMIT)? == Ended::Yes, "process {init} outlived its container");
        node.remove_pod(&pod.id)?;
        monitor.ends()?;
        witness.is_unharmed(node)?;
        witness.ends_well(node)
    });
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
