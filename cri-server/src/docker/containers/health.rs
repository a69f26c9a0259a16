//! A container's health as clients read it. Pure.

use std::time::Duration;

use serde_json::{Value, json};

use crate::docker::wire::rfc3339;
use crate::engine::container::Container;
use crate::engine::health::{Health, HealthStatus, ProbeEnd, ProbeResult};

/// The status in Docker's word.
pub(in crate::docker) fn word(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Starting => "starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

/// The status as lists are filtered by it.
pub(super) fn filtered(container: &Container) -> &'static str {
    container.health.as_ref().map_or("none", |health| word(health.status))
}

/// What `docker ps` adds to the state of one that runs.
pub(super) fn suffix(container: &Container) -> String {
    match container.health.as_ref().map(|health| health.status) {
        None => String::new(),
        Some(HealthStatus::Starting) => " (health: starting)".to_owned(),
        Some(status) => format!(" ({})", word(status)),
    }
}

/// `State.Health`.
pub(super) fn told(health: &Health) -> Value {
    let log: Vec<Value> = health.log.iter().map(result).collect();
    json!({"Status": word(health.status), "FailingStreak": health.failing_streak, "Log": log})
}

fn result(result: &ProbeResult) -> Value {
    let (code, output) = match &result.end {
        ProbeEnd::Exited(code) => (*code, result.output.clone()),
        ProbeEnd::Failed(reason) => (-1, reason.clone()),
        ProbeEnd::TooLong(limit) if result.output.is_empty() => {
            (-1, format!("Health check exceeded timeout ({})", in_go(*limit)))
        }
        ProbeEnd::TooLong(limit) => {
            (-1, format!("Health check exceeded timeout ({}): {}", in_go(*limit), result.output))
        }
    };
    let (start, end) = (rfc3339(result.started_at_ns), rfc3339(result.ended_at_ns));
    json!({"Start": start, "End": end, "ExitCode": code, "Output": output})
}

/// The exit code of the probe's process, if there was one.
pub(in crate::docker) fn process_code(end: &ProbeEnd) -> Option<i32> {
    match end {
        ProbeEnd::Exited(code) => Some(*code),
        ProbeEnd::TooLong(_) => Some(128 + nix::libc::SIGKILL),
        ProbeEnd::Failed(_) => None,
    }
}

/// A duration in Go's notation: `1m30s`, `1.5s`, `500ms`.
fn in_go(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    let rest = time.saturating_sub(Duration::from_secs(minutes * 60));
    match minutes {
        0 => format!("{time:?}"),
        1..60 => format!("{minutes}m{}", in_seconds(rest)),
        _ => format!("{}h{}m{}", minutes / 60, minutes % 60, in_seconds(rest)),
    }
}

/// Less than a minute behind minutes, where smaller units are not used.
fn in_seconds(time: Duration) -> String {
    let fraction = format!("{:09}", time.subsec_nanos());
    match fraction.trim_end_matches('0') {
        "" => format!("{}s", time.as_secs()),
        digits => format!("{}.{digits}s", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::container::sample;
    use crate::engine::model::Id;

    fn health(status: HealthStatus, ends: &[(ProbeEnd, &str)]) -> Health {
        let log = ends.iter().map(|(end, output)| ProbeResult {
            id: Id::random().unwrap(),
            started_at_ns: 1_000_000_000,
            ended_at_ns: 2_000_000_000,
            end: end.clone(),
            output: (*output).to_owned(),
        });
        Health { status, failing_streak: 2, log: log.collect(), probe: None }
    }

    #[test]
    fn results_have_dockers_words() {
        let long = ProbeEnd::TooLong(Duration::from_millis(1500));
        let told = told(&health(
            HealthStatus::Unhealthy,
            &[
                (ProbeEnd::Exited(3), "out"),
                (ProbeEnd::Failed("why".to_owned()), ""),
                (long.clone(), ""),
                (long, "out"),
            ],
        ));
        assert_eq!((&told["Status"], &told["FailingStreak"]), (&json!("unhealthy"), &json!(2)));
        assert_eq!(told["Log"][0]["Start"], "1970-01-01T00:00:01.000000000Z");
        let log: Vec<_> =
            told["Log"].as_array().unwrap().iter().map(|one| (&one["ExitCode"], &one["Output"])).collect();
        for (at, code, output) in [
            (0, 3, "out"),
            (1, -1, "why"),
            (2, -1, "Health check exceeded timeout (1.5s)"),
            (3, -1, "Health check exceeded timeout (1.5s): out"),
        ] {
            assert_eq!(log[at], (&json!(code), &json!(output)));
        }
    }

    #[test]
    fn lists_tell_it() {
        let id = Id::random().unwrap();
        let mut container = sample(&id, &id);
        assert_eq!((filtered(&container), suffix(&container).as_str()), ("none", ""));
        for (status, word, shown) in [
            (HealthStatus::Starting, "starting", " (health: starting)"),
            (HealthStatus::Healthy, "healthy", " (healthy)"),
            (HealthStatus::Unhealthy, "unhealthy", " (unhealthy)"),
        ] {
            container.health = Some(health(status, &[]));
            assert_eq!((filtered(&container), suffix(&container).as_str()), (word, shown));
        }
    }

    #[test]
    fn durations_are_in_gos_notation() {
        for (ms, expected) in [
            (500, "500ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (90_000, "1m30s"),
            (60_500, "1m0.5s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(in_go(Duration::from_millis(ms)), expected);
        }
    }
}
