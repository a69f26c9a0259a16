//! `docker volume`: volumes made, listed, looked at and removed.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Door;
use super::containers::mounts::checked_name;
use super::containers::or_default;
use super::dispatch::Ask;
use super::refusal::{Answer, Refusal};
use super::version::ApiVersion;
use super::wire::{Filters, empty, json as in_json, read_json, rfc3339};
use crate::engine::volumes::Volume;

/// What lists are filtered by.
const KNOWN: &[&str] = &["dangling", "driver", "label", "label!", "name"];

/// What prunes are filtered by.
const OF_PRUNE: &[&str] = &["all", "label", "label!"];

/// From this version on a prune leaves volumes that have names, unless it is asked for all.
const KEEPS_NAMED: ApiVersion = ApiVersion::v1(42);

/// A volume that is to be made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Create {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    driver: String,
    #[serde(deserialize_with = "or_default")]
    driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

/// `POST /volumes/create`.
pub(super) async fn create(door: &Door, ask: Ask) -> Answer {
    let wanted: Create = read_json(ask.body).await?;
    let Create { name, driver, driver_opts, labels } = wanted;
    if !name.is_empty() {
        checked_name(&name)?;
    }
    if !matches!(driver.as_str(), "" | "local") {
        let why = format!("error looking up volume plugin {driver}: plugin {driver:?} not found");
        return Err(Refusal::missing(format!("create {name}: {why}")));
    }
    if !driver_opts.is_empty() {
        return Err(Refusal::not_built("a volume with options of its driver"));
    }
    let made = door.engine.create_volume(&name, labels).await?;
    Ok(in_json(StatusCode::CREATED, &describe(door, &made)))
}

/// `GET /volumes`.
pub(super) async fn list(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let dangling = filters.flag("dangling")?;
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    };
    let all = door.engine.volumes().await?;
    let fitting = all.iter().filter(|volume| {
        any("name", &|value| volume.name.contains(value))
            && any("driver", &|value| value == "local")
            && dangling.is_none_or(|wanted| wanted == door.engine.volume_users(&volume.name).is_empty())
            && filters.fits_labels(|key| volume.labels.get(key).map(String::as_str))
    });
    let told: Vec<Value> = fitting.map(|volume| describe(door, volume)).collect();
    Ok(in_json(StatusCode::OK, &json!({"Volumes": told, "Warnings": null})))
}

/// `GET /volumes/{name}`.
pub(super) async fn inspect(door: &Door, name: &str) -> Answer {
    Ok(in_json(StatusCode::OK, &describe(door, &find(door, name).await?)))
}

/// `DELETE /volumes/{name}`.
pub(super) async fn remove(door: &Door, name: &str, ask: &Ask) -> Answer {
    match find(door, name).await {
        Err(missing) if !ask.query.is_on("force") => return Err(missing),
        Err(_) => return Ok(empty(StatusCode::NO_CONTENT)),
        Ok(_) => {}
    }
    let users = door.engine.volume_users(name);
    if !users.is_empty() {
        let users = users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(Refusal::conflict(format!("remove {name}: volume is in use - [{users}]")));
    }
    door.engine.remove_volume(name).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// `POST /volumes/prune`: all that no container uses.
pub(super) async fn prune(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), OF_PRUNE)?;
    let all = filters.flag("all")?.unwrap_or_default() || ask.version < KEEPS_NAMED;
    let (mut removed, mut freed_bytes) = (Vec::new(), 0);
    for volume in door.engine.volumes().await? {
        let name = &volume.name;
        let fits = (all || volume.is_anonymous)
            && filters.fits_labels(|key| volume.labels.get(key).map(String::as_str));
        if !fits || !door.engine.volume_users(name).is_empty() {
            continue;
        }
        let bytes = door.engine.volume_bytes(name).await?;
        door.engine.remove_volume(name).await?;
        removed.push(volume.name);
        freed_bytes += bytes;
    }
    let reclaimed = [("reclaimed".to_owned(), json!(freed_bytes.to_string()))];
    door.notices.add("volume", "prune", "", reclaimed.into_iter().collect());
    let deleted = if removed.is_empty() { Value::Null } else { json!(removed) };
    Ok(in_json(StatusCode::OK, &json!({"VolumesDeleted": deleted, "SpaceReclaimed": freed_bytes})))
}

/// All volumes with what they take and how many containers use them.
pub(super) async fn with_sizes(door: &Door) -> Result<Vec<Value>, Refusal> {
    let mut told = Vec::new();
    for volume in door.engine.volumes().await? {
        let users = door.engine.volume_users(&volume.name).len();
        let bytes = door.engine.volume_bytes(&volume.name).await?;
        let mut one = describe(door, &volume);
        one["UsageData"] = json!({"RefCount": users, "Size": bytes});
        told.push(one);
    }
    Ok(told)
}

async fn find(door: &Door, name: &str) -> Result<Volume, Refusal> {
    let found = door.engine.volume(name).await?;
    found.ok_or_else(|| Refusal::missing(format!("get {name}: no such volume")))
}

fn describe(door: &Door, volume: &Volume) -> Value {
    let labels = if volume.labels.is_empty() { Value::Null } else { json!(volume.labels) };
    // To the second.
    let created = format!("{}Z", rfc3339(volume.created_at_ns).get(..19).unwrap_or_default());
    json!({
        "CreatedAt": created, "Driver": "local", "Labels": labels,
        "Mountpoint": door.facts.volume(&volume.name), "Name": volume.name, "Options": null, "Scope": "local",
    })
}
