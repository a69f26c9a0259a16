//! What a puller has done since it was made, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a puller has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullFigures {
    /// Pulls that brought an image.
    pub done: u64,
    /// Pulls that failed.
    pub failed: u64,
    /// Bytes of layers that came from registries, as they are sent; those of attempts that failed among them.
    pub received_bytes: u64,
}

/// The same, while it counts.
#[derive(Default)]
pub(super) struct Counting {
    done: AtomicU64,
    failed: AtomicU64,
    received_bytes: AtomicU64,
}

impl Counting {
    /// A pull has ended.
    pub(super) fn ended(&self, succeeded: bool) {
        let counter = if succeeded { &self.done } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// So many bytes have come.
    pub(super) fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub(super) fn now(&self) -> PullFigures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PullFigures {
            done: read(&self.done),
            failed: read(&self.failed),
            received_bytes: read(&self.received_bytes),
        }
    }
}
