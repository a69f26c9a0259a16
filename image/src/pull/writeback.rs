//! Having what is unpacked written to disk while more of it comes.
//!
//! An image is made durable by one syncfs before it is published. The kernel by itself begins to write after seconds, so
//! that this one call would wait for all of the image. Calls in between, on a thread nobody waits for, leave it little.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio_util::task::TaskTracker;

use crate::store::Store;

/// So many bytes of layers, as they are transferred, between two beginnings: less costs more commits of the file system's
/// journal than it gains.
const STEP_BYTES: u64 = 16 << 20;

/// Counts what all pulls receive.
#[derive(Default)]
pub(super) struct Writeback {
    received: AtomicU64,
    is_running: Arc<AtomicBool>,
}

impl Writeback {
    /// So many bytes more were received: whether it is time to write, and nobody else is at it.
    fn is_due(&self, bytes: u64) -> bool {
        let received = self.received.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if received < STEP_BYTES || self.is_running.swap(true, Ordering::AcqRel) {
            return false;
        }
        self.received.store(0, Ordering::Relaxed);
        true
    }

    /// So many bytes more of a layer were received.
    pub(super) fn received(&self, bytes: u64, store: &Store, tracker: &TaskTracker) {
        if !self.is_due(bytes) {
            return;
        }
        let (store, is_running) = (store.clone(), Arc::clone(&self.is_running));
        tracker.spawn_blocking(move || {
            // Nothing depends on it: the call before the publication tells of a disk that fails.
            if let Err(error) = store.write_out() {
                tracing::debug!(%error, "writing layers to disk while they come");
            }
            is_running.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writes_at_a_time_and_only_after_a_step() {
        let writeback = Writeback::default();
        assert!(!writeback.is_due(STEP_BYTES - 1));
        assert!(writeback.is_due(1));
        assert!(!writeback.is_due(2 * STEP_BYTES), "one is at it");
        writeback.is_running.store(false, Ordering::Release);
        assert!(writeback.is_due(0), "what came meanwhile counts");
        writeback.is_running.store(false, Ordering::Release);
        assert!(!writeback.is_due(STEP_BYTES - 1));
    }
}
