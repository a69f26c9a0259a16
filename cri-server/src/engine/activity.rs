//! What the engine does and how long it takes, counted where it happens. Showing it is a door's business.

use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the histograms of durations, in seconds: from an exec to a stop that takes all of its grace.
pub(crate) const SECONDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Durations of things that differ in `L`.
pub(crate) type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// An empty one.
pub(crate) fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(|| Histogram::new(SECONDS))
}

/// The operations of all drivers.
pub(crate) struct Activity {
    ended: Durations<Ended>,
    under_way: Family<Which, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Which {
    operation: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Ended {
    operation: &'static str,
    outcome: &'static str,
}

/// An operation under way. What is dropped without an outcome (the daemon ends) is counted as none.
pub(super) struct Measured {
    operation: &'static str,
    since: Instant,
    ended: Durations<Ended>,
    under_way: Gauge,
}

impl Default for Activity {
    fn default() -> Self {
        Self { ended: durations(), under_way: Family::default() }
    }
}

impl Activity {
    /// Has `registry` show it.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "operation_duration",
            "Time an operation on a pod or container took, without waiting for others",
            Unit::Seconds,
            self.ended.clone(),
        );
        registry.register(
            "operations_under_way",
            "Operations on pods and containers that have begun and not ended",
            self.under_way.clone(),
        );
    }

    /// An operation begins.
    pub(super) fn begin(&self, operation: &'static str) -> Measured {
        let under_way = self.under_way.get_or_create_owned(&Which { operation });
        under_way.inc();
        Measured { operation, since: Instant::now(), ended: self.ended.clone(), under_way }
    }
}

impl Measured {
    /// It has ended.
    pub(super) fn end(&self, succeeded: bool) {
        let outcome = if succeeded { "success" } else { "failure" };
        let ended = Ended { operation: self.operation, outcome };
        self.ended.get_or_create(&ended).observe(self.since.elapsed().as_secs_f64());
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.under_way.dec();
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn an_operation_is_under_way_until_it_ends() {
        let activity = Activity::default();
        let mut registry = Registry::default();
        activity.register(&mut registry);
        let text = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        let measured = activity.begin("start");
        assert!(text().contains("operations_under_way{operation=\"start\"} 1"), "{}", text());
        measured.end(false);
        drop(measured);
        let after = text();
        assert!(after.contains("operations_under_way{operation=\"start\"} 0"), "{after}");
        let count = "operation_duration_seconds_count{operation=\"start\",outcome=\"failure\"} 1";
        assert!(after.contains(count), "{after}");
    }
}
