//! Removing a cgroup from every hierarchy.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::handle::{children, is_gone, write_value};
use super::{Cgroup, CgroupError};

/// Waits after `EBUSY`: a process that was just reaped leaves its cgroups a moment later, which no event reports on v1.
/// They double from the first to about two seconds in all.
const BUSY_FIRST_WAIT: Duration = Duration::from_micros(200);
const BUSY_RETRIES: u32 = 13;
/// Rounds of moving processes out: what forks while it is moved leaves children for the next one.
const MOVE_ROUNDS: u32 = 10;

impl Cgroup {
    /// Removes the cgroup and everything beneath it from every hierarchy; absent is fine. It has to have no processes.
    /// Every hierarchy is tried; the first failure is told.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut outcome = Ok(());
        for root in self.layout.roots() {
            outcome = outcome.and(remove_tree(&root.join(&self.path)));
        }
        outcome
    }

    /// Removes what [`Cgroup::create_for_kill`] made; absent is fine. Processes that are left in it or beneath it are
    /// moved to its parent.
    pub fn dissolve_for_kill(&self) -> Result<(), CgroupError> {
        let root = self.layout.unified().or_else(|| self.layout.v1_root("freezer"));
        let Some(dir) = root.map(|root| root.join(&self.path)) else { return Ok(()) };
        match fs::remove_dir(&dir) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            // Not empty: the usual case has cost one system call.
            Err(_) => {}
        }
        let parent = dir.parent().unwrap_or(&dir).join("cgroup.procs");
        for _ in 0..MOVE_ROUNDS {
            let left = self.processes()?;
            if left.is_empty() {
                break;
            }
            left.iter().try_for_each(|pid| move_process(&parent, *pid))?;
        }
        remove_tree(&dir)
    }
}

/// Writes a process into another cgroup. One that has ended meanwhile needs no place.
pub(super) fn move_process(procs: &Path, pid: i32) -> Result<(), CgroupError> {
    match write_value(procs.to_path_buf(), &pid.to_string()) {
        Err(CgroupError::Write { source, .. }) if source.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

fn remove_tree(dir: &Path) -> Result<(), CgroupError> {
    let mut wait = BUSY_FIRST_WAIT;
    for attempt in 0..=BUSY_RETRIES {
        match fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && attempt < BUSY_RETRIES => {
                children(dir)?.iter().try_for_each(|child| remove_tree(child))?;
                if attempt > 0 {
                    std::thread::sleep(wait);
                    wait *= 2;
                }
            }
            Err(source) => return Err(failed(dir, source)),
        }
    }
    Err(failed(dir, io::Error::from_raw_os_error(libc::EBUSY)))
}

fn failed(dir: &Path, source: io::Error) -> CgroupError {
    CgroupError::Remove { path: dir.into(), source }
}
