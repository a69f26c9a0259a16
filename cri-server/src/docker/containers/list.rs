//! `docker ps` and `docker inspect`.

use hyper::StatusCode;
use serde_json::Value;

use super::describe;
use crate::docker::Door;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{Filters, json, now_ns};
use crate::engine::One;

/// What lists are filtered by.
const KNOWN: &[&str] =
    &["ancestor", "before", "exited", "id", "label", "label!", "name", "network", "since", "status"];

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
    let now = now_ns();
    let list: Vec<Value> =
        fitting.take(limit.unwrap_or(usize::MAX)).map(|one| describe::summary(one, now)).collect();
    Ok(json(StatusCode::OK, &list))
}

fn fits(one: &One, filters: &Filters) -> bool {
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    };
    let container = &one.container;
    let shown = describe::summary(one, 0);
    any("id", &|value| container.id.as_str().starts_with(value))
        && any("name", &|value| one.name().contains(value.trim_start_matches('/')))
        && any("status", &|value| describe::word(container) == value)
        && any("exited", &|value| {
            describe::exit_code(&container.state).is_some_and(|code| code.to_string() == value)
        })
        && any("network", &|value| shown["HostConfig"]["NetworkMode"] == value)
        && any("ancestor", &|value| {
            let requested = &container.config.image.user_specified;
            requested == value
                || *requested == format!("{value}:latest")
                || container.image.id.contains(value)
        })
        && filters.fits_labels(|key| container.config.labels.get(key).map(String::as_str))
}

/// `GET /containers/{id}/json`.
pub(in crate::docker) fn inspect(one: &One) -> Answer {
    Ok(json(StatusCode::OK, &describe::inspect(one)))
}
