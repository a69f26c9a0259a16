//! What containers' writable layers take.
//!
//! Measuring walks every folder of a layer, so a figure is told for a while, with the time it is of:
//!
//! ```text
//! younger than its interval       told as it is
//! younger than OLD intervals      told as it is, and measured anew behind the answer
//! older, or never measured        measured before the answer
//! ```
//! Who asks regularly never waits for a walk, and while nobody asks nothing is walked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cleat_image::{Snapshotter, Usage};

use crate::engine::container::Container;
use crate::engine::model::Id;
use crate::engine::shared::Shared;
use crate::time::now_ns;

/// How long a figure is taken for today's: the kubelet asks as often.
const INTERVAL: Duration = Duration::from_secs(10);

/// A layer that takes long to walk is walked that much less often: one part of so many of one processor at most.
const REST: u32 = 10;

/// Intervals after which a figure is too old to be told.
const OLD: u32 = 6;

/// What is known of the writable layers.
#[derive(Default)]
pub(crate) struct Layers {
    known: Mutex<HashMap<Id, Measured>>,
    /// Whether a walk behind an answer is under way: one at a time.
    walking: AtomicBool,
}

/// A layer's figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Space taken.
    pub(crate) usage: Usage,
    /// When it was measured, nanoseconds since the Unix epoch.
    pub(crate) at_ns: i64,
    /// The same moment, for its age.
    at: Instant,
    /// How long it counts.
    interval: Duration,
}

/// How a figure is to be treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Age {
    Young,
    Due,
    Old,
}

impl Measured {
    fn new(usage: Usage, at: Instant, walk: Duration) -> Self {
        Self { usage, at_ns: now_ns(), at, interval: INTERVAL.max(walk.saturating_mul(REST)) }
    }

    fn age(&self, now: Instant) -> Age {
        match now.saturating_duration_since(self.at) {
            age if age < self.interval => Age::Young,
            age if age < self.interval.saturating_mul(OLD) => Age::Due,
            _ => Age::Old,
        }
    }
}

impl Layers {
    /// What `container` has written; none where its layer cannot be measured, which a removal may be the reason of.
    /// Blocks on a walk where nothing recent is known.
    pub(crate) fn of(&self, shared: &Shared, container: &Id) -> Option<Measured> {
        let known = self.known().get(container).copied();
        known
            .filter(|known| known.age(Instant::now()) != Age::Old)
            .or_else(|| self.measure(shared, container))
    }

    fn measure(&self, shared: &Shared, container: &Id) -> Option<Measured> {
        let begun = Instant::now();
        let measured = match shared.snapshots.usage(container.as_str()) {
            Ok(usage) => Some(Measured::new(usage, begun, begun.elapsed())),
            Err(error) => {
                tracing::debug!(%container, error = crate::engine::chain(&error), "its layer is not measured");
                None
            }
        };
        let mut known = self.known();
        match measured {
            Some(measured) => known.insert(container.clone(), measured),
            None => known.remove(container),
        };
        measured
    }

    /// Forgets the layers of containers that are gone, and tells which of the others are to be measured anew.
    fn due(&self, there: impl Fn(&Id) -> bool, now: Instant) -> Vec<Id> {
        let mut known = self.known();
        known.retain(|id, _| there(id));
        known.iter().filter(|(_, one)| one.age(now) == Age::Due).map(|(id, _)| id.clone()).collect()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Id, Measured>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Measures anew what is due of the layers of `asked`, behind the answer. The walk ends by itself: the executor waits for
/// it when the daemon ends.
pub(crate) fn refresh(shared: &Arc<Shared>, asked: &[Arc<Container>]) {
    if shared.layers.walking.load(Ordering::Relaxed) {
        return;
    }
    let view = shared.board.view();
    let mut due = shared.layers.due(|id| view.containers.contains_key(id), Instant::now());
    due.retain(|id| asked.iter().any(|container| container.id == *id));
    if due.is_empty() || shared.layers.walking.swap(true, Ordering::Relaxed) {
        return;
    }
    let walk = Walk(shared.clone());
    drop(tokio::task::spawn_blocking(move || {
        for id in &due {
            walk.0.layers.measure(&walk.0, id);
        }
    }));
}

/// A walk under way.
struct Walk(Arc<Shared>);

impl Drop for Walk {
    fn drop(&mut self) {
        self.0.layers.walking.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(walk: Duration) -> Measured {
        Measured::new(Usage::default(), Instant::now(), walk)
    }

    #[test]
    fn a_figure_is_told_for_a_while_and_longer_where_the_walk_takes_long() {
        let second = Duration::from_secs(1);
        for (walk, after, age) in [
            (Duration::ZERO, 9 * second, Age::Young),
            (Duration::ZERO, 10 * second, Age::Due),
            (Duration::ZERO, 59 * second, Age::Due),
            (Duration::ZERO, 60 * second, Age::Old),
            (3 * second, 29 * second, Age::Young),
            (3 * second, 30 * second, Age::Due),
            (3 * second, 180 * second, Age::Old),
        ] {
            let one = measured(walk);
            assert_eq!(one.age(one.at + after), age, "{after:?} after a walk of {walk:?}");
        }
    }

    #[test]
    fn what_is_gone_is_forgotten_and_what_is_due_is_named() {
        let (layers, young, due, gone) = (Layers::default(), id(), id(), id());
        let now = Instant::now() + Duration::from_secs(10);
        for (id, at) in [(&young, now), (&due, now - Duration::from_secs(10)), (&gone, now)] {
            layers.known().insert(id.clone(), Measured { at, ..measured(Duration::ZERO) });
        }
        assert_eq!(layers.due(|id| *id != gone, now), std::slice::from_ref(&due));
        assert_eq!(layers.known().len(), 2);
    }

    fn id() -> Id {
        Id::random().unwrap()
    }
}
