//! `docker commit`: a container becomes an image.

use cleat_image::{Commit, Reference};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::describe;
use super::settled::is_unset;
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::healthcheck::Healthcheck;
use crate::docker::images::changes::{Settings, apply};
use crate::docker::images::{named, noted};
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::version::LATEST;
use crate::docker::wire::{json as in_json, now_ns, read_json, rfc3339};

/// What of a container's configuration an image can have.
const SETTINGS: [&str; 12] = [
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Labels",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

/// `POST /commit`.
pub(in crate::docker) async fn commit(door: &Door, ask: Ask) -> Answer {
    let one = door.engine.one(ask.query.get("container"))?;
    let name = name(ask.query.get("repo"), ask.query.get("tag"))?;
    let pauses = ask.query.get("pause").is_empty() || ask.query.is_on("pause");
    let own: Value = read_json(ask.body).await?;
    let container = describe::config(&one, describe::request(&one));
    let base = if own.is_null() { of_container(&container) } else { settings(&own) };
    let own = apply(base, ask.query.all("changes"))?;
    let words = container["Cmd"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let order = Commit {
        name: name.clone(),
        created_by: words.collect::<Vec<_>>().join(" "),
        config: merged(own, &container),
        created: rfc3339(now_ns()),
        author: ask.query.get("author").to_owned(),
        comment: ask.query.get("comment").to_owned(),
    };
    let image = door.engine.commit_one(&one, pauses, order).await?;
    name.iter().for_each(|name| noted::tagged(door, &image, name));
    Ok(in_json(StatusCode::CREATED, &json!({"Id": image.id.to_string()})))
}

/// The tag that the image is to have.
fn name(repository: &str, tag: &str) -> Result<Option<Reference>, Refusal> {
    if repository.is_empty() {
        return Ok(None);
    }
    let name = named(repository, tag)?;
    match name.digest() {
        None => Ok(Some(name)),
        Some(_) => Err(Refusal::bad("refusing to create a tag with a digest reference")),
    }
}

/// What a configuration says that an image can have.
fn settings(config: &Value) -> Settings {
    let said = SETTINGS.iter().filter_map(|key| Some(((*key).to_owned(), config.get(*key)?.clone())));
    said.filter(|(_, value)| !is_unset(value)).collect()
}

/// What of a container an image can have. What is for builds alone is not the container's.
fn of_container(container: &Value) -> Settings {
    let mut all = settings(container);
    all.retain(|key, _| !matches!(key.as_str(), "OnBuild" | "Shell"));
    all
}

/// The client's own settings, and the container's for what they leave open. Docker's rules.
fn merged(own: Settings, container: &Value) -> Settings {
    let mut all = own.clone();
    for (key, value) in of_container(container) {
        let told = match (key.as_str(), all.remove(&key)) {
            // A program of the client's own is not given the container's arguments.
            ("Cmd", None) if own.contains_key("Entrypoint") => continue,
            (_, None) => value,
            ("Env", Some(own)) => with_variables(own, &value),
            ("Labels" | "ExposedPorts" | "Volumes", Some(own)) => with_entries(own, value),
            ("Healthcheck", Some(own)) => {
                let own = serde_json::from_value(own).ok();
                json!(Healthcheck::settled(&own, &json!({"Healthcheck": value}), LATEST))
            }
            (_, Some(own)) => own,
        };
        all.insert(key, told);
    }
    all
}

/// The container's variables behind the client's, those that it sets itself left out.
fn with_variables(own: Value, more: &Value) -> Value {
    let list = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let own = list(&own);
    let set: Vec<String> = own.iter().map(|variable| name(variable)).collect();
    let more = list(more).into_iter().filter(|variable| !set.contains(&name(variable)));
    json!(own.iter().cloned().chain(more).collect::<Vec<_>>())
}

/// The container's entries besides the client's.
fn with_entries(own: Value, more: Value) -> Value {
    match (own, more) {
        (Value::Object(own), Value::Object(mut all)) => {
            all.extend(own);
            Value::Object(all)
        }
        (own, _) => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::wire::familiar;

    fn merge(own: &Value, container: &Value) -> Value {
        Value::Object(merged(settings(own), container))
    }

    #[test]
    fn what_the_client_leaves_open_is_the_containers() {
        let container = json!({
            "Hostname": "h", "Tty": true, "Cmd": ["c"], "Entrypoint": ["e"], "Env": ["A=1", "B=2"], "User": "1",
            "Labels": {"a": "1", "b": "2"}, "Volumes": {"/v": {}}, "WorkingDir": "", "StopSignal": null,
            "Healthcheck": {"Test": ["CMD", "x"], "Retries": 2}, "OnBuild": ["RUN x"],
        });
        for (own, key, expected) in [
            (json!({}), "Cmd", json!(["c"])),
            (json!({}), "Hostname", Value::Null),
            (json!({}), "WorkingDir", Value::Null),
            (json!({}), "OnBuild", Value::Null),
            (json!({"OnBuild": ["RUN y"]}), "OnBuild", json!(["RUN y"])),
            (json!({"Cmd": ["d"]}), "Cmd", json!(["d"])),
            (json!({"Cmd": ["d"]}), "Entrypoint", json!(["e"])),
            (json!({"Entrypoint": ["f"]}), "Cmd", Value::Null),
            (json!({"Env": ["B=3"]}), "Env", json!(["B=3", "A=1"])),
            (json!({"Labels": {"b": "3"}}), "Labels", json!({"a": "1", "b": "3"})),
            (json!({"Volumes": {"/w": {}}}), "Volumes", json!({"/v": {}, "/w": {}})),
            (json!({"User": "2"}), "User", json!("2")),
            (
                json!({"Healthcheck": {"Retries": 3}}),
                "Healthcheck",
                json!({"Test": ["CMD", "x"], "Retries": 3}),
            ),
        ] {
            assert_eq!(merge(&own, &container)[key], expected, "{own} {key}");
        }
    }

    #[test]
    fn an_image_is_named_by_a_tag_or_not_at_all() {
        assert_eq!(name("", "1").unwrap(), None);
        assert_eq!(name("a", "1").unwrap().map(|name| familiar(&name)), Some("a:1".to_owned()));
        let digest = format!("a@sha256:{}", "0".repeat(64));
        for wrong in [digest.as_str(), "BAD"] {
            assert_eq!(name(wrong, "").unwrap_err().status().as_u16(), 400, "{wrong}");
        }
    }
}
