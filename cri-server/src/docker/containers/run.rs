//! Starting, stopping, signals.

use std::time::Duration;

use hyper::StatusCode;
use nix::errno::Errno;

use super::describe;
use super::noted;
use super::pause::is_paused;
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::empty;
use crate::engine::{EngineError, One};
use crate::spec;

/// How long a container may take to end by itself, unless the client says otherwise.
const GRACE: Duration = Duration::from_secs(10);

/// How long a killed container may take to end until the client is answered all the same.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What a client gets that wants to wait for ever.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

/// `POST /containers/{id}/start`.
pub(super) async fn start(door: &Door, one: &One) -> Answer {
    if is_paused(one) {
        return Err(Refusal::conflict("cannot start a paused container, try unpause instead"));
    }
    if one.container.state.pid().is_some() || one.container.is_restarting() {
        return Ok(empty(StatusCode::NOT_MODIFIED));
    }
    door.engine.start_one(one).await.map_err(not_started)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The command line tells a program that is missing (exit code 127) from one that cannot be executed (126) by words.
fn not_started(error: EngineError) -> Refusal {
    let EngineError::Step { step: "execute the program", reason, errno: Some(errno), .. } = &error else {
        return error.into();
    };
    let words = match Errno::from_raw(*errno) {
        Errno::ENOENT => "executable file not found in $PATH",
        Errno::EACCES | Errno::EISDIR | Errno::ENOEXEC => "permission denied",
        _ => return error.into(),
    };
    Refusal::bad(format!("failed to start the container: {reason}: {words}"))
}

/// `POST /containers/{id}/stop`.
pub(super) async fn stop(door: &Door, one: &One, ask: &Ask) -> Answer {
    if one.container.state.pid().is_none() && !one.container.is_restarting() {
        return Ok(empty(StatusCode::NOT_MODIFIED));
    }
    end(door, one, ask).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/restart`.
pub(super) async fn restart(door: &Door, one: &One, ask: &Ask) -> Answer {
    if one.container.state.pid().is_some() {
        end(door, one, ask).await?;
    }
    door.engine.start_one(one).await.map_err(not_started)?;
    noted::done(door, one, "restart", &[]);
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn end(door: &Door, one: &One, ask: &Ask) -> Result<(), Refusal> {
    let signal = signal(ask)?;
    let grace = match ask.query.get("t") {
        "" => own_grace(one),
        text => {
            let seconds: i64 = text.parse().map_err(|_| Refusal::bad(format!("invalid timeout {text:?}")))?;
            u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs)
        }
    };
    if one.container.state.pid().is_some() {
        noted::signalled(door, one, signal.unwrap_or(one.container.stop_signal));
    }
    door.engine.stop_one(one, grace, signal).await?;
    noted::done(door, one, "stop", &[]);
    Ok(())
}

/// How long it may take by its own `--stop-timeout`.
fn own_grace(one: &One) -> Duration {
    match describe::request(one)["StopTimeout"].as_i64() {
        None => GRACE,
        Some(seconds) => u64::try_from(seconds).map_or(FOR_EVER, Duration::from_secs),
    }
}

/// `POST /containers/{id}/kill`. SIGKILL is answered when the container has ended: a client's next word finds it so.
pub(super) async fn kill(door: &Door, one: &One, ask: &Ask) -> Answer {
    let signal = signal(ask)?.unwrap_or(nix::libc::SIGKILL);
    if one.container.is_restarting() {
        // There is no process: what is left to end is the waiting for the next one.
        door.engine.stop_one(one, Duration::ZERO, None).await?;
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    if one.container.state.pid().is_none() {
        let id = &one.container.id;
        return Err(Refusal::conflict(format!(
            "cannot kill container: {}: container {id} is not running",
            one.name()
        )));
    }
    // Asked for before the signal: an end in between is not missed.
    let end = door.engine.next_end(one);
    noted::signalled(door, one, signal);
    door.engine.signal_one(one, signal).await?;
    if signal == nix::libc::SIGKILL && tokio::time::timeout(KILL_LIMIT, end).await.is_err() {
        tracing::warn!(container = %one.container.id, "a killed container has not ended");
    }
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The signal in a query, if it names one.
fn signal(ask: &Ask) -> Result<Option<i32>, Refusal> {
    match ask.query.get("signal") {
        "" => Ok(None),
        text => {
            spec::parse_signal(text).map(Some).map_err(|_| Refusal::bad(format!("Invalid signal: {text}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_cannot_be_executed_is_a_bad_request_in_known_words() {
        let failed = |errno: Errno| EngineError::Step {
            step: "execute the program",
            object: "container x".into(),
            reason: "r".into(),
            errno: Some(errno as i32),
        };
        for (errno, status, words) in [
            (Errno::ENOENT, 400, "executable file not found"),
            (Errno::EACCES, 400, "permission denied"),
            (Errno::EIO, 500, "r"),
        ] {
            let refusal = not_started(failed(errno));
            assert_eq!(refusal.status().as_u16(), status);
            assert!(refusal.message().contains(words), "{}", refusal.message());
        }
    }
}
