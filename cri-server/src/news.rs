//! What has just happened, told to whoever follows it, and the last of it kept for who comes later.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::time::now_ns;

/// How many are kept for who asks for those of the past, as in dockerd.
pub(crate) const KEPT: usize = 256;

/// How many a reader may lag behind: a prune of a full store.
const BUFFER: usize = 1024;

/// Something that happened at a moment.
pub(crate) trait Timed {
    /// When, nanoseconds since the Unix epoch.
    fn at_ns(&self) -> i64;
}

/// What happens, in order.
pub(crate) struct News<T> {
    /// The last ones, the oldest first.
    past: Mutex<VecDeque<T>>,
    sender: broadcast::Sender<T>,
}

impl<T: Clone> Default for News<T> {
    fn default() -> Self {
        Self { past: Mutex::default(), sender: broadcast::Sender::new(BUFFER) }
    }
}

impl<T: Clone + Timed> News<T> {
    /// Tells of something that has just happened: what `at` makes of the moment.
    pub(crate) fn tell(&self, at: impl FnOnce(i64) -> T) {
        // The time is taken behind the lock: the order of the times is that of the news.
        let mut past = self.lock();
        let told = at(now_ns());
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(told.clone());
        if self.sender.send(told).is_err() {
            tracing::trace!("nobody reads what has happened");
        }
    }

    /// What is kept since `since_ns`, nothing if there is no such time, and everything from now on.
    pub(crate) fn follow(&self, since_ns: Option<i64>) -> (Vec<T>, broadcast::Receiver<T>) {
        let past = self.lock();
        let kept = past.iter().filter(|told| since_ns.is_some_and(|since| told.at_ns() >= since));
        (kept.cloned().collect(), self.sender.subscribe())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Timed for i64 {
        fn at_ns(&self) -> i64 {
            *self
        }
    }

    #[test]
    fn the_past_is_told_to_who_asks_and_has_an_end() {
        let news = News::<i64>::default();
        let kept = i64::try_from(KEPT).unwrap();
        for moment in 0..kept + 2 {
            news.tell(|_| moment);
        }
        let (past, mut coming) = news.follow(Some(0));
        assert_eq!((past.len(), past[0]), (KEPT, 2));
        assert_eq!(news.follow(Some(kept)).0, [kept, kept + 1]);
        assert!(news.follow(None).0.is_empty());
        news.tell(|_| 9);
        assert_eq!(coming.try_recv(), Ok(9));
        assert!(coming.try_recv().is_err());
    }
}
