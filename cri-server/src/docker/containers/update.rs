//! `docker update`: other limits for a container.

use hyper::StatusCode;
use serde_json::json;

use super::create::resources;
use super::request::HostConfig;
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, read_json};
use crate::engine::One;

/// `POST /containers/{id}/update`.
pub(super) async fn update(door: &Door, one: &One, ask: Ask) -> Answer {
    let wanted: HostConfig = read_json(ask.body).await?;
    if !matches!(wanted.restart_policy.name.as_str(), "" | "no") {
        return Err(Refusal::not_built("a container with a restart policy"));
    }
    door.engine.update_container(&one.container.id, resources(&wanted)).await?;
    Ok(in_json(StatusCode::OK, &json!({"Warnings": null})))
}
