//! When a container without a pod is started again by itself: pure functions.
//!
//! Docker's rules. A container that its user has stopped stays down, but for one of the policy `always`, which comes up with
//! the daemon. Between an end and the next start lies a delay that doubles from start to start, and begins anew after a run
//! of some length.

use serde::{Deserialize, Serialize};

use super::container::{Exit, ExitReason};
use super::model::RestartPolicy;

/// The first delay.
const FIRST_DELAY_MS: u64 = 100;

/// The longest.
const LONGEST_DELAY_MS: u64 = 60_000;

/// A run of this length begins the delays anew.
const LONG_RUN_NS: i64 = 10_000_000_000;

const NS_PER_MS: i64 = 1_000_000;

/// What is noted of a container about its starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restarts {
    /// When it is to be started again.
    pub policy: RestartPolicy,
    /// What its user has done last.
    pub wanted: Wanted,
    /// How often it was started again since its user has started it.
    pub count: u32,
    /// The delay before the last of these starts, milliseconds.
    pub delay_ms: u64,
    /// When the next one is due, while it waits for it: nanoseconds since the Unix epoch.
    pub due_at_ns: Option<i64>,
}

/// Whether a container's user wants it to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wanted {
    /// It was stopped, or never started.
    #[default]
    Down,
    /// It was started.
    Up,
}

/// Notes what the user has done: the delays and the count begin anew, and no start is due.
pub(crate) fn want(restarts: &mut Restarts, wanted: Wanted) {
    *restarts = match wanted {
        Wanted::Up => Restarts { policy: restarts.policy, wanted, ..Restarts::default() },
        Wanted::Down => Restarts { wanted, due_at_ns: None, ..restarts.clone() },
    };
}

/// What is noted after this end, if it is to be started again.
pub(crate) fn after_end(restarts: &Restarts, exit: &Exit) -> Option<Restarts> {
    let up = restarts.wanted == Wanted::Up;
    (up && wants_another(restarts, exit)).then(|| next(restarts, exit, exit.finished_at_ns))
}

/// The same at the daemon's start. A start that was due then still is.
pub(crate) fn at_boot(restarts: &Restarts, exit: &Exit, now_ns: i64) -> Option<Restarts> {
    if restarts.due_at_ns.is_some() {
        return None;
    }
    let up = restarts.wanted == Wanted::Up || restarts.policy == RestartPolicy::Always;
    let again = up && wants_another(restarts, exit);
    again.then(|| Restarts { wanted: Wanted::Up, ..next(restarts, exit, now_ns) })
}

fn wants_another(restarts: &Restarts, exit: &Exit) -> bool {
    match restarts.policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { most } => exit.code != 0 && (most == 0 || restarts.count < most),
    }
}

fn next(restarts: &Restarts, exit: &Exit, from_ns: i64) -> Restarts {
    let ran =
        exit.reason != ExitReason::StartError && exit.finished_at_ns - exit.started_at_ns >= LONG_RUN_NS;
    let delay_ms = match restarts.delay_ms {
        _ if ran => FIRST_DELAY_MS,
        0 => FIRST_DELAY_MS,
        last => last.saturating_mul(2).min(LONGEST_DELAY_MS),
    };
    let delay_ns = i64::try_from(delay_ms).unwrap_or(i64::MAX).saturating_mul(NS_PER_MS);
    Restarts {
        count: restarts.count.saturating_add(1),
        delay_ms,
        due_at_ns: Some(from_ns.saturating_add(delay_ns)),
        ..restarts.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32, ran_ns: i64) -> Exit {
        let reason = if code == 0 { ExitReason::Completed } else { ExitReason::Error };
        Exit { code, reason, message: String::new(), started_at_ns: 1, finished_at_ns: 1 + ran_ns }
    }

    fn noted(policy: RestartPolicy, wanted: Wanted, count: u32) -> Restarts {
        Restarts { policy, wanted, count, ..Restarts::default() }
    }

    #[test]
    fn the_policy_and_the_user_decide() {
        use RestartPolicy::{Always, No, OnFailure, UnlessStopped};
        use Wanted::{Down, Up};
        let (twice, ever) = (OnFailure { most: 2 }, OnFailure { most: 0 });
        // Policy, what the user wants, starts so far, exit code; whether after an end, whether at the daemon's start.
        for (policy, wanted, count, code, after, at_start) in [
            (No, Up, 0, 1, false, false),
            (Always, Up, 9, 0, true, true),
            (Always, Down, 0, 1, false, true),
            (UnlessStopped, Up, 9, 0, true, true),
            (UnlessStopped, Down, 0, 1, false, false),
            (twice, Up, 1, 1, true, true),
            (twice, Up, 2, 1, false, false),
            (twice, Up, 0, 0, false, false),
            (ever, Up, 1000, 1, true, true),
            (ever, Down, 0, 1, false, false),
        ] {
            let (restarts, exit) = (noted(policy, wanted, count), exit(code, 1));
            assert_eq!(after_end(&restarts, &exit).is_some(), after, "{restarts:?} {code}");
            assert_eq!(at_boot(&restarts, &exit, 5).is_some(), at_start, "{restarts:?} {code}");
        }
    }

    #[test]
    fn the_delay_doubles_up_to_a_minute_and_begins_anew_after_a_long_run() {
        let mut restarts = noted(RestartPolicy::Always, Wanted::Up, 0);
        let mut delays = Vec::new();
        for _ in 0..12 {
            restarts = after_end(&restarts, &exit(1, 5)).unwrap();
            delays.push(restarts.delay_ms);
        }
        assert_eq!(delays[..4], [100, 200, 400, 800]);
        assert_eq!((delays[9], delays[10], delays[11]), (51_200, 60_000, 60_000));
        assert_eq!((restarts.count, restarts.due_at_ns), (12, Some(6 + 60_000 * NS_PER_MS)));
        assert_eq!(after_end(&restarts, &exit(1, LONG_RUN_NS)).unwrap().delay_ms, 100);
    }

    #[test]
    fn a_start_by_the_user_begins_anew_and_a_stop_ends_the_waiting() {
        let waiting = after_end(&noted(RestartPolicy::Always, Wanted::Up, 3), &exit(1, 5)).unwrap();
        let (mut started, mut stopped) = (waiting.clone(), waiting.clone());
        want(&mut started, Wanted::Up);
        want(&mut stopped, Wanted::Down);
        assert_eq!(started, noted(RestartPolicy::Always, Wanted::Up, 0));
        assert_eq!((stopped.count, stopped.due_at_ns), (4, None));
        // A start that is due is not put off by the daemon's end.
        assert_eq!(at_boot(&waiting, &exit(1, 5), 9), None);
    }
}
