//! Being told of OOM kills.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use rustix::fs::{Mode, OFlags};

use super::{Cgroup, CgroupError};

/// Becomes ready when the memory controller reports an event; [`Cgroup::oom_kills`] then tells whether it was a kill.
#[derive(Debug)]
pub struct OomWatch {
    event: OwnedFd,
    /// v1 only: `memory.oom_control`, which has to stay open.
    _control: Option<OwnedFd>,
    flags: PollFlags,
}

impl Cgroup {
    /// Starts watching for OOM kills: `memory.events` on v2, an eventfd on `memory.oom_control` on v1.
    pub fn watch_oom(&self) -> Result<OomWatch, CgroupError> {
        let v1 = self.layout.is_v1("memory");
        let path = self.dir("memory")?.join(if v1 { "memory.oom_control" } else { "memory.events" });
        let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| CgroupError::Read { path: path.clone(), source: errno.into() })?;
        if !v1 {
            let watch = OomWatch { event: file, _control: None, flags: PollFlags::PRI };
            watch.acknowledge();
            return Ok(watch);
        }
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| CgroupError::Read { path, source: errno.into() })?;
        let request = format!("{} {}", event.as_raw_fd(), file.as_raw_fd());
        self.write("memory", "cgroup.event_control", &request)?;
        Ok(OomWatch { event, _control: Some(file), flags: PollFlags::IN })
    }
}

impl OomWatch {
    /// What to poll for: `PRI` on v2, `IN` on v1.
    #[must_use]
    pub fn poll_flags(&self) -> PollFlags {
        self.flags
    }

    /// Takes note of what was reported, so that the next poll waits for more: how many reports there were. On v2 it is
    /// not known, and 1. A v1 hierarchy reports before it kills, and the removal of the cgroup counts as one.
    pub fn acknowledge(&self) -> u64 {
        let mut buffer = [0; 256];
        // A file in kernfs has to be read from its start; only the act counts. An eventfd cannot be read at an offset.
        if rustix::io::pread(&self.event, &mut buffer, 0).is_ok() {
            return 1;
        }
        let mut count = [0; 8];
        // EAGAIN: nothing was pending; ENODEV: the cgroup is gone, nothing comes any more.
        rustix::io::read(&self.event, &mut count).map_or(0, |_| u64::from_ne_bytes(count))
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
