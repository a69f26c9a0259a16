//! Annotations by which runtimes, hooks and monitoring tools know what a specification is for: the names containerd
//! gives, which Kata and device hooks read, and those of CRI-O's that tools look for.
//!
//! Their values describe; nothing is decided by them. No annotation of the client's is among them.

use std::collections::HashMap;

use super::{ContainerFacts, PodFacts};

/// The annotations of a pause process.
pub(super) fn of_pause(pod: &PodFacts<'_>) -> HashMap<String, String> {
    annotations(pod, "sandbox", [])
}

/// The annotations of a container.
pub(super) fn of_container(pod: &PodFacts<'_>, facts: &ContainerFacts<'_>) -> HashMap<String, String> {
    let image = &facts.config.image;
    let image = if image.user_specified.is_empty() { &image.requested } else { &image.user_specified };
    let own = [
        ("io.kubernetes.cri.container-name", facts.config.name.as_str()),
        ("io.kubernetes.cri.image-name", image.as_str()),
        ("io.kubernetes.cri-o.ContainerID", facts.id.as_str()),
    ];
    annotations(pod, "container", own)
}

fn annotations<const N: usize>(
    pod: &PodFacts<'_>,
    kind: &str,
    own: [(&str, &str); N],
) -> HashMap<String, String> {
    let name = &pod.config.name;
    let shared = [
        ("io.kubernetes.cri.container-type", kind),
        ("io.kubernetes.cri.sandbox-id", pod.id.as_str()),
        ("io.kubernetes.cri.sandbox-name", name.name.as_str()),
        ("io.kubernetes.cri.sandbox-namespace", name.namespace.as_str()),
        ("io.kubernetes.cri.sandbox-uid", name.uid.as_str()),
        ("io.kubernetes.cri-o.ContainerType", kind),
        ("io.kubernetes.cri-o.SandboxID", pod.id.as_str()),
    ];
    shared.into_iter().chain(own).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture::Scene;

    #[test]
    fn what_clients_annotate_stays_with_them() {
        let mut scene = Scene::default();
        for map in [&mut scene.pod.annotations, &mut scene.container.annotations, &mut scene.container.labels]
        {
            map.insert("run.oci.handler".into(), "evil".into());
            map.insert("io.kubernetes.cri.container-type".into(), "sandbox".into());
        }
        scene.container.name = "web".into();
        scene.container.image.requested = "sha256:1".into();
        let of_container = of_container(&scene.pod_facts(), &scene.container_facts());
        assert!(!of_container.contains_key("run.oci.handler"));
        assert_eq!(of_container["io.kubernetes.cri.container-type"], "container");
        assert_eq!(of_container["io.kubernetes.cri.container-name"], "web");
        assert_eq!(of_container["io.kubernetes.cri.image-name"], "sha256:1");
        assert_eq!(of_container["io.kubernetes.cri-o.ContainerID"], scene.container_id.as_str());
        assert_eq!(of_container["io.kubernetes.cri.sandbox-id"], scene.pod_id.as_str());
        let of_pause = of_pause(&scene.pod_facts());
        assert_eq!(of_pause["io.kubernetes.cri.container-type"], "sandbox");
        assert!(!of_pause.contains_key("io.kubernetes.cri.container-name"));
    }
}
