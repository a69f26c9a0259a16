//! OOM kills in the container's cgroup.

use std::time::Instant;

use cleat_runtime::{AwaitedKill, Target};
use cleat_sys::cgroup::OomWatch;
use rustix::event::PollFlags;

use crate::complaint::best_effort;
use crate::poller::{Interest, Poller, Source};

/// What is known of the kernel's OOM kills. A host without a memory controller has none to tell of.
#[derive(Default)]
pub(crate) struct OomKills {
    watch: Option<OomWatch>,
    seen: u64,
    /// v1 reports before it kills, and the process killed need not be a child whose end is told.
    awaited: AwaitedKill,
}

impl OomKills {
    /// Watches where the kernel offers it; where it does not, the counter is still read at each end of a child.
    pub(crate) fn watch(target: &Target, poller: &Poller) -> Self {
        let watch = target.cgroup().watch_oom().ok();
        if let Some(watch) = &watch {
            let interest = if is_counted_before(watch) { Interest::URGENT } else { Interest::READABLE };
            best_effort("watch OOM kills", poller.add(watch, Source::Oom, interest));
        }
        Self { watch, ..Self::default() }
    }

    /// Watches no more: the file of a cgroup that is gone would report without end.
    pub(crate) fn stop(&mut self, poller: &Poller) {
        if let Some(watch) = self.watch.take() {
            best_effort("stop watching OOM kills", poller.remove(&watch));
        }
        self.awaited = AwaitedKill::default();
    }

    /// Takes note of an event, so that the next one is waited for.
    pub(crate) fn acknowledge(&mut self) {
        let Some(watch) = &self.watch else { return };
        let reports = watch.acknowledge();
        if reports > 0 && !is_counted_before(watch) {
            self.awaited.reported(Instant::now());
        }
    }

    /// When to ask again though there is no event.
    pub(crate) fn look_at(&self) -> Option<Instant> {
        self.awaited.look_at()
    }

    /// Whether the kernel has killed since this was last asked.
    pub(crate) fn rose(&mut self, target: &Target) -> bool {
        let kills = target.cgroup().oom_kills().unwrap_or(self.seen);
        let rose = kills > self.seen;
        self.seen = self.seen.max(kills);
        self.awaited.looked(Instant::now(), rose);
        rose
    }

    /// Whether the kernel has killed at all.
    pub(crate) fn any(&self) -> bool {
        self.seen > 0
    }
}

/// Whether the kernel counts a kill before it reports it: cgroup v2's file does, which is polled for what is urgent.
fn is_counted_before(watch: &OomWatch) -> bool {
    watch.poll_flags().contains(PollFlags::PRI)
}
