//! `docker ps` and `docker inspect`.

use std::collections::HashMap;
use std::path::Path;

use hyper::StatusCode;

use super::endpoint::network_mode_of;
use super::row::Row;
use super::{describe, health};
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Filters, json, now_ns};
use crate::engine::One;
use crate::engine::model::{Joined, MountSource};

/// What lists are filtered by.
const KNOWN: &[&str] = &[
    "ancestor", "before", "exited", "health", "id", "label", "label!", "name", "network", "since", "status",
    "volume",
];

/// States in Docker's words.
const STATES: [&str; 7] = ["created", "running", "paused", "restarting", "removing", "exited", "dead"];

/// What containers' health may be; none where nobody asks.
const HEALTHS: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// `GET /containers/json`: those that run, or all; the newest first.
pub(in crate::docker) fn list(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let limit = match ask.query.get("limit") {
        "" => None,
        text => {
            let limit: i64 = text.parse().map_err(|_| Refusal::bad(format!("invalid limit {text:?}")))?;
            usize::try_from(limit).ok().filter(|limit| *limit > 0)
        }
    };
    let states = filters.get("status").is_some() || filters.get("exited").is_some();
    let all = ask.query.is_on("all") || limit.is_some() || states;
    let mut ones = door.engine.ones();
    ones.sort_by_key(|one| std::cmp::Reverse(one.container.created_at_ns));
    let moment = |key: &str| match filters.get(key) {
        Some([name, ..]) => door.engine.one(name).map(|one| Some(one.container.created_at_ns)),
        _ => Ok(None),
    };
    let (before, since) = (moment("before")?, moment("since")?);
    let fitting = ones.iter().filter(|one| {
        let created = one.container.created_at_ns;
        (all || one.container.state.pid().is_some() || one.container.is_restarting())
            && before.is_none_or(|before| created < before)
            && since.is_none_or(|since| created > since)
            && fits(one, &filters)
    });
    let known = |key, words: &[&str]| unknown(words, filters.get(key).unwrap_or_default());
    if let Some(word) = known("status", &STATES) {
        return Err(Refusal::bad(format!("invalid filter 'status={word}'")));
    }
    if let Some(word) = known("health", &HEALTHS) {
        return Err(Refusal::bad(format!("Unrecognised filter value for health: {word}")));
    }
    let now = now_ns();
    let mut meant = HashMap::new();
    let shown = fitting.take(limit.unwrap_or(usize::MAX));
    let list: Vec<Row<'_>> = shown.map(|one| row(door, one, now, &mut meant)).collect();
    Ok(json(StatusCode::OK, &list))
}

/// The first word that is not one of the `known`.
fn unknown<'a>(known: &[&str], words: &'a [String]) -> Option<&'a str> {
    words.iter().map(String::as_str).find(|word| !known.contains(word))
}

/// A row of the list. A name that means another image by now, or none, is told no more. `meant` has what the names mean that
/// were asked for already: many containers have few images, and reading a name takes long.
fn row<'a>(door: &Door, one: &'a One, now_ns: i64, meant: &mut HashMap<&'a str, Option<String>>) -> Row<'a> {
    let (named, id) = (one.container.config.image.user_specified.as_str(), &one.container.image.id);
    let meant = meant
        .entry(named)
        .or_insert_with(|| door.engine.images().resolve(named).map(|image| image.id.to_string()));
    Row::of(one, if meant.as_ref() == Some(id) { named } else { id }, &door.facts, now_ns)
}

/// Whether `name` has `pattern` in it: the anchors of a regular expression and a slash before a name are understood,
/// since scripts write `^/name$`.
fn fits_name(pattern: &str, name: &str) -> bool {
    let (rest, from_start) = pattern.strip_prefix('^').map_or((pattern, false), |rest| (rest, true));
    let (rest, to_end) = rest.strip_suffix('$').map_or((rest, false), |rest| (rest, true));
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    match (from_start, to_end) {
        (true, true) => name == rest,
        (true, false) => name.starts_with(rest),
        (false, true) => name.ends_with(rest),
        (false, false) => name.contains(rest),
    }
}

fn fits(one: &One, filters: &Filters) -> bool {
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    };
    let container = &one.container;
    any("id", &|value| container.id.as_str().starts_with(value))
        && any("name", &|value| fits_name(value, one.name()))
        && any("status", &|value| describe::word(container) == value)
        && any("health", &|value| health::filtered(container) == value)
        && any("exited", &|value| {
            describe::exit_code(&container.state).is_some_and(|code| code.to_string() == value)
        })
        && any("volume", &|value| {
            container.config.mounts.iter().any(|mount| match &mount.source {
                MountSource::Volume { name, .. } if name == value => true,
                MountSource::Host(source) if source == Path::new(value) => true,
                _ => mount.destination == Path::new(value),
            })
        })
        && any("network", &|value| is_on(one, value))
        && any("ancestor", &|value| {
            let requested = &container.config.image.user_specified;
            requested == value
                || *requested == format!("{value}:latest")
                || container.image.id.contains(value)
        })
        && filters.fits_labels(|key| container.config.labels.get(key).map(String::as_str))
}

/// Whether it is on the network of this name or id, or is to be.
fn is_on(one: &One, network: &str) -> bool {
    let has_id = |joined: &Joined| {
        joined.network.as_ref().is_some_and(|id| !network.is_empty() && id.as_str().starts_with(network))
    };
    let places = one.group.config.places();
    places.iter().any(|place| place.network.name() == network)
        || one.group.joined.iter().any(has_id)
        || (places.is_empty() && network_mode_of(one) == network)
}

/// `GET /containers/{id}/json`.
pub(in crate::docker) async fn inspect(door: &Door, one: &One, ask: &Ask) -> Answer {
    let mut told = describe::inspect(one, &door.facts);
    if ask.query.is_on("size") {
        let written = door.engine.container_stats(&one.container).await?;
        let written = written.writable.map_or(0, |layer| layer.bytes);
        let image = door.engine.images().resolve(&one.container.image.id);
        told["SizeRw"] = written.into();
        told["SizeRootFs"] = (written + image.map_or(0, |image| image.size_bytes)).into();
    }
    Ok(json(StatusCode::OK, &told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_patterns_with_anchors() {
        for (pattern, fits) in [
            ("we", true),
            ("/web", true),
            ("^/web$", true),
            ("^web$", true),
            ("^we$", false),
            ("^eb", false),
            ("eb$", true),
            ("wob", false),
        ] {
            assert_eq!(fits_name(pattern, "web"), fits, "{pattern}");
        }
    }

    #[test]
    fn words_that_are_no_state_are_found() {
        let words = ["exited", "dead", "nosuch", "other"].map(str::to_owned);
        assert_eq!(unknown(&STATES, &words[..2]), None);
        assert_eq!(unknown(&STATES, &words), Some("nosuch"));
    }
}
