//! Removing containers.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::noted;
use super::pause::is_paused;
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Filters, ago, empty, json as in_json, seconds};
use crate::engine::container::ContainerState;
use crate::engine::{EngineError, One};

/// What prunes are filtered by.
const KNOWN: &[&str] = &["label", "label!", "until"];

/// `DELETE /containers/{id}`.
pub(super) async fn remove(door: &Door, one: &One, ask: &Ask) -> Answer {
    if ask.query.is_on("link") {
        return Err(Refusal::not_built("removing a link"));
    }
    let is_up = one.container.state.pid().is_some() || one.container.is_restarting();
    if is_up && !ask.query.is_on("force") {
        let why = if is_paused(one) {
            "container is paused and must be unpaused first"
        } else if one.container.is_restarting() {
            "container is restarting: stop the container before removing or force remove"
        } else {
            "container is running: stop the container before removing or force remove"
        };
        return Err(Refusal::conflict(format!("cannot remove container \"/{}\": {why}", one.name())));
    }
    if one.container.state.pid().is_some() {
        noted::signalled(door, one, nix::libc::SIGKILL);
    }
    door.engine.remove_one(one, ask.query.is_on("v")).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/prune`: all that do not run.
pub(in crate::docker) async fn prune(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let until = match filters.get("until") {
        Some([text, ..]) => {
            let moment = seconds(text).or_else(|| ago(text));
            Some(moment.ok_or_else(|| Refusal::bad(format!("invalid filter 'until={text}'")))?)
        }
        _ => None,
    };
    let rests = |one: &One| {
        matches!(one.container.state, ContainerState::Created | ContainerState::Exited(_))
            && !one.container.is_restarting()
    };
    let ones = door.engine.ones();
    let doomed = ones.iter().filter(|one| {
        rests(one)
            && until.is_none_or(|until| one.container.created_at_ns < until)
            && filters.fits_labels(|key| one.container.config.labels.get(key).map(String::as_str))
    });
    let (mut removed, mut freed_bytes) = (Vec::new(), 0);
    for one in doomed {
        let bytes = writable_bytes(door, one).await;
        match door.engine.remove_one(one, false).await {
            Ok(()) => {
                removed.push(one.container.id.to_string());
                freed_bytes += bytes;
            }
            Err(EngineError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let deleted = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(in_json(StatusCode::OK, &json!({"ContainersDeleted": deleted, "SpaceReclaimed": freed_bytes})))
}

async fn writable_bytes(door: &Door, one: &One) -> u64 {
    let stats = door.engine.container_stats(&one.container).await.ok();
    stats.and_then(|stats| stats.writable).map_or(0, |layer| layer.bytes)
}
