//! Whether a container is well, by what its probes said: pure functions.
//!
//! Docker's rules. A container is "starting" until its first good probe or until enough bad ones in a row; after that each
//! good probe makes it healthy, and enough bad ones unhealthy. Nobody knows how one is that is not probed, since it is
//! paused or has ended: it counts as unhealthy.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::model::{HealthCheck, Id};

/// How many results are kept, as in dockerd.
const KEPT: usize = 5;

/// What is known of a container's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// How it is.
    pub status: HealthStatus,
    /// Probes that failed since the last good one.
    pub failing_streak: u32,
    /// The last results, the oldest first; those of an earlier run of the container are kept.
    pub log: VecDeque<ProbeResult>,
    /// The probe under way. Not on record: it ends with the daemon that began it.
    #[serde(skip)]
    pub probe: Option<Id>,
}

/// How a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum HealthStatus {
    /// No probe has decided.
    Starting,
    /// The last probe was good, or too few failed since.
    Healthy,
    /// Too many failed in a row, or it is not probed.
    Unhealthy,
}

/// What a probe said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbeResult {
    /// The probe's id.
    pub id: Id,
    /// When it began, nanoseconds since the Unix epoch.
    pub started_at_ns: i64,
    /// When it was over, nanoseconds since the Unix epoch.
    pub ended_at_ns: i64,
    /// How it ended.
    pub end: ProbeEnd,
    /// What it printed to both its streams, as far as it is kept.
    pub output: String,
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProbeEnd {
    /// By itself: exit code, or 128 plus the signal's number.
    Exited(i32),
    /// It was killed after this time.
    TooLong(Duration),
    /// It could not be run, or its end was not seen: why.
    Failed(String),
}

impl Health {
    /// Of a container that has been started, or that a daemon has found running.
    pub(crate) fn begin(before: Option<Self>) -> Self {
        let log = before.map(|before| before.log).unwrap_or_default();
        Self { status: HealthStatus::Starting, failing_streak: 0, log, probe: None }
    }

    /// It is not probed from now on.
    pub(crate) fn halt(&mut self) {
        (self.status, self.probe) = (HealthStatus::Unhealthy, None);
    }

    /// Takes note of what the probe under way said in a run of the container that began at `run_started_at_ns`.
    pub(crate) fn note(&mut self, check: &HealthCheck, run_started_at_ns: i64, result: ProbeResult) {
        let is_early = self.status == HealthStatus::Starting
            && age(run_started_at_ns, result.started_at_ns) < check.start_period;
        if result.end == ProbeEnd::Exited(0) {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if !is_early {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.log.len() >= KEPT {
            self.log.pop_front();
        }
        self.log.push_back(result);
        self.probe = None;
    }

    /// How long until the next probe, from `now_ns` on.
    pub(crate) fn delay(&self, check: &HealthCheck, run_started_at_ns: i64, now_ns: i64) -> Duration {
        let is_early =
            self.status == HealthStatus::Starting && age(run_started_at_ns, now_ns) < check.start_period;
        if is_early { check.start_interval } else { check.interval }
    }
}

/// From one moment to another; nothing where a clock was set back.
fn age(from_ns: i64, to_ns: i64) -> Duration {
    Duration::from_nanos(u64::try_from(to_ns.saturating_sub(from_ns)).unwrap_or_default())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const SECOND_NS: i64 = 1_000_000_000;

    /// A check that allows two failures, and any in the first ten seconds.
    fn check() -> HealthCheck {
        HealthCheck {
            command: vec!["true".to_owned()],
            interval: 30 * SECOND,
            timeout: SECOND,
            start_period: 10 * SECOND,
            start_interval: SECOND,
            retries: 2,
        }
    }

    /// A result of a probe that began so many seconds after the epoch.
    pub(crate) fn result(end: ProbeEnd, at_seconds: i64) -> ProbeResult {
        let at_ns = at_seconds * SECOND_NS;
        let (id, output) = (Id::random().unwrap(), String::new());
        ProbeResult { id, started_at_ns: at_ns, ended_at_ns: at_ns, end, output }
    }

    #[test]
    fn probes_decide() {
        use HealthStatus::{Healthy, Starting, Unhealthy};
        let (good, bad) = (ProbeEnd::Exited(0), ProbeEnd::Exited(1));
        let (long, failed) = (ProbeEnd::TooLong(SECOND), ProbeEnd::Failed("x".to_owned()));
        let mut health = Health::begin(None);
        // When a probe began, how it ended; what the container is after it.
        for (at, end, status, streak) in [
            (9, bad.clone(), Starting, 0),
            (10, bad.clone(), Starting, 1),
            (11, bad.clone(), Unhealthy, 2),
            (12, long.clone(), Unhealthy, 3),
            (13, good.clone(), Healthy, 0),
            (14, failed, Healthy, 1),
            (15, good, Healthy, 0),
            (16, bad, Healthy, 1),
            (17, long, Unhealthy, 2),
        ] {
            health.note(&check(), 0, result(end.clone(), at));
            assert_eq!((health.status, health.failing_streak), (status, streak), "{at} {end:?}");
        }
        assert_eq!(health.log.len(), KEPT);
        assert_eq!(health.log.front().map(|first| first.started_at_ns), Some(13 * SECOND_NS));
    }

    #[test]
    fn a_good_probe_ends_the_start_period() {
        let mut health = Health::begin(None);
        let delay = |health: &Health, at: i64| health.delay(&check(), 0, at * SECOND_NS);
        assert_eq!((delay(&health, 9), delay(&health, 10)), (SECOND, 30 * SECOND));
        health.note(&check(), 0, result(ProbeEnd::Exited(0), 1));
        assert_eq!(delay(&health, 2), 30 * SECOND);
        health.note(&check(), 0, result(ProbeEnd::Exited(1), 3));
        assert_eq!(health.failing_streak, 1);
    }

    #[test]
    fn another_run_begins_anew_and_keeps_what_was_said() {
        let mut health = Health::begin(None);
        health.note(&check(), 0, result(ProbeEnd::Exited(0), 1));
        health.probe = Some(Id::random().unwrap());
        health.halt();
        assert_eq!((health.status, &health.probe), (HealthStatus::Unhealthy, &None));
        let again = Health::begin(Some(health));
        assert_eq!((again.status, again.log.len()), (HealthStatus::Starting, 1));
    }
}
