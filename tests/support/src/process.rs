//! Processes: waiting for their end with a limit, and ending them.

use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::machine::patience;

/// Whether a process ended within the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It did.
    Yes,
    /// It still runs.
    No,
}

/// Waits until one of `fds` is readable, at most for `limit` on an ordinary machine; a pidfd is once its process has
/// ended.
pub(crate) fn poll_readable(fds: &[&OwnedFd], limit: Duration) -> Result<Vec<bool>> {
    let deadline = Instant::now() + patience(limit);
    loop {
        let mut polled: Vec<PollFd<'_>> =
            fds.iter().map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)).collect();
        let left =
            Timespec::try_from(deadline.saturating_duration_since(Instant::now())).context("poll limit")?;
        match poll(&mut polled, Some(&left)) {
            Ok(_) => return Ok(polled.iter().map(|fd| !fd.revents().is_empty()).collect()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

fn open(pid: u32) -> Result<Option<(Pid, OwnedFd)>> {
    let pid =
        i32::try_from(pid).ok().and_then(Pid::from_raw).with_context(|| format!("{pid} is no process id"))?;
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some((pid, fd))),
        Err(Errno::SRCH) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("pidfd_open {pid}")),
    }
}

/// A pidfd of the child `child`, which has not been waited for.
pub(crate) fn pidfd_of(child: &Child) -> Result<OwnedFd> {
    let (_, fd) = open(child.id())?.with_context(|| format!("process {} is gone", child.id()))?;
    Ok(fd)
}

/// Waits until process `pid` has ended, at most for `limit`.
///
/// # Errors
/// Fails when the kernel refuses to watch it.
pub fn wait_limited(pid: u32, limit: Duration) -> Result<Ended> {
    let Some((_, fd)) = open(pid)? else { return Ok(Ended::Yes) };
    let ended = poll_readable(&[&fd], limit)?;
    Ok(if ended.contains(&true) { Ended::Yes } else { Ended::No })
}

/// Kills process `pid` with SIGKILL and waits until it has ended, at most for `limit`.
///
/// # Errors
/// Fails when it cannot be killed or is still there after `limit`.
pub fn kill_and_wait(pid: u32, limit: Duration) -> Result<()> {
    let Some((raw, fd)) = open(pid)? else { return Ok(()) };
    match kill_process(raw, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error).with_context(|| format!("kill process {pid}")),
    }
    if !poll_readable(&[&fd], limit)?.contains(&true) {
        bail!("process {pid} survived SIGKILL for {} s", limit.as_secs());
    }
    Ok(())
}

/// Sends SIGTERM to process `pid`, which exists.
pub(crate) fn terminate(pid: u32) -> Result<()> {
    let Some((raw, _)) = open(pid)? else { bail!("process {pid} is gone") };
    kill_process(raw, Signal::TERM).with_context(|| format!("SIGTERM to process {pid}"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_is_waited_for_and_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(wait_limited(child.id(), Duration::from_millis(20)).unwrap(), Ended::No);
        kill_and_wait(child.id(), Duration::from_secs(5)).unwrap();
        assert_eq!(wait_limited(child.id(), Duration::from_secs(5)).unwrap(), Ended::Yes);
        assert!(!child.wait().unwrap().success());
        kill_and_wait(child.id(), Duration::from_secs(5)).unwrap();
    }
}
