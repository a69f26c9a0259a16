//! `docker update`: other limits, or another restart policy, for a container.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::create::resources;
use super::request::HostConfig;
use super::restart_policy;
use super::{devices, noted};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, read_json};
use crate::engine::One;
use crate::engine::model::{Kind, Resources, RestartPolicy};

/// `POST /containers/{id}/update`.
pub(super) async fn update(door: &Door, one: &One, ask: Ask) -> Answer {
    let mut wanted: HostConfig = read_json(ask.body).await?;
    let warnings = devices::discard_weights(&mut wanted, door.engine.host());
    let policy = restart_policy::asked(&wanted.restart_policy)?;
    let removes_itself = matches!(one.group.config.kind, Kind::One { auto_remove: true, .. });
    if removes_itself && policy.is_some_and(|policy| policy != RestartPolicy::No) {
        let why = "Restart policy cannot be updated because AutoRemove is enabled for the container";
        return Err(Refusal::bad(why));
    }
    let limits = resources(&wanted);
    if limits != Resources::default() {
        door.engine.update_container(&one.container.id, limits).await?;
    }
    if let Some(policy) = policy {
        door.engine.set_restart_policy(one, policy).await?;
    }
    noted::done(door, one, "update", &[]);
    let warnings = if warnings.is_empty() { Value::Null } else { json!(warnings) };
    Ok(in_json(StatusCode::OK, &json!({"Warnings": warnings})))
}
