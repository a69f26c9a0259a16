//! Kills for want of memory, as `events` follows them.
//!
//! cgroup v2 reports after it has counted a kill. v1 reports that memory is short, then chooses a process, then counts
//! and kills it, and says nothing more: what it reported is looked for again until it is seen or has had its time.

use std::time::{Duration, Instant};

use cleat_sys::cgroup::{Cgroup, OomWatch};

use super::CommandError;

/// How long the kernel may take from its report to the kill: it writes to its log in between, which a serial console
/// makes slow. Some reports are followed by none, because a process that is ending frees enough.
const KILL_PATIENCE: Duration = Duration::from_secs(5);
/// How often to look for it meanwhile.
const KILL_INTERVAL: Duration = Duration::from_millis(10);

/// The kills in a cgroup.
pub(super) struct Kills<'a> {
    cgroup: &'a Cgroup,
    watch: OomWatch,
    seen: u64,
    /// Until when a report without a kill is waited on.
    awaited_until: Option<Instant>,
}

impl<'a> Kills<'a> {
    /// Watches from here on.
    pub(super) fn watch(cgroup: &'a Cgroup) -> Result<Self, CommandError> {
        Ok(Self { cgroup, watch: cgroup.watch_oom()?, seen: cgroup.oom_kills()?, awaited_until: None })
    }

    /// What to poll.
    pub(super) fn descriptor(&self) -> &OomWatch {
        &self.watch
    }

    /// When to ask again without a report.
    pub(super) fn look_again(&self) -> Option<Instant> {
        self.awaited_until.map(|_| Instant::now() + KILL_INTERVAL)
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
        if happened {
            self.awaited_until = None;
        } else if reports > 0 {
            self.awaited_until = Some(Instant::now() + KILL_PATIENCE);
        } else if self.awaited_until.is_some_and(|until| Instant::now() >= until) {
            self.awaited_until = None;
        }
        Ok(happened)
    }

    /// Whether the cgroup, which is gone with its counter, had reported something that no kill was seen for. On v1 its
    /// removal is a report, too.
    fn was_unseen(&self, reports: u64) -> bool {
        self.awaited_until.is_some() || reports > 1
    }
}
