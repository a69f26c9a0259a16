//! A pod and a container for the tests of this folder.

use crate::engine::container::{Container, ContainerState, ImageUse};
use crate::engine::model::{
    ContainerConfig, Id, Identity, ImageChoice, PodConfig, PodName, PodResources, Resources,
};
use crate::engine::pod::{Pod, PodState};
use crate::engine::restart::Restarts;

/// An id of one digit.
pub(super) fn id(digit: char) -> Id {
    Id::try_from(digit.to_string().repeat(64)).unwrap()
}

/// A ready pod `aaa…` with two addresses.
pub(super) fn pod() -> Pod {
    let name = PodName { name: "web".into(), namespace: "default".into(), uid: "u-1".into(), attempt: 2 };
    let labels = [("app".to_owned(), "web".to_owned())].into();
    Pod {
        id: id('a'),
        config: PodConfig { name, labels, runtime_handler: "runc".into(), ..PodConfig::default() },
        resized: PodResources::default(),
        created_at_ns: 5,
        cgroup: "/pods/a".into(),
        ports: Vec::new(),
        joined: Vec::new(),
        addresses: vec!["10.1.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
        state: PodState::Ready { pause_pid: Some(7) },
    }
}

/// A running container `ccc…` of that pod.
pub(super) fn container() -> Container {
    let config = ContainerConfig {
        name: "app".into(),
        attempt: 1,
        image: ImageChoice { requested: "sha256:1".into(), user_specified: "busybox:1".into() },
        labels: [("k".to_owned(), "v".to_owned())].into(),
        annotations: [("a".to_owned(), "b".to_owned())].into(),
        ..ContainerConfig::default()
    };
    Container {
        id: id('c'),
        is_alone: false,
        pod: id('a'),
        config,
        image: ImageUse { id: "sha256:1".into(), reference: "docker.io/library/busybox@sha256:2".into() },
        identity: Identity { uid: 1000, gid: 2000, groups: vec![10, 2000], home: None },
        created_at_ns: 6,
        cgroup: "/pods/a/c".into(),
        log_path: Some("/var/log/pods/x/app/1.log".into()),
        stop_signal: 3,
        resources: Resources { cpu_shares: Some(512), ..Resources::default() },
        restarts: Restarts::default(),
        health: None,
        state: ContainerState::Running { pid: 9, started_at_ns: 8 },
    }
}
