//! What happened to a pod or container, as the kubelet is told.

use cleat_cri_api::v1::{ContainerEventResponse, ContainerEventType, PodSandboxState};

use super::{container_status, pod_status};
use crate::engine::{Event, EventKind};

/// An event with the statuses of the pod and its containers right after it, so that nobody has to ask for them; none of
/// what the CRI has no word for.
pub(in crate::cri) fn event(event: &Event) -> Option<ContainerEventResponse> {
    let kind = kind(event.kind)?;
    let mut pod = pod_status::status(&event.pod);
    if event.kind == EventKind::Deleted && event.subject == event.pod.id {
        // A removal stops: what is told is the pod's last state, which may have been ready.
        pod.state = PodSandboxState::SandboxNotready as i32;
    }
    Some(ContainerEventResponse {
        container_id: event.subject.to_string(),
        container_event_type: kind as i32,
        created_at: event.at_ns,
        pod_sandbox_status: Some(pod),
        containers_statuses: container_status::statuses(&event.containers),
    })
}

fn kind(kind: EventKind) -> Option<ContainerEventType> {
    Some(match kind {
        EventKind::Created => ContainerEventType::ContainerCreatedEvent,
        EventKind::Started => ContainerEventType::ContainerStartedEvent,
        EventKind::Stopped => ContainerEventType::ContainerStoppedEvent,
        EventKind::Deleted => ContainerEventType::ContainerDeletedEvent,
        EventKind::Paused
        | EventKind::Resumed
        | EventKind::Renamed
        | EventKind::ProbeBegan
        | EventKind::ProbeEnded
        | EventKind::Joined
        | EventKind::Left
        | EventKind::HealthChanged => return None,
    })
}
