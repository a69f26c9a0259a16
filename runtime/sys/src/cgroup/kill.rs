//! Killing everything in a cgroup.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, Timespec};

use super::handle::{is_gone, read_if_present, write_value};
use super::{Cgroup, CgroupError};

/// Rounds of freezing and killing: each round kills all there is once frozen, so that a second is needed only when a
/// task could not be frozen in time (uninterruptible sleep).
const KILL_ROUNDS: u32 = 20;
/// How long one round waits for the freezer to report that all tasks stand still.
const FREEZE_PATIENCE: Duration = Duration::from_millis(50);
/// How long to wait between looks at a v1 hierarchy, which reports nothing by itself.
const V1_INTERVAL: Duration = Duration::from_millis(1);

impl Cgroup {
    /// Sends SIGKILL to every process in this cgroup and beneath it, so that none escapes by forking: by `cgroup.kill`
    /// (Linux 5.14), else by freezing first. A cgroup that is gone has nothing to kill.
    pub fn kill(&self) -> Result<(), CgroupError> {
        if let Some(dir) = self.v2_dir() {
            match write_value(dir.join("cgroup.kill"), "1") {
                Ok(()) => return Ok(()),
                Err(CgroupError::Write { source, .. }) if is_gone(&source) => {}
                Err(error) => return Err(error),
            }
        }
        match self.layout.v1_root("freezer") {
            Some(root) => kill_frozen(self, &root.join(&self.path)),
            None => self.processes()?.into_iter().try_for_each(|pid| kill_process(self, pid)),
        }
    }

    /// Waits until no process is left in it; false when `timeout` passed before.
    pub fn wait_empty(&self, timeout: Duration) -> Result<bool, CgroupError> {
        let deadline = Instant::now() + timeout;
        match self.v2_dir().map(|dir| dir.join("cgroup.events")) {
            Some(events) if events.exists() => wait_unpopulated(&events, deadline),
            _ => self.wait_empty_v1(deadline),
        }
    }

    fn wait_empty_v1(&self, deadline: Instant) -> Result<bool, CgroupError> {
        loop {
            if self.processes()?.is_empty() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(V1_INTERVAL);
        }
    }
}

/// How long to trust the notification alone, at first and at most. The kernel holds back one that comes within 10 ms of
/// the last (`CGROUP_FILE_NOTIFY_MIN_INTV`), and forgets it when the cgroup is removed meanwhile: whoever waits for it
/// is never woken. So the file is looked at again, soon at first, since a process that was just reaped leaves its cgroup
/// some microseconds later, then after a little more than what a notification is held back for.
const FIRST_RECHECK: Duration = Duration::from_micros(200);
const LAST_RECHECK: Duration = Duration::from_millis(12);

/// Waits by the change notification of `cgroup.events` (cgroup-v2.rst, "populated").
fn wait_unpopulated(events: &Path, deadline: Instant) -> Result<bool, CgroupError> {
    let failed = |source: io::Error| CgroupError::Read { path: events.into(), source };
    let file = match rustix::fs::open(events, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        // NODEV: it is being removed at this moment.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV) => return Ok(true),
        other => other.map_err(|errno| failed(errno.into()))?,
    };
    let mut text = [0; 128];
    let mut recheck = FIRST_RECHECK;
    loop {
        let length = match rustix::io::pread(&file, &mut text, 0) {
            Err(rustix::io::Errno::NODEV) => return Ok(true),
            other => other.map_err(|errno| failed(errno.into()))?,
        };
        if !text[..length].windows(11).any(|window| window == b"populated 1") {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout =
            Timespec::try_from(left.min(recheck)).map_err(|error| failed(io::Error::other(error)))?;
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        recheck = LAST_RECHECK.min(recheck * 2);
    }
}

fn kill_frozen(cgroup: &Cgroup, dir: &Path) -> Result<(), CgroupError> {
    for _ in 0..KILL_ROUNDS {
        let Some(complete) = freeze(dir)? else { return Ok(()) };
        let killed = cgroup.processes().and_then(|pids| {
            pids.iter().try_for_each(|pid| kill_process(cgroup, *pid))?;
            Ok(pids.is_empty())
        });
        write_value(dir.join("freezer.state"), "THAWED")?;
        if killed? || complete {
            return Ok(());
        }
    }
    Err(CgroupError::Survivors(dir.into()))
}

/// Freezes the cgroup at `dir`: whether all of it stands still; none when the cgroup is gone.
fn freeze(dir: &Path) -> Result<Option<bool>, CgroupError> {
    let state = dir.join("freezer.state");
    match write_value(state.clone(), "FROZEN") {
        Ok(()) => {}
        Err(CgroupError::Write { source, .. }) if is_gone(&source) => return Ok(None),
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + FREEZE_PATIENCE;
    loop {
        match read_if_present(state.clone())? {
            None => return Ok(None),
            Some(text) if text.trim() == "FROZEN" => return Ok(Some(true)),
            Some(_) if Instant::now() >= deadline => return Ok(Some(false)),
            Some(_) => std::thread::sleep(V1_INTERVAL),
        }
    }
}

fn kill_process(cgroup: &Cgroup, pid: i32) -> Result<(), CgroupError> {
    let Some(target) = rustix::process::Pid::from_raw(pid) else { return Ok(()) };
    match rustix::process::kill_process(target, rustix::process::Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => Err(CgroupError::Kill { path: cgroup.path.clone(), pid, source: errno.into() }),
    }
}
