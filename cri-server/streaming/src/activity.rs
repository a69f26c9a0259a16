//! When bytes last moved on a connection, either way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// The clock of one connection.
pub(crate) struct Activity {
    begun: Instant,
    last_ms: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { begun: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Activity {
    /// Something has moved.
    pub(crate) fn note(&self) {
        self.last_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Waits until nothing has moved for as long as `limit`; for ever without one.
    pub(crate) async fn idle(&self, limit: Option<Duration>) {
        let Some(limit) = limit else { return std::future::pending().await };
        loop {
            let quiet =
                Duration::from_millis(self.now_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)));
            let Some(left) = limit.checked_sub(quiet).filter(|left| !left.is_zero()) else { return };
            sleep(left).await;
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_not_idle() {
        let (activity, limit) = (Activity::default(), Duration::from_secs(10));
        let begun = Instant::now();
        let moving = async {
            sleep(Duration::from_secs(7)).await;
            activity.note();
        };
        tokio::join!(activity.idle(Some(limit)), moving);
        assert_eq!(begun.elapsed().as_secs(), 17);
    }
}
