//! `GET /events`: what happens to Docker's containers, as it is committed, and what has happened of late.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio_stream::StreamExt as _;

use super::Door;
use super::containers::describe;
use super::dispatch::Ask;
use super::refusal::{Answer, Refusal};
use super::wire::{Filters, Lines, lines, now_ns, seconds};
use crate::engine::container::ContainerState;
use crate::engine::model::Kind;
use crate::engine::{Event, EventKind, Subscription};

/// What events are filtered by.
const KNOWN: &[&str] = &["container", "event", "image", "label", "scope", "type"];

const NS_PER_SECOND: i64 = 1_000_000_000;

/// Tells what is kept of the time since `since`, then events as they come, until `until` or until the client leaves.
pub(super) fn events(door: &Arc<Door>, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    let (since, until) = (moment(ask, "since")?, moment(ask, "until")?);
    let (past, happened) = match since {
        Some(since) => door.engine.subscribe_since(since),
        None => (Vec::new(), door.engine.subscribe()),
    };
    let (to, response) = lines();
    let teller = Teller { filters, until, to };
    door.run(teller.tell(past, happened));
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

/// Who tells a client events.
struct Teller {
    filters: Filters,
    until: Option<i64>,
    to: Lines,
}

impl Teller {
    async fn tell(mut self, past: Vec<Arc<Event>>, mut happened: Subscription) {
        for event in past {
            if !self.send(&event).await {
                return;
            }
        }
        let left =
            self.until.map(|until| Duration::from_nanos(u64::try_from(until - now_ns()).unwrap_or_default()));
        let end = async {
            match left {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(end);
        loop {
            let event = tokio::select! {
                event = happened.next() => event,
                () = &mut end => return,
                () = self.to.closed() => return,
            };
            let is_read = match event {
                Some(Ok(event)) => self.send(&event).await,
                // The client is told by the end: it has to list anew.
                Some(Err(missed)) => return tracing::warn!("a reader of events is too slow: {missed}"),
                None => return,
            };
            if !is_read {
                return;
            }
        }
    }

    /// Tells an event that the client wants; whether the client is still there.
    async fn send(&mut self, event: &Event) -> bool {
        let is_late = self.until.is_some_and(|until| event.at_ns > until);
        match line(event).filter(|line| !is_late && fits(line, &self.filters)) {
            Some(line) => self.to.send(&line).await,
            None => true,
        }
    }
}

/// An event of a container without a pod, as Docker's clients read it.
fn line(event: &Event) -> Option<Value> {
    let Kind::One { container, .. } = &event.pod.config.kind else { return None };
    if event.subject != *container {
        return None;
    }
    let action = match event.kind {
        EventKind::Created => "create",
        EventKind::Started => "start",
        EventKind::Stopped => "die",
        EventKind::Deleted => "destroy",
        EventKind::Paused => "pause",
        EventKind::Resumed => "unpause",
        EventKind::Renamed => "rename",
    };
    let image = describe::requested_image(&event.pod);
    let labels = event.pod.config.labels.iter().map(|(key, value)| (key.clone(), json!(value)));
    let mut attributes: Map<String, Value> = labels.collect();
    attributes.insert("image".into(), json!(image));
    attributes.insert("name".into(), json!(event.pod.config.name.name));
    let state = event.containers.iter().find(|one| one.id == *container).map(|one| &one.state);
    if let (EventKind::Stopped, Some(ContainerState::Exited(exit))) = (event.kind, state) {
        attributes.insert("exitCode".into(), json!(exit.code.to_string()));
    }
    Some(json!({
        "status": action, "id": container.to_string(), "from": image,
        "Type": "container", "Action": action, "Actor": {"ID": container.to_string(), "Attributes": attributes},
        "scope": "local", "time": event.at_ns / NS_PER_SECOND, "timeNano": event.at_ns,
    }))
}

fn fits(line: &Value, filters: &Filters) -> bool {
    let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
        filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
    };
    let attributes = &line["Actor"]["Attributes"];
    any("type", &|value| line["Type"] == value)
        && any("event", &|value| line["Action"] == value)
        && any("scope", &|value| line["scope"] == value)
        && any("image", &|value| attributes["image"] == value)
        && any("container", &|value| {
            attributes["name"] == value || line["id"].as_str().is_some_and(|id| id.starts_with(value))
        })
        && filters.fits_labels(|key| attributes[key].as_str())
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
        let (sequence, at_ns) = (1, 5 * NS_PER_SECOND);
        Event {
            sequence,
            at_ns,
            kind: EventKind::Started,
            subject,
            pod: Arc::new(pod),
            containers: Vec::new(),
        }
    }

    #[test]
    fn only_containers_without_a_pod_are_told() {
        let id = Id::random().unwrap();
        let one = Kind::One { container: id.clone(), auto_remove: false };
        let told = line(&event(one.clone(), id.clone())).unwrap();
        assert_eq!((&told["Action"], &told["time"]), (&json!("start"), &json!(5)));
        assert_eq!(told["Actor"]["Attributes"]["name"], "web");
        assert!(line(&event(one, Id::random().unwrap())).is_none());
        assert!(line(&event(Kind::Pod, id)).is_none());
    }

    #[test]
    fn filters_choose() {
        let id = Id::random().unwrap();
        let told = line(&event(Kind::One { container: id.clone(), auto_remove: false }, id)).unwrap();
        for (filters, expected) in [
            (r#"{"type":["container"],"event":["start"]}"#, true),
            (r#"{"event":["die"]}"#, false),
            (r#"{"container":["web"]}"#, true),
            (r#"{"label":["a=1"]}"#, true),
            (r#"{"type":["image"]}"#, false),
        ] {
            assert_eq!(fits(&told, &Filters::parse(filters, KNOWN).unwrap()), expected, "{filters}");
        }
    }
}
