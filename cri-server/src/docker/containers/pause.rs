//! `docker pause` and `docker unpause`, and what a paused container refuses.

use hyper::StatusCode;

use crate::docker::Door;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::empty;
use crate::engine::One;
use crate::engine::container::ContainerState;

/// `POST /containers/{id}/pause`.
pub(super) async fn pause(door: &Door, one: &One) -> Answer {
    let id = &one.container.id;
    match one.container.state {
        ContainerState::Running { .. } => {}
        ContainerState::Paused { .. } => {
            return Err(Refusal::conflict(format!("Container {id} is already paused")));
        }
        _ => return Err(Refusal::conflict(format!("Container {id} is not running"))),
    }
    door.engine.pause_one(one).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /containers/{id}/unpause`.
pub(super) async fn resume(door: &Door, one: &One) -> Answer {
    if !is_paused(one) {
        return Err(Refusal::conflict(format!("Container {} is not paused", one.container.id)));
    }
    door.engine.resume_one(one).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Refuses what a paused container cannot do: `act`.
pub(super) fn check_not_paused(one: &One, act: &str) -> Result<(), Refusal> {
    if !is_paused(one) {
        return Ok(());
    }
    let id = &one.container.id;
    Err(Refusal::conflict(format!("Container {id} is paused, unpause the container before {act}")))
}

/// Whether its processes stand still.
pub(super) fn is_paused(one: &One) -> bool {
    matches!(one.container.state, ContainerState::Paused { .. })
}
