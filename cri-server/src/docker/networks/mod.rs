//! `docker network`: the three networks that every engine has, and those of their users' own.

mod builtin;
mod create;
mod describe;
mod options;
mod places;

use std::sync::Arc;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::Door;
use super::dispatch::Ask;
use super::notices::Attributes;
use super::refusal::{Answer, Refusal};
use super::wire::{Filters, empty, json as in_json, seconds};
use crate::engine::EngineError;
use crate::engine::model::Id;
use crate::engine::user_networks::Known;
use builtin::{BUILTIN, Builtin};
pub(super) use create::create;
pub(super) use places::{connect, disconnect, wanted};

/// What lists of networks are filtered by.
const KNOWN: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// What prunes are filtered by.
const OF_PRUNE: &[&str] = &["label", "label!", "until"];

/// The one kind of network that users make.
const DRIVER: &str = "bridge";

/// A network.
enum Network {
    Builtin(Builtin),
    Own(Arc<Known>),
}

/// The id of the default network.
pub(super) fn default_id() -> String {
    BUILTIN[0].id()
}

/// What is told of a network in events, with the container that has come or gone.
pub(super) fn attributes(name: &str, container: Option<&Id>) -> Attributes {
    let mut attributes = Attributes::new();
    if let Some(container) = container {
        attributes.insert("container".into(), json!(container.as_str()));
    }
    attributes.insert("name".into(), json!(name));
    attributes.insert("type".into(), json!(DRIVER));
    attributes
}

/// The network that `name` means: its name, its id, or the start of its id.
fn find(door: &Door, name: &str) -> Result<Network, Refusal> {
    if let Some(found) = BUILTIN.iter().find(|network| network.name == name) {
        return Ok(Network::Builtin(*found));
    }
    match door.engine.user_network(name) {
        Ok(found) => return Ok(Network::Own(found)),
        Err(EngineError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let by_id = BUILTIN.iter().find(|network| !name.is_empty() && network.id().starts_with(name));
    let missing = || Refusal::missing(format!("network {name} not found"));
    by_id.map(|network| Network::Builtin(*network)).ok_or_else(missing)
}

/// `GET /networks`.
pub(super) fn list(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let dangling = filters.flag("dangling")?;
    let builtin = BUILTIN.iter().filter(|network| dangling != Some(true) && network.fits(&filters));
    let told = builtin.map(|network| describe::builtin(*network, &door.facts, &[]));
    let all = door.engine.user_networks();
    // A network is dangling when nothing uses it and it can be removed.
    let is_dangling = |known: &Known| door.engine.on_network(Some(&known.record.id)).is_empty();
    let own = all
        .iter()
        .filter(|known| fits(known, &filters) && dangling.is_none_or(|wanted| wanted == is_dangling(known)));
    let own = own.map(|known| describe::own(&known.record, &[]));
    let networks: Vec<Value> = told.chain(own).collect();
    Ok(in_json(StatusCode::OK, &networks))
}

fn fits(known: &Known, filters: &Filters) -> bool {
    let record = &known.record;
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    };
    any("driver", &|value| value == DRIVER)
        && any("name", &|value| record.name.contains(value))
        && any("id", &|value| record.id.as_str().starts_with(value))
        && any("scope", &|value| value == "local")
        && any("type", &|value| value == "custom")
        && filters.fits_labels(|key| record.labels.get(key).map(String::as_str))
}

/// `GET /networks/{name}`.
pub(super) fn inspect(door: &Door, name: &str) -> Answer {
    let told = match find(door, name)? {
        Network::Builtin(network) => {
            let members = if network.name == DRIVER { door.engine.on_network(None) } else { Vec::new() };
            describe::builtin(network, &door.facts, &members)
        }
        Network::Own(known) => describe::own(&known.record, &door.engine.on_network(Some(&known.record.id))),
    };
    Ok(in_json(StatusCode::OK, &told))
}

/// `DELETE /networks/{name}`.
pub(super) async fn remove(door: &Door, name: &str) -> Answer {
    let known = match find(door, name)? {
        Network::Own(known) => known,
        Network::Builtin(network) => {
            let name = network.name;
            return Err(Refusal::forbidden(format!("{name} is a pre-defined network and cannot be removed")));
        }
    };
    let removed = door.engine.remove_network(known.clone()).await;
    removed.map_err(|error| in_use(door, &known, error))?;
    note(door, "destroy", &known);
    Ok(empty(StatusCode::NO_CONTENT))
}

/// A network that somebody is on is told in dockerd's words.
fn in_use(door: &Door, known: &Known, error: EngineError) -> Refusal {
    let EngineError::InUse { .. } = error else { return error.into() };
    let members = door.engine.on_network(Some(&known.record.id));
    let told =
        members.iter().map(|(one, place)| format!("name:{:?} id:{:?}", one.name(), place.endpoint.short()));
    Refusal::forbidden(format!(
        "error while removing network: network {} has active endpoints ({})",
        known.record.name,
        told.collect::<Vec<_>>().join(", ")
    ))
}

/// `POST /networks/prune`: all that nobody is on.
pub(super) async fn prune(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), OF_PRUNE)?;
    let until = match filters.get("until") {
        None => None,
        Some([text]) => {
            let moment = seconds(text);
            Some(moment.ok_or_else(|| Refusal::bad(format!("invalid value for \"until\": {text}")))?)
        }
        Some(_) => return Err(Refusal::bad("more than one until filter specified")),
    };
    let mut removed = Vec::new();
    for known in door.engine.user_networks() {
        let record = &known.record;
        let is_old = until.is_none_or(|until| record.created_at_ns < until);
        if !is_old || !filters.fits_labels(|key| record.labels.get(key).map(String::as_str)) {
            continue;
        }
        match door.engine.remove_network(known.clone()).await {
            Ok(()) => {
                note(door, "destroy", &known);
                removed.push(record.name.clone());
            }
            Err(EngineError::InUse { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let reclaimed = [("reclaimed".to_owned(), json!("0"))];
    door.notices.add("network", "prune", "", reclaimed.into_iter().collect());
    let deleted = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(in_json(StatusCode::OK, &json!({"NetworksDeleted": deleted})))
}

fn note(door: &Door, action: &str, known: &Known) {
    let record = &known.record;
    door.notices.add("network", action, record.id.as_str(), attributes(&record.name, None));
}
