//! Single flight: many callers, one piece of work.
//!
//! The work runs in a task of its own, so no caller's departure can stop it half way. Work that is of no use to anybody
//! but its callers (a layer) may be given up once the last of them has gone; an image's is carried to its end.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// What callers see of a flight.
pub(super) struct State<P, R> {
    pub(super) progress: P,
    pub(super) outcome: Option<R>,
}

type Sender<P, R> = Arc<watch::Sender<State<P, R>>>;
type Running<K, P, R> = Arc<Mutex<HashMap<K, Sender<P, R>>>>;

/// The flights under way, by what they are for.
pub(super) struct Flights<K, P, R> {
    running: Running<K, P, R>,
    tracker: TaskTracker,
}

/// What happens to a flight that nobody waits for any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WhenAlone {
    /// It goes on.
    GoOn,
    /// It is given up.
    GiveUp,
}

/// One caller's view.
pub(super) struct Flight<P, R> {
    pub(super) state: watch::Receiver<State<P, R>>,
}

/// Where the work reports its progress.
pub(super) struct Reporter<P, R> {
    sender: Sender<P, R>,
}

impl<P, R> Reporter<P, R> {
    /// Change the progress and tell it to the callers.
    pub(super) fn report(&self, change: impl FnOnce(&mut P)) {
        self.sender.send_modify(|state| change(&mut state.progress));
    }
}

impl<P, R> Flight<P, R>
where
    R: Clone,
{
    /// Wait for the end; none if the work ended without a result.
    pub(super) async fn wait(mut self) -> Option<R> {
        let state = self.state.wait_for(|state| state.outcome.is_some()).await.ok()?;
        state.outcome.clone()
    }
}

impl<K, P, R> Flights<K, P, R>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    P: Default + Send + Sync + 'static,
    R: Send + Sync + 'static,
{
    /// None under way; tasks are counted by `tracker`.
    pub(super) fn new(tracker: TaskTracker) -> Self {
        Self { running: Arc::default(), tracker }
    }

    /// Join the flight for `key`, or start one with the work that `start` makes.
    pub(super) fn join<F>(
        &self,
        key: &K,
        when_alone: WhenAlone,
        start: impl FnOnce(Reporter<P, R>) -> F,
    ) -> Flight<P, R>
    where
        F: Future<Output = R> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = running.get(key) {
            return Flight { state: sender.subscribe() };
        }
        let (sender, state) = watch::channel(State { progress: P::default(), outcome: None });
        let sender = Arc::new(sender);
        running.insert(key.clone(), Arc::clone(&sender));
        let entry =
            Entry { running: Arc::clone(&self.running), key: key.clone(), sender: Arc::clone(&sender) };
        let work = start(Reporter { sender });
        self.tracker.spawn(async move {
            tokio::select! {
                outcome = work => entry.land(outcome),
                () = entry.alone(when_alone) => {}
            }
        });
        Flight { state }
    }
}

/// A flight's place among those under way. Leaves it when dropped, so that a panic in the work ends the callers' wait.
struct Entry<K: Eq + Hash, P, R> {
    running: Running<K, P, R>,
    key: K,
    sender: Sender<P, R>,
}

impl<K: Eq + Hash, P, R> Entry<K, P, R> {
    fn land(&self, outcome: R) {
        self.leave();
        self.sender.send_modify(|state| state.outcome = Some(outcome));
    }

    fn leave(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&self.key).is_some_and(|sender| Arc::ptr_eq(sender, &self.sender)) {
            running.remove(&self.key);
        }
    }

    /// Ends once nobody waits and nobody can join any more.
    async fn alone(&self, when_alone: WhenAlone) {
        if when_alone == WhenAlone::GoOn {
            return std::future::pending().await;
        }
        loop {
            self.sender.closed().await;
            let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            // Joining happens with the lock held: whoever came between keeps the flight going.
            if self.sender.receiver_count() == 0 {
                running.remove(&self.key);
                return;
            }
        }
    }
}

impl<K: Eq + Hash, P, R> Drop for Entry<K, P, R> {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    fn flights() -> Flights<u8, u8, u8> {
        Flights::new(TaskTracker::new())
    }

    #[tokio::test]
    async fn callers_share_one_piece_of_work() {
        let (flights, starts, (go, wait)) = (flights(), AtomicUsize::new(0), oneshot::channel::<()>());
        let mut wait = Some(wait);
        let joined: Vec<_> = (0..10)
            .map(|_| {
                flights.join(&1, WhenAlone::GoOn, |_| {
                    starts.fetch_add(1, Ordering::Relaxed);
                    let wait = wait.take().unwrap();
                    async { wait.await.map_or(0, |()| 7) }
                })
            })
            .collect();
        go.send(()).unwrap();
        for flight in joined {
            assert_eq!(flight.wait().await, Some(7));
        }
        assert_eq!(starts.load(Ordering::Relaxed), 1);
        assert_eq!(flights.join(&1, WhenAlone::GoOn, |_| async { 8 }).wait().await, Some(8));
    }

    #[tokio::test]
    async fn work_goes_on_or_is_given_up_when_alone() {
        let flights = flights();
        for (when_alone, expected) in [(WhenAlone::GoOn, true), (WhenAlone::GiveUp, false)] {
            let ((go, wait), (done, seen)) = (oneshot::channel::<()>(), oneshot::channel::<()>());
            let flight = flights.join(&2, when_alone, |_| async {
                let arrived = wait.await.is_ok();
                assert!(done.send(()).is_ok());
                u8::from(arrived)
            });
            drop(flight);
            if expected {
                go.send(()).unwrap();
            }
            // Given-up work is dropped, and its channel with it.
            assert_eq!(seen.await.is_ok(), expected);
        }
    }

    #[tokio::test]
    async fn a_panic_ends_the_wait() {
        let flights = flights();
        let flight = flights.join(&3, WhenAlone::GoOn, |_| async { panic!("on purpose") });
        assert_eq!(flight.wait().await, None);
        assert_eq!(flights.join(&3, WhenAlone::GoOn, |_| async { 1 }).wait().await, Some(1));
    }
}
