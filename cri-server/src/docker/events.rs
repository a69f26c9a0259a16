//! `GET /events`: what happens to Docker's containers, as it is committed, and what has happened of late.

use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::StreamExt as _;

use super::Door;
use super::containers::{describe, exec_action, health};
use super::dispatch::Ask;
use super::networks;
use super::notices::Notice;
use super::refusal::{Answer, Refusal};
use super::wire::{Filters, Lines, lines, now_ns, seconds};
use crate::engine::container::{Container, ContainerState};
use crate::engine::model::Kind;
use crate::engine::{Event, EventKind, Missed, Subscription};

/// What events are filtered by.
const KNOWN: &[&str] = &["container", "event", "image", "label", "network", "scope", "type"];

/// Tells what is kept of the time since `since`, then events as they come, until `until` or until the client leaves.
pub(super) fn events(door: &Arc<Door>, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let (since, until) = (moment(ask, "since")?, moment(ask, "until")?);
    let (mut past, noted) = door.notices.follow(since);
    let (changes, happened) = match since {
        Some(since) => door.engine.subscribe_since(since),
        None => (Vec::new(), door.engine.subscribe()),
    };
    past.extend(changes.iter().flat_map(|event| told(event)));
    past.sort_by_key(|notice| notice.at_ns);
    let (to, response) = lines();
    let teller = Teller { filters, until, to };
    door.run(teller.tell(past, Coming { happened, noted }));
    Ok(response)
}

fn moment(ask: &Ask, key: &str) -> Result<Option<i64>, Refusal> {
    match ask.query.get(key) {
        "" => Ok(None),
        text => seconds(text)
            .map(Some)
            .ok_or_else(|| Refusal::bad(format!("invalid value for \"{key}\": {text}"))),
    }
}

/// What comes.
struct Coming {
    /// From the engine.
    happened: Subscription,
    /// From the door.
    noted: broadcast::Receiver<Notice>,
}

/// One of what comes.
enum Next {
    Change(Option<Result<Arc<Event>, Missed>>),
    Notice(Result<Notice, RecvError>),
    /// Nothing is there just now.
    Nothing,
}

/// Why there is no more.
#[derive(Debug, Error)]
enum Over {
    #[error("the daemon ends")]
    Daemon,
    #[error("a reader of events is too slow")]
    TooSlow,
}

impl Coming {
    /// Waits for something to tell, and takes all that is there then, in order: what was noted after a change was committed
    /// is told after it, whichever channel is looked at first.
    async fn next(&mut self) -> Result<Vec<Notice>, Over> {
        let mut all = Vec::new();
        let mut next = tokio::select! {
            event = self.happened.next() => Next::Change(event),
            notice = self.noted.recv() => Next::Notice(notice),
        };
        loop {
            match next {
                Next::Change(Some(Ok(event))) => all.extend(told(&event)),
                Next::Notice(Ok(notice)) => all.push(notice),
                Next::Change(None) | Next::Notice(Err(RecvError::Closed)) => return Err(Over::Daemon),
                Next::Change(Some(Err(_))) | Next::Notice(Err(RecvError::Lagged(_))) => {
                    return Err(Over::TooSlow);
                }
                Next::Nothing => break,
            }
            next = tokio::select! {
                biased;
                event = self.happened.next() => Next::Change(event),
                notice = self.noted.recv() => Next::Notice(notice),
                () = ready(()) => Next::Nothing,
            };
        }
        all.sort_by_key(|notice| notice.at_ns);
        Ok(all)
    }
}

/// Who tells a client events.
struct Teller {
    filters: Filters,
    until: Option<i64>,
    to: Lines,
}

impl Teller {
    async fn tell(mut self, past: Vec<Notice>, mut coming: Coming) {
        let left =
            self.until.map(|until| Duration::from_nanos(u64::try_from(until - now_ns()).unwrap_or_default()));
        let end = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        let mut notices = past;
        loop {
            for notice in notices {
                if !self.send(&notice).await {
                    return;
                }
            }
            let next = tokio::select! {
                next = coming.next() => next,
                () = &mut end => return,
                () = self.to.closed() => return,
            };
            notices = match next {
                Ok(notices) => notices,
                // The client is told by the end: it has to list anew.
                Err(over) => return tracing::info!("a stream of events ends: {over}"),
            };
        }
    }

    /// Tells an event that the client wants; whether the client is still there.
    async fn send(&mut self, notice: &Notice) -> bool {
        let is_late = self.until.is_some_and(|until| notice.at_ns > until);
        is_late || !fits(&notice.line, &self.filters) || self.to.send(&notice.line).await
    }
}

/// An event of a container without a pod, as Docker's clients read it: a probe is an exec to them.
fn told(event: &Event) -> Vec<Notice> {
    let Kind::One { container: id, .. } = &event.pod.config.kind else { return Vec::new() };
    if event.subject != *id {
        return Vec::new();
    }
    let container = event.containers.iter().find(|one| one.id == *id);
    let notice = |action: &str, details: &[(&str, String)]| {
        let mut attributes = describe::attributes(&event.pod);
        attributes.extend(details.iter().map(|(key, value)| ((*key).to_owned(), json!(value))));
        Notice::new("container", action, id.as_str(), attributes, event.at_ns)
    };
    let action = match event.kind {
        EventKind::Created => "create",
        EventKind::Started => "start",
        EventKind::Stopped => return vec![notice("die", &exit(container))],
        EventKind::Deleted => "destroy",
        EventKind::Paused => "pause",
        EventKind::Resumed => "unpause",
        EventKind::Renamed => "rename",
        EventKind::Joined => return place_notice("connect", event).into_iter().collect(),
        EventKind::Left => return place_notice("disconnect", event).into_iter().collect(),
        EventKind::ProbeBegan | EventKind::ProbeEnded | EventKind::HealthChanged => {
            let of_probes = container.map(|container| of_probes(event.kind, container)).unwrap_or_default();
            return of_probes.iter().map(|(action, details)| notice(action, details)).collect();
        }
    };
    vec![notice(action, &[])]
}

/// What an action has besides what its container has.
type Details = Vec<(&'static str, String)>;

fn exit(container: Option<&Arc<Container>>) -> Details {
    match container.map(|container| &container.state) {
        Some(ContainerState::Exited(exit)) => vec![("exitCode", exit.code.to_string())],
        _ => Vec::new(),
    }
}

/// What is told of a container's probes.
fn of_probes(kind: EventKind, container: &Container) -> Vec<(String, Details)> {
    let (Some(health), Some(check)) = (&container.health, &container.config.health) else {
        return Vec::new();
    };
    match (kind, &health.probe, health.log.back()) {
        (EventKind::ProbeBegan, Some(probe), _) => ["exec_create", "exec_start"]
            .map(|name| (exec_action(name, &check.command), vec![("execID", probe.to_string())]))
            .into(),
        (EventKind::ProbeEnded, _, Some(last)) => {
            health::process_code(&last.end).map_or_else(Vec::new, |code| {
                let details = vec![("execID", last.id.to_string()), ("exitCode", code.to_string())];
                vec![("exec_die".to_owned(), details)]
            })
        }
        (EventKind::HealthChanged, _, _) => {
            vec![(format!("health_status: {}", health::word(health.status)), Vec::new())]
        }
        _ => Vec::new(),
    }
}

/// A place in a network that came or went: the network is what it is about.
fn place_notice(action: &str, event: &Event) -> Option<Notice> {
    let place = event.place.as_ref()?;
    let id = place.network.as_ref().map_or_else(networks::default_id, ToString::to_string);
    let attributes = networks::attributes(&place.name, Some(&event.subject));
    Some(Notice::new("network", action, &id, attributes, event.at_ns))
}

fn fits(line: &Value, filters: &Filters) -> bool {
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    };
    let attributes = &line["Actor"]["Attributes"];
    any("type", &|value| line["Type"] == value)
        && any("event", &|value| is_action(&line["Action"], value))
        && any("scope", &|value| line["scope"] == value)
        && any("image", &|value| is_of_image(line, value))
        && any("network", &|value| {
            let is_id = || line["Actor"]["ID"].as_str().is_some_and(|id| id.starts_with(value));
            line["Type"] == "network" && (attributes["name"] == value || is_id())
        })
        && any("container", &|value| {
            let is_id = || line["id"].as_str().is_some_and(|id| id.starts_with(value));
            line["Type"] == "container" && (attributes["name"] == value || is_id())
        })
        && filters.fits_labels(|key| attributes[key].as_str())
}

/// Whether an action is the one that is asked for; a command's has the command behind it.
fn is_action(action: &Value, wanted: &str) -> bool {
    let action = action.as_str().unwrap_or_default();
    action.split(':').next() == Some(wanted) || action == wanted
}

/// Whether an event is one of the image that is called `wanted`, with or without its tag, or of a container made of it.
fn is_of_image(line: &Value, wanted: &str) -> bool {
    let actor = &line["Actor"];
    let key = if line["Type"] == "container" { "image" } else { "name" };
    let names = [&actor["ID"], &actor["Attributes"][key]];
    names.iter().filter_map(|name| name.as_str()).any(|name| {
        let slash = name.rfind('/').map_or(0, |slash| slash + 1);
        let bare = name[slash..].find([':', '@']).map_or(name, |colon| &name[..slash + colon]);
        name == wanted || bare == wanted
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::Id;
    use crate::engine::pod::{PodState, sample};

    fn event(kind: Kind, subject: Id) -> Event {
        let mut pod = sample(&Id::random().unwrap(), PodState::NotReady);
        pod.config.name.name = "web".into();
        pod.config.kind = kind;
        pod.config.labels = [("a".into(), "1".into())].into();
        let (sequence, at_ns) = (1, 5_000_000_000);
        Event {
            sequence,
            at_ns,
            kind: EventKind::Started,
            subject,
            pod: Arc::new(pod),
            containers: Vec::new(),
            place: None,
        }
    }

    #[test]
    fn only_containers_without_a_pod_are_told() {
        let id = Id::random().unwrap();
        let one = Kind::One { container: id.clone(), auto_remove: false };
        let line = &told(&event(one.clone(), id.clone()))[0].line;
        assert_eq!((&line["Action"], &line["time"]), (&json!("start"), &json!(5)));
        assert_eq!(line["Actor"]["Attributes"]["name"], "web");
        assert!(told(&event(one, Id::random().unwrap())).is_empty());
        assert!(told(&event(Kind::Pod, id)).is_empty());
    }

    #[test]
    fn an_image_is_known_by_its_names() {
        let told = |id: &str, name: &str| {
            let name = [("name".to_owned(), json!(name))];
            Notice::new("image", "pull", id, name.into_iter().collect(), 0).line
        };
        let hub = told("busybox:1", "busybox");
        let other = told("h:5000/a@sha256:0", "h:5000/a@sha256:0");
        for (line, wanted, expected) in [
            (&hub, "busybox", true),
            (&hub, "busybox:1", true),
            (&hub, "busybox:2", false),
            (&other, "h:5000/a", true),
            (&other, "h", false),
        ] {
            assert_eq!(is_of_image(line, wanted), expected, "{wanted}");
        }
    }

    #[test]
    fn filters_choose() {
        let id = Id::random().unwrap();
        let line = told(&event(Kind::One { container: id.clone(), auto_remove: false }, id)).remove(0).line;
        for (filters, expected) in [
            (r#"{"type":["container"],"event":["start"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"label":["a=1"]}"#, true),
            (r#"{"type":["image"]}"#, false),
        ] {
            assert_eq!(fits(&line, &Filters::parse(filters, KNOWN).unwrap()), expected, "{filters}");
        }
    }
}
