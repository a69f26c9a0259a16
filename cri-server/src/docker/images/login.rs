//! `POST /auth`: whether a registry accepts a login.

use hyper::StatusCode;
use serde_json::json;

use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Login, json as in_json, read_json};
use crate::engine::chain;

/// Asks the registry, which alone knows.
pub(in crate::docker) async fn auth(door: &Door, ask: Ask) -> Answer {
    let login: Login = read_json(ask.body).await?;
    let registry = login.registry();
    let Some(credentials) = login.credentials() else {
        return Err(Refusal::unauthorized(format!(
            "Get \"https://{registry}/v2/\": no credentials were given"
        )));
    };
    match door.engine.puller().login(&registry, credentials).await {
        Ok(()) => Ok(in_json(StatusCode::OK, &json!({"Status": "Login Succeeded", "IdentityToken": ""}))),
        Err(error) if error.is_denial() => Err(Refusal::unauthorized(chain(&error))),
        Err(error) => Err(Refusal::failed(chain(&error))),
    }
}
