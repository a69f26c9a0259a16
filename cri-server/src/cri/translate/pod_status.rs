//! A pod as lists and statuses show it.

use cleat_cri_api::v1::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxAttributes, PodSandboxNetworkStatus,
    PodSandboxState, PodSandboxStatus,
};

use super::field::map;
use super::{namespace, pod};
use crate::engine::pod::{Pod, PodState};

/// A pod's state in the CRI's two words.
pub(in crate::cri) fn state(state: PodState) -> PodSandboxState {
    if matches!(state, PodState::Ready { .. }) {
        PodSandboxState::SandboxReady
    } else {
        PodSandboxState::SandboxNotready
    }
}

/// A pod in a list.
pub(in crate::cri) fn item(pod: &Pod) -> PodSandbox {
    PodSandbox {
        id: pod.id.to_string(),
        metadata: Some(pod::metadata(&pod.config.name)),
        state: state(pod.state) as i32,
        created_at: pod.created_at_ns,
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
        runtime_handler: pod.config.runtime_handler.clone(),
    }
}

/// A pod's status.
pub(in crate::cri) fn status(pod: &Pod) -> PodSandboxStatus {
    let options = namespace::options(&pod.config.namespaces);
    PodSandboxStatus {
        id: pod.id.to_string(),
        metadata: Some(pod::metadata(&pod.config.name)),
        state: state(pod.state) as i32,
        created_at: pod.created_at_ns,
        network: Some(network(pod)),
        linux: Some(LinuxPodSandboxStatus { namespaces: Some(Namespace { options: Some(options) }) }),
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
        runtime_handler: pod.config.runtime_handler.clone(),
    }
}

/// Whom a pod's figures are about.
pub(super) fn attributes(pod: &Pod) -> PodSandboxAttributes {
    PodSandboxAttributes {
        id: pod.id.to_string(),
        metadata: Some(pod::metadata(&pod.config.name)),
        labels: map(&pod.config.labels),
        annotations: map(&pod.config.annotations),
    }
}

/// Addresses, while they are the pod's: those of a stopped one may be another's by now.
fn network(pod: &Pod) -> PodSandboxNetworkStatus {
    let own = matches!(pod.state, PodState::Ready { .. });
    let mut addresses = pod.addresses.iter().filter(|_| own).map(ToString::to_string);
    PodSandboxNetworkStatus {
        ip: addresses.next().unwrap_or_default(),
        additional_ips: addresses.map(|ip| PodIp { ip }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::NamespaceMode;

    use super::*;
    use crate::cri::translate::samples;

    #[test]
    fn only_a_ready_pod_is_ready_and_has_addresses() {
        for (state, ready, ip) in [
            (PodState::Creating, false, ""),
            (PodState::Ready { pause_pid: Some(7) }, true, "10.1.2.3"),
            (PodState::NotReady, false, ""),
        ] {
            let status = status(&Pod { state, ..samples::pod() });
            assert_eq!(status.state == PodSandboxState::SandboxReady as i32, ready, "{state:?}");
            assert_eq!(status.network.unwrap().ip, ip, "{state:?}");
        }
    }

    #[test]
    fn a_status_has_every_field() {
        let status = status(&samples::pod());
        let metadata = status.metadata.unwrap();
        assert_eq!((status.id.len(), status.created_at, status.runtime_handler.as_str()), (64, 5, "runc"));
        assert_eq!((metadata.name.as_str(), metadata.namespace.as_str()), ("web", "default"));
        assert_eq!((metadata.uid.as_str(), metadata.attempt), ("u-1", 2));
        assert_eq!(status.labels["app"], "web");
        assert_eq!(status.network.unwrap().additional_ips, [PodIp { ip: "fd00::3".into() }]);
        let options = status.linux.unwrap().namespaces.unwrap().options.unwrap();
        assert_eq!(options.pid, NamespaceMode::Container as i32);
    }

    #[test]
    fn a_list_item_says_what_the_status_says() {
        let (item, status) = (item(&samples::pod()), status(&samples::pod()));
        assert_eq!((item.id, item.metadata, item.state), (status.id, status.metadata, status.state));
        assert_eq!((item.created_at, item.labels), (status.created_at, status.labels));
    }
}
