//! Clients that have not shown a token yet. Anybody on the node can be one, so they get little room.
//!
//! When there is none left, a new one takes the place of the one that has been there longest: whoever connects and says
//! nothing, or says it a byte at a time, keeps out nobody who knows what it came for.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Most of them at a time.
const STRANGERS: usize = 256;

/// Where they wait.
#[derive(Default)]
pub(crate) struct Doorstep(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order of their coming.
    strangers: BTreeMap<u64, CancellationToken>,
}

/// A place there, until it is dropped.
pub(crate) struct Stranger<'d> {
    doorstep: &'d Doorstep,
    number: u64,
    sent_away: CancellationToken,
}

impl Doorstep {
    /// Gives a place, somebody else's if need be.
    pub(crate) fn enter(&self) -> Stranger<'_> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.strangers.len() >= STRANGERS
            && let Some((_, longest)) = waiting.strangers.pop_first()
        {
            longest.cancel();
        }
        let (number, sent_away) = (waiting.next, CancellationToken::new());
        waiting.next += 1;
        waiting.strangers.insert(number, sent_away.clone());
        Stranger { doorstep: self, number, sent_away }
    }
}

impl Stranger<'_> {
    /// Waits until somebody else has the place.
    pub(crate) async fn sent_away(&self) {
        self.sent_away.cancelled().await;
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        let mut waiting = self.doorstep.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.strangers.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_there_longest_makes_room() {
        let doorstep = Doorstep::default();
        let mut strangers: Vec<_> = (0..STRANGERS).map(|_| doorstep.enter()).collect();
        drop(strangers.remove(0));
        strangers.push(doorstep.enter());
        let gone = |strangers: &[Stranger<'_>]| {
            strangers.iter().filter(|stranger| stranger.sent_away.is_cancelled()).count()
        };
        assert_eq!(gone(&strangers), 0, "there was room");
        strangers.push(doorstep.enter());
        assert!(strangers[0].sent_away.is_cancelled());
        assert_eq!(gone(&strangers), 1);
    }
}
