//! What the engine tells of containers, their places in networks, and volumes, as lines of `/events`. Pure.

use std::sync::Arc;

use serde_json::json;

use super::containers::{describe, exec_action, health};
use super::networks;
use super::notices::{Attributes, Notice};
use super::wire::familiar;
use crate::engine::container::{Container, ContainerState};
use crate::engine::model::{Kind, MountSource};
use crate::engine::{Deed, DeedKind, Event, EventKind};

/// An event of a container without a pod, as Docker's clients read it: a probe is an exec to them.
pub(super) fn told(event: &Event) -> Vec<Notice> {
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
        EventKind::Started => {
            let mounted = of_volumes(event, container, true);
            return mounted.into_iter().chain([notice("start", &[])]).collect();
        }
        EventKind::Stopped => {
            let died = [notice("die", &exit(container))];
            return died.into_iter().chain(of_volumes(event, container, false)).collect();
        }
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

/// A place in a network that came or went: the network is what it is about.
fn place_notice(action: &str, event: &Event) -> Option<Notice> {
    let place = event.place.as_ref()?;
    let id = place.network.as_ref().map_or_else(networks::default_id, ToString::to_string);
    let attributes = networks::attributes(&place.name, Some(&event.subject));
    Some(Notice::new("network", action, &id, attributes, event.at_ns))
}

/// What an action has besides what its container has.
type Details = Vec<(&'static str, String)>;

fn exit(container: Option<&Arc<Container>>) -> Details {
    match container.map(|container| &container.state) {
        Some(ContainerState::Exited(exit)) => vec![("exitCode", exit.code.to_string())],
        _ => Vec::new(),
    }
}

/// The container's volumes are mounted, or no longer.
fn of_volumes(event: &Event, container: Option<&Arc<Container>>, is_mounted: bool) -> Vec<Notice> {
    let Some(container) = container else { return Vec::new() };
    let told = container.config.mounts.iter().filter_map(|mount| {
        let MountSource::Volume { name, .. } = &mount.source else { return None };
        let mut attributes = of_volume();
        attributes.insert("container".into(), json!(container.id.as_str()));
        if is_mounted {
            attributes.insert("destination".into(), json!(mount.destination));
            attributes.insert("propagation".into(), json!(""));
            attributes.insert("read/write".into(), json!((!mount.read_only).to_string()));
        }
        let action = if is_mounted { "mount" } else { "unmount" };
        Some(Notice::new("volume", action, name, attributes, event.at_ns))
    });
    told.collect()
}

/// What is told of every volume.
fn of_volume() -> Attributes {
    [("driver".to_owned(), json!("local"))].into_iter().collect()
}

/// What the engine has done beside its commits.
pub(super) fn of_deed(deed: &Deed) -> Notice {
    let volume = |action, name: &str| Notice::new("volume", action, name, of_volume(), deed.at_ns);
    match &deed.kind {
        DeedKind::VolumeMade(name) => volume("create", name),
        DeedKind::VolumeRemoved(name) => volume("destroy", name),
        DeedKind::Committed { container, group, image, name, comment } => {
            let mut attributes = describe::attributes(group);
            attributes.insert("comment".into(), json!(comment));
            attributes.insert("imageID".into(), json!(image.id.to_string()));
            attributes.insert("imageRef".into(), json!(name.as_ref().map(familiar).unwrap_or_default()));
            Notice::new("container", "commit", container.as_str(), attributes, deed.at_ns)
        }
        DeedKind::Killed { container, group } => {
            let mut attributes = describe::attributes(group);
            attributes.insert("signal".into(), json!(nix::libc::SIGKILL.to_string()));
            Notice::new("container", "kill", container.as_str(), attributes, deed.at_ns)
        }
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::model::Id;
    use crate::engine::pod::{PodState, sample};

    pub(in crate::docker) fn event(kind: Kind, subject: Id) -> Event {
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
}
