//! What a request means in a state: pure functions.

use super::command::Verb;
use crate::engine::container::{Container, ContainerState};
use crate::engine::error::EngineError;
use crate::engine::pod::{Pod, PodState};

/// What to do about a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Begin the operation.
    Begin,
    /// It is so already.
    Done,
    /// It cannot be.
    Refuse(Box<EngineError>),
}

/// Judges a request about the pod itself.
pub(super) fn pod(pod: &Pod, verb: &Verb) -> Verdict {
    match (verb, pod.state) {
        (Verb::RunPod, PodState::Creating) | (Verb::StopPod | Verb::RemovePod, _) => Verdict::Begin,
        (Verb::RunPod, PodState::Ready { .. }) => Verdict::Done,
        (Verb::RunPod, PodState::NotReady) if pod.config.kind.is_one() => Verdict::Begin,
        (Verb::Join(_) | Verb::Leave(_), PodState::Ready { .. } | PodState::NotReady)
            if pod.config.kind.is_one() && pod.config.owns_network() =>
        {
            Verdict::Begin
        }
        (Verb::Join(_) | Verb::Leave(_), _) => refuse(
            "change the networks of",
            format!("pod {}", pod.id),
            pod.state.name(),
            "only containers with a network namespace of their own have networks",
        ),
        (Verb::RunPod, _) => refuse(
            "run",
            format!("pod {}", pod.id),
            pod.state.name(),
            "remove it first, or raise the attempt in its metadata",
        ),
        _ => unreachable!("containers' verbs are judged by `container`"),
    }
}

/// Judges a change of what a pod is said to need. It has no effect besides the record's, so it waits for nothing.
pub(super) fn resize(pod: &Pod) -> Result<(), EngineError> {
    match pod.state {
        PodState::Ready { .. } | PodState::NotReady => Ok(()),
        PodState::Creating | PodState::Removing => Err(EngineError::WrongState {
            action: "change the resources of",
            object: format!("pod {}", pod.id),
            state: pod.state.name(),
            remedy: "only pods that are there to stay have resources to change",
        }),
    }
}

/// Judges a request about a container of `pod`.
pub(super) fn container(pod: &Pod, container: &Container, verb: &Verb) -> Verdict {
    let object = || format!("container {}", container.id);
    let state = &container.state;
    match (verb, state) {
        (Verb::Create, ContainerState::Creating) => match pod.state {
            PodState::Ready { .. } => Verdict::Begin,
            PodState::NotReady if pod.config.kind.is_one() => Verdict::Begin,
            other => refuse(
                "create a container in",
                format!("pod {}", pod.id),
                other.name(),
                "containers are created in ready pods only",
            ),
        },
        (Verb::Create, _) => Verdict::Done,
        (Verb::Start, state) if may_start(pod, state) => match pod.state {
            PodState::Ready { .. } => Verdict::Begin,
            other => refuse(
                "start a container of",
                format!("pod {}", pod.id),
                other.name(),
                "containers are started in ready pods only",
            ),
        },
        (Verb::Start, _) => refuse(
            "start",
            object(),
            state.name(),
            "a container is started once; create another one to run it again",
        ),
        (Verb::Stop { .. }, ContainerState::Running { .. } | ContainerState::Paused { .. })
        | (Verb::Remove, _)
        | (Verb::Pause, ContainerState::Running { .. })
        | (Verb::Resume, ContainerState::Paused { .. }) => Verdict::Begin,
        (Verb::Stop { .. }, _) => Verdict::Done,
        (Verb::Pause, _) => refuse("pause", object(), state.name(), "only what runs can be paused"),
        (Verb::Resume, _) => refuse("resume", object(), state.name(), "only what is paused can go on"),
        (
            Verb::Update(_),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Paused { .. },
        ) => Verdict::Begin,
        (Verb::Checkpoint(_), ContainerState::Running { .. }) => Verdict::Begin,
        (Verb::Checkpoint(_), _) => {
            refuse("checkpoint", object(), state.name(), "only running containers have processes")
        }
        (Verb::Update(_), _) => refuse(
            "update",
            object(),
            state.name(),
            "only created and running containers have limits to change",
        ),
        _ => unreachable!("pods' verbs are judged by `pod`"),
    }
}

/// A pod's container is started once; one without a pod again and again.
fn may_start(pod: &Pod, state: &ContainerState) -> bool {
    match state {
        ContainerState::Created => true,
        ContainerState::Exited(_) => pod.config.kind.is_one(),
        _ => false,
    }
}

/// Whether a second request may wait for the first one's result instead of being carried out itself.
pub(super) fn joins(running: &Verb, request: &Verb) -> bool {
    match (running, request) {
        (Verb::Update(one), Verb::Update(other)) => one == other,
        (Verb::Checkpoint(one), Verb::Checkpoint(other)) => one.location == other.location,
        (Verb::Join(one), Verb::Join(other)) => one == other,
        (Verb::Leave(one), Verb::Leave(other)) => one == other,
        (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
    }
}

/// Whether a request makes it pointless to go on with a running operation as it is: a start is given up, a stop no longer
/// waits for the program to end by itself.
pub(crate) fn supersedes(running: &Verb, request: &Verb) -> bool {
    matches!(running, Verb::Start | Verb::Stop { .. })
        && matches!(request, Verb::Stop { .. } | Verb::Remove | Verb::StopPod | Verb::RemovePod)
}

fn refuse(action: &'static str, object: String, state: &'static str, remedy: &'static str) -> Verdict {
    Verdict::Refuse(Box::new(EngineError::WrongState { action, object, state, remedy }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::model::{Id, Place, PlaceIn, Resources};
    use crate::engine::pod::sample;

    const STOP: Verb = Verb::Stop { grace: Duration::from_secs(600), signal: None };

    #[test]
    fn what_is_to_go_does_not_wait_for_what_it_makes_pointless() {
        for request in [Verb::Remove, Verb::StopPod, Verb::RemovePod] {
            assert!(supersedes(&STOP, &request) && supersedes(&Verb::Start, &request), "{request:?}");
            assert!(
                !supersedes(&Verb::Create, &request) && !supersedes(&Verb::RunPod, &request),
                "{request:?}"
            );
        }
        assert!(supersedes(&Verb::Start, &STOP));
        assert!(!supersedes(&STOP, &Verb::Update(Box::default())));
    }

    #[test]
    fn a_pod_that_comes_or_goes_has_no_resources_to_change() {
        let judged = |state| resize(&sample(&Id::random().unwrap(), state)).is_ok();
        let ready = PodState::Ready { pause_pid: None };
        let all = [ready, PodState::NotReady, PodState::Creating, PodState::Removing];
        assert_eq!(all.map(judged), [true, true, false, false]);
    }

    #[test]
    fn a_request_joins_the_same_one_only() {
        let limits = |cpu_shares| Verb::Update(Box::new(Resources { cpu_shares, ..Resources::default() }));
        assert!(joins(&STOP, &Verb::Stop { grace: Duration::ZERO, signal: Some(2) }));
        assert!(joins(&limits(Some(2)), &limits(Some(2))));
        assert!(!joins(&limits(Some(2)), &limits(Some(3))));
        assert!(!joins(&Verb::StopPod, &Verb::RemovePod));
        let place = |name: &str| Verb::Join(Place::plain(PlaceIn::Named(name.to_owned())));
        assert!(joins(&place("n1"), &place("n1")) && !joins(&place("n1"), &place("n2")));
    }
}
