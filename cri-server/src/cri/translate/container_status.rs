//! A container as lists and statuses show it.

use std::cmp::Reverse;
use std::sync::Arc;

use cleat_cri_api::v1::{self, ContainerAttributes, ContainerStatus, ContainerUser, LinuxContainerUser};

use super::field::map;
use super::{container, mount, resources, signal};
use crate::engine::container::{Container, ContainerState};
use crate::engine::model::Identity;

/// A container's state in the CRI's words.
pub(in crate::cri) fn state(state: &ContainerState) -> v1::ContainerState {
    match state {
        ContainerState::Creating | ContainerState::Created | ContainerState::Starting => {
            v1::ContainerState::ContainerCreated
        }
        ContainerState::Running { .. } | ContainerState::Paused { .. } => {
            v1::ContainerState::ContainerRunning
        }
        ContainerState::Exited(_) => v1::ContainerState::ContainerExited,
    }
}

/// A container in a list.
pub(in crate::cri) fn item(container: &Container) -> v1::Container {
    v1::Container {
        id: container.id.to_string(),
        pod_sandbox_id: container.pod.to_string(),
        metadata: Some(container::metadata(&container.config)),
        image: Some(container::image_spec(&container.config.image)),
        image_ref: container.image.reference.clone(),
        state: state(&container.state) as i32,
        created_at: container.created_at_ns,
        labels: map(&container.config.labels),
        annotations: map(&container.config.annotations),
        image_id: container.image.id.clone(),
    }
}

/// A container's status.
pub(in crate::cri) fn status(container: &Container) -> ContainerStatus {
    let life = Life::of(&container.state);
    let config = &container.config;
    ContainerStatus {
        id: container.id.to_string(),
        metadata: Some(container::metadata(config)),
        state: state(&container.state) as i32,
        created_at: container.created_at_ns,
        started_at: life.started_at_ns,
        finished_at: life.finished_at_ns,
        exit_code: life.exit_code,
        image: Some(container::image_spec(&config.image)),
        image_ref: container.image.reference.clone(),
        reason: life.reason,
        message: life.message,
        labels: map(&config.labels),
        annotations: map(&config.annotations),
        mounts: config.mounts.iter().filter_map(mount::report).collect(),
        log_path: container.log_path.as_deref().map(mount::text).unwrap_or_default(),
        resources: Some(resources::report(&container.resources)),
        image_id: container.image.id.clone(),
        user: Some(user(&container.identity)),
        stop_signal: signal::name(container.stop_signal) as i32,
    }
}

/// The statuses of a pod's containers, the newest first: a kubelet that follows events takes the first one of a name for
/// the last (its `GetPodStatus` sorts only without EventedPLEG), and would repeat an attempt.
pub(in crate::cri) fn statuses<'a>(
    containers: impl IntoIterator<Item = &'a Arc<Container>>,
) -> Vec<ContainerStatus> {
    let mut statuses: Vec<_> = containers.into_iter().map(|container| status(container)).collect();
    statuses.sort_by_key(|status| Reverse(status.created_at));
    statuses
}

/// Whom a container's figures are about.
pub(super) fn attributes(container: &Container) -> ContainerAttributes {
    ContainerAttributes {
        id: container.id.to_string(),
        metadata: Some(container::metadata(&container.config)),
        labels: map(&container.config.labels),
        annotations: map(&container.config.annotations),
    }
}

/// What a status says about a container's life: zeros and nothing for what has not happened.
#[derive(Default)]
struct Life {
    started_at_ns: i64,
    finished_at_ns: i64,
    exit_code: i32,
    reason: String,
    message: String,
}

impl Life {
    fn of(state: &ContainerState) -> Self {
        match state {
            ContainerState::Running { started_at_ns, .. } | ContainerState::Paused { started_at_ns, .. } => {
                Self { started_at_ns: *started_at_ns, ..Self::default() }
            }
            ContainerState::Exited(exit) => Self {
                started_at_ns: exit.started_at_ns,
                finished_at_ns: exit.finished_at_ns,
                exit_code: exit.code,
                reason: exit.reason.to_string(),
                message: exit.message.clone(),
            },
            ContainerState::Creating | ContainerState::Created | ContainerState::Starting => Self::default(),
        }
    }
}

fn user(identity: &Identity) -> ContainerUser {
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: identity.uid.into(),
            gid: identity.gid.into(),
            supplemental_groups: identity.groups.iter().map(|group| i64::from(*group)).collect(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::Signal;

    use super::*;
    use crate::cri::translate::samples;
    use crate::engine::container::{Exit, ExitReason};

    fn exited() -> ContainerState {
        let message = "out of memory".to_owned();
        ContainerState::Exited(Exit {
            code: 137,
            reason: ExitReason::OomKilled,
            message,
            started_at_ns: 8,
            finished_at_ns: 9,
        })
    }

    #[test]
    fn states_and_times() {
        for (state, expected, times, code) in [
            (ContainerState::Creating, v1::ContainerState::ContainerCreated, (0, 0), 0),
            (ContainerState::Created, v1::ContainerState::ContainerCreated, (0, 0), 0),
            (ContainerState::Starting, v1::ContainerState::ContainerCreated, (0, 0), 0),
            (
                ContainerState::Running { pid: 1, started_at_ns: 8 },
                v1::ContainerState::ContainerRunning,
                (8, 0),
                0,
            ),
            (exited(), v1::ContainerState::ContainerExited, (8, 9), 137),
        ] {
            let status = status(&Container { state: state.clone(), ..samples::container() });
            assert_eq!(status.state, expected as i32, "{state:?}");
            assert_eq!((status.started_at, status.finished_at, status.exit_code), (times.0, times.1, code));
        }
    }

    #[test]
    fn the_newest_container_of_a_pod_is_told_first() {
        let of = |created_at_ns| Arc::new(Container { created_at_ns, ..samples::container() });
        let told: Vec<_> = statuses(&[of(2), of(3), of(1)]).iter().map(|status| status.created_at).collect();
        assert_eq!(told, [3, 2, 1]);
    }

    #[test]
    fn an_exit_is_explained() {
        let status = status(&Container { state: exited(), ..samples::container() });
        assert_eq!((status.reason.as_str(), status.message.as_str()), ("OOMKilled", "out of memory"));
    }

    #[test]
    fn a_status_has_every_field() {
        let status = status(&samples::container());
        let image = status.image.unwrap();
        assert_eq!((image.image.as_str(), status.image_id.as_str()), ("busybox:1", "sha256:1"));
        assert_eq!(status.image_ref, "docker.io/library/busybox@sha256:2");
        assert_eq!((status.labels["k"].as_str(), status.annotations["a"].as_str()), ("v", "b"));
        assert_eq!(status.log_path, "/var/log/pods/x/app/1.log");
        assert_eq!(status.resources.unwrap().linux.unwrap().cpu_shares, 512);
        assert_eq!(status.stop_signal, Signal::Sigquit as i32);
        let user = status.user.unwrap().linux.unwrap();
        assert_eq!((user.uid, user.gid, user.supplemental_groups), (1000, 2000, vec![10, 2000]));
    }

    #[test]
    fn a_list_item_says_what_the_status_says() {
        let container = samples::container();
        let (item, status) = (item(&container), status(&container));
        assert_eq!((item.id, item.metadata, item.state), (status.id, status.metadata, status.state));
        assert_eq!(
            (item.image, item.image_ref, item.image_id),
            (status.image, status.image_ref, status.image_id)
        );
        assert_eq!(item.pod_sandbox_id, container.pod.to_string());
    }
}
