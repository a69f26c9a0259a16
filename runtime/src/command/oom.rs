//! Kills for want of memory, as `events` follows them.

use std::time::Instant;

use cleat_runtime::AwaitedKill;
use cleat_sys::cgroup::{Cgroup, OomWatch};

use super::CommandError;

/// The kills in a cgroup.
pub(super) struct Kills<'a> {
    cgroup: &'a Cgroup,
    watch: OomWatch,
    seen: u64,
    awaited: AwaitedKill,
}

impl<'a> Kills<'a> {
    /// Watches from here on.
    pub(super) fn watch(cgroup: &'a Cgroup) -> Result<Self, CommandError> {
        Ok(Self {
            cgroup,
            watch: cgroup.watch_oom()?,
            seen: cgroup.oom_kills()?,
            awaited: AwaitedKill::default(),
        })
    }

    /// What to poll.
    pub(super) fn descriptor(&self) -> &OomWatch {
        &self.watch
    }

    /// When to ask again without a report.
    pub(super) fn look_again(&self) -> Option<Instant> {
        self.awaited.look_at()
    }

    /// Whether there was a kill since this was last asked. `is_last`: init has ended, which a kill of it precedes.
    pub(super) fn happened(&mut self, is_reported: bool, is_last: bool) -> Result<bool, CommandError> {
        let reports = if is_reported { self.watch.acknowledge() } else { 0 };
        let now = match self.cgroup.oom_kills() {
            Err(error) if error.is_absence() => return Ok(is_last && self.was_unseen(reports)),
            other => other?,
        };
        let happened = now > self.seen;
        self.seen = now;
        if reports > 0 {
            self.awaited.reported(Instant::now());
        }
        self.awaited.looked(Instant::now(), happened);
        Ok(happened)
    }

    /// Whether the cgroup, which is gone with its counter, had reported something that no kill was seen for. On v1 its
    /// removal is a report, too.
    fn was_unseen(&self, reports: u64) -> bool {
        self.awaited.look_at().is_some() || reports > 1
    }
}
