//! Waiting for an end: the head of the answer is sent at once, since `docker run` starts the container only then.

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::json;

use super::describe::exit_code;
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, lines};
use crate::engine::One;

/// `POST /containers/{id}/wait`.
pub(super) fn wait(door: &Arc<Door>, one: One, ask: &Ask) -> Answer {
    let end = match ask.query.get("condition") {
        "next-exit" => door.engine.next_end(&one),
        "removed" => door.engine.removal(&one),
        "" | "not-running" => {
            let end = door.engine.next_end(&one);
            // Looked at after the wait has begun: an end in between is not missed.
            let now = door.engine.one(one.container.id.as_str())?;
            if now.container.state.pid().is_none() && !now.container.is_restarting() {
                let code = exit_code(&now.container.state).unwrap_or_default();
                return Ok(in_json(StatusCode::OK, &json!({"StatusCode": code})));
            }
            end
        }
        other => return Err(Refusal::bad(format!("invalid condition: \"{other}\""))),
    };
    let (mut answer, response) = lines();
    door.run(async move {
        let told = tokio::select! {
            code = end => code,
            () = answer.closed() => return,
        };
        let line = match told {
            Ok(code) => json!({"StatusCode": code}),
            Err(_) => json!({"StatusCode": -1, "Error": {"Message": "the container is gone"}}),
        };
        if !answer.send(&line).await {
            tracing::debug!("a client left before the end it waited for");
        }
    });
    Ok(response)
}
