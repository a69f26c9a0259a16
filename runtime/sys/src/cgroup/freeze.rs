//! Pausing everything in a cgroup.
//!
//! By `cgroup.freeze` of the cgroup2 hierarchy (Linux 5.2), on hybrid hosts too: what it stops can still be killed. The
//! v1 freezer, which holds its tasks against everything, serves where there is no cgroup2.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, Timespec};

use super::handle::{flat_value, read_if_present, write_value};
use super::{Cgroup, CgroupError};

/// How long to wait between looks at the v1 freezer, which reports nothing by itself.
const V1_INTERVAL: Duration = Duration::from_millis(1);

/// The file that pauses a cgroup, and what it takes.
enum Freezer {
    V2 { file: PathBuf, events: PathBuf },
    V1 { file: PathBuf },
}

impl Cgroup {
    /// Pauses every process in it and beneath it; false when they do not stand still after `timeout` (they will).
    pub fn pause(&self, timeout: Duration) -> Result<bool, CgroupError> {
        let deadline = Instant::now() + timeout;
        match self.freezer()? {
            Freezer::V2 { file, events } => {
                write_value(file, "1")?;
                wait_frozen(&events, deadline)
            }
            Freezer::V1 { file } => {
                write_value(file.clone(), "FROZEN")?;
                wait_frozen_v1(&file, deadline)
            }
        }
    }

    /// Lets paused processes go on.
    pub fn resume(&self) -> Result<(), CgroupError> {
        match self.freezer()? {
            Freezer::V2 { file, .. } => write_value(file, "0"),
            Freezer::V1 { file } => write_value(file, "THAWED"),
        }
    }

    /// Whether it is paused, or on its way there. False when the cgroup is gone.
    pub fn is_paused(&self) -> Result<bool, CgroupError> {
        let (file, mark) = match self.freezer()? {
            Freezer::V2 { file, .. } => (file, "1"),
            Freezer::V1 { file } => (file, "FR"),
        };
        // The freezer says FREEZING, then FROZEN.
        Ok(read_if_present(file)?.is_some_and(|state| state.starts_with(mark)))
    }

    fn freezer(&self) -> Result<Freezer, CgroupError> {
        match self.v2_dir().filter(|dir| dir.exists()) {
            Some(dir) => {
                Ok(Freezer::V2 { file: dir.join("cgroup.freeze"), events: dir.join("cgroup.events") })
            }
            None => Ok(Freezer::V1 { file: self.dir("freezer")?.join("freezer.state") }),
        }
    }
}

/// Waits by the change notification of `cgroup.events` (cgroup-v2.rst, "frozen").
fn wait_frozen(events: &Path, deadline: Instant) -> Result<bool, CgroupError> {
    let failed = |source: std::io::Error| CgroupError::Read { path: events.into(), source };
    let file = rustix::fs::open(events, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(errno.into()))?;
    let mut text = [0; 128];
    loop {
        let length = rustix::io::pread(&file, &mut text, 0).map_err(|errno| failed(errno.into()))?;
        if flat_value(&String::from_utf8_lossy(&text[..length]), "frozen") == Some(1) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(|error| failed(std::io::Error::other(error)))?;
        match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
}

fn wait_frozen_v1(state: &Path, deadline: Instant) -> Result<bool, CgroupError> {
    while read_if_present(state.into())?.is_some_and(|text| text.trim() != "FROZEN") {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(V1_INTERVAL);
    }
    Ok(true)
}
