//! The live handle of a container's init: signals, its end, and where its monitor is reached.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cleat_conmon_proto::{EXIT_RECORD_NAME, ExitRecord};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::Spec;
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tokio::sync::{OnceCell, watch};

use super::{Connection, MonitorError};

/// How long a monitor may take to end once the end of its container is known. It has nothing to do then but to end; one
/// that takes longer is stopped or starved, and no reason to hold up a removal.
const MONITOR_LIMIT: Duration = Duration::from_secs(2);

/// How long a monitor of an earlier daemon may take to end once its container was killed: it may have to wait for output
/// that a process outside the container holds (two seconds) before it writes down the end.
const ORPHAN_LIMIT: Duration = Duration::from_secs(5);

/// How a container's init ended, as far as the daemon can know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The monitor wrote it down.
    Recorded(ExitRecord),
    /// The monitor ended without a record: it was killed, or the host was restarted.
    Lost,
    /// The program has ended, and the monitor, which is there, does not tell how.
    Untold,
}

/// A container's init that the daemon believes to run.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    pidfd: OwnedFd,
    monitor: OwnedFd,
    state_dir: PathBuf,
    /// What its execs take over of its specification; filled by the first one.
    exec_template: OnceCell<Spec>,
    /// Told by the driver, after the commit that says so.
    ended: watch::Sender<bool>,
}

impl Process {
    /// Holds the process `pid`, a child of `monitor`, whose monitor's state folder is `state_dir`.
    ///
    /// The parent is checked after the descriptor is open: an id that was given to another process in between is
    /// noticed.
    pub(crate) fn hold(pid: i32, monitor: i32, state_dir: &Path) -> Result<Self, MonitorError> {
        let fail = |source| MonitorError::Hold { pid, source };
        let pidfd = cleat_sys::process::open_pidfd(pid).map_err(fail)?;
        let parent = parent_of(pid).map_err(fail)?;
        if parent != Some(monitor) {
            return Err(fail(io::Error::from(Errno::ESRCH)));
        }
        let monitor = cleat_sys::process::open_pidfd(monitor).map_err(fail)?;
        Ok(Self {
            pid,
            pidfd,
            monitor,
            state_dir: state_dir.to_owned(),
            exec_template: OnceCell::new(),
            ended: watch::Sender::new(false),
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// What its execs take over of its specification.
    pub(crate) fn exec_template(&self) -> &OnceCell<Spec> {
        &self.exec_template
    }

    /// Its monitor's state folder.
    pub(super) fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Waits until the process is dead, whether or not its monitor has taken note of it.
    #[allow(deprecated, reason = "its successor is unsafe for types that may close early; an OwnedFd cannot")]
    pub(super) async fn dead(&self) -> io::Result<()> {
        let pidfd = AsyncFd::with_interest(self.pidfd.try_clone()?, Interest::READABLE)?;
        pidfd.readable().await.map(drop)
    }

    /// A new connection to its monitor.
    pub(crate) async fn connect(&self) -> Result<Connection, MonitorError> {
        let fail = |source| MonitorError::Connect { path: self.state_dir.clone(), source };
        Connection::open(&self.state_dir).await.map_err(fail)
    }

    /// Sends `signal`; a process that has already ended is no error.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        match cleat_sys::process::send_signal(&self.pidfd, signal) {
            Err(error) if error.raw_os_error() == Some(Errno::ESRCH as i32) => Ok(()),
            result => result,
        }
    }

    /// Opens its root folder. One that has ended has none.
    pub(crate) fn open_root(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(format!("/proc/{}/root", self.pid), flags, rustix::fs::Mode::empty())?;
        // Checked afterwards: the id may have been given to another process before.
        cleat_sys::process::send_signal(&self.pidfd, 0)?;
        Ok(root)
    }

    /// Waits until the end is committed.
    pub(crate) async fn ended(&self) {
        if self.ended.subscribe().wait_for(|ended| *ended).await.is_err() {
            unreachable!("this process holds the sender");
        }
    }

    /// Waits at most `limit` until the end is committed; whether it is.
    pub(crate) async fn ended_within(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.ended()).await.is_ok()
    }

    /// Whether the end is committed.
    pub(crate) fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until the monitor's process is gone too: it ends by itself after the container. Blocks; `false` when it
    /// takes longer than [`MONITOR_LIMIT`].
    pub(crate) fn wait_for_monitor(&self) -> io::Result<bool> {
        let limit = PollTimeout::try_from(MONITOR_LIMIT).map_err(io::Error::other)?;
        let mut events = [PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut events, limit) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Wakes everybody who waits for the end: it is committed.
    pub(crate) fn announce_end(&self) {
        self.ended.send_replace(true);
    }
}

/// What the exit record in `state_dir` says.
pub(crate) fn recorded_end(state_dir: &Path) -> End {
    let record =
        fs::read(state_dir.join(EXIT_RECORD_NAME)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    record.map_or(End::Lost, End::Recorded)
}

/// As [`Process::wait_for_monitor`], for a monitor that this daemon has no handle of: one of a launch that failed, or of
/// an earlier daemon. At most one lives in `state_dir`.
pub(crate) fn wait_for_monitor(state_dir: &Path) -> io::Result<bool> {
    super::lock::wait_until_free(state_dir, ORPHAN_LIMIT)
}

/// The monitor of process `pid`, if that is its child and is the one that lives in `state_dir`: told by the file that it
/// complains into, since it may be one that answers nobody.
pub(crate) fn monitor_of(pid: i32, state_dir: &Path) -> io::Result<Option<i32>> {
    let Some(parent) = parent_of(pid)? else { return Ok(None) };
    let is_same =
        |one: &fs::Metadata, other: &fs::Metadata| (one.dev(), one.ino()) == (other.dev(), other.ino());
    let complaints = fs::metadata(super::lock::complaints(state_dir))?;
    let of_parent = fs::metadata(format!("/proc/{parent}/fd/2"))?;
    Ok(is_same(&complaints, &of_parent).then_some(parent))
}

/// Reaps `child` when it ends. Each child is waited for by its own descriptor: a `waitpid` for any child would take
/// exit codes away from whoever started the others.
pub(super) fn reap(mut child: Child) {
    tokio::spawn(async move {
        if let Err(error) = child.wait().await {
            tracing::warn!(%error, "could not reap a monitor");
        }
    });
}

/// The parent of a process by the fourth field of `/proc/<pid>/stat`; the second, its name, may hold anything.
fn parent_of(pid: i32) -> io::Result<Option<i32>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    Ok(stat
        .rsplit_once(')')
        .and_then(|(_, rest)| rest.split_whitespace().nth(1))
        .and_then(|field| field.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_of_this_process_is_found() {
        let own = std::process::id().cast_signed();
        assert_eq!(parent_of(own).unwrap(), Some(std::os::unix::process::parent_id().cast_signed()));
    }

    #[test]
    fn no_record_means_a_lost_end() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(recorded_end(folder.path()), End::Lost);
    }
}
