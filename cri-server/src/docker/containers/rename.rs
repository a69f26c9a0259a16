//! `docker rename`.

use hyper::StatusCode;

use super::create::{checked_name, taken};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::empty;
use crate::engine::One;

/// `POST /containers/{id}/rename`.
pub(super) async fn rename(door: &Door, one: &One, ask: &Ask) -> Answer {
    let name = match ask.query.get("name") {
        "" => return Err(Refusal::bad("Neither old nor new names may be empty")),
        name => checked_name(name)?,
    };
    if name == one.name() {
        return Err(Refusal::bad("Renaming a container with the same name as its current name"));
    }
    door.engine.rename_one(one, name).await.map_err(taken)?;
    Ok(empty(StatusCode::NO_CONTENT))
}
