//! What an archive tells of its container, in the words of CRI-O. Pure.
//!
//! `config.dump` is what `checkpointctl` shows, `spec.dump` the OCI specification with annotations by which CRI-O makes
//! the container anew, `network.status` the pod's addresses in the form that podman writes.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::engine::container::Container;
use crate::engine::pod::Pod;
use crate::time::rfc3339;

/// Whom to tell of.
pub(super) struct Told<'a> {
    pub(super) pod: &'a Pod,
    pub(super) container: &'a Container,
    /// Nanoseconds since the Unix epoch.
    pub(super) checkpointed_at_ns: i64,
}

/// A moment that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// The documents by their names in the archive. `spec` is the container's OCI specification, `deleted` what it removed of
/// its image.
pub(super) fn all(
    told: &Told<'_>,
    spec: &[u8],
    deleted: &[String],
) -> serde_json::Result<Vec<(&'static str, Vec<u8>)>> {
    let mut spec: Value = serde_json::from_slice(spec)?;
    spec["annotations"] = annotations(told).into();
    [
        ("config.dump", config(told)),
        ("spec.dump", spec),
        ("network.status", network(told.pod)),
        (super::DELETED, json!(deleted)),
    ]
    .into_iter()
    .map(|(name, document)| Ok((name, serde_json::to_vec_pretty(&document)?)))
    .collect()
}

fn config(told: &Told<'_>) -> Value {
    let container = told.container;
    let choice = &container.config.image;
    let named = [&choice.user_specified, &choice.requested].into_iter().find(|name| !name.is_empty());
    json!({
        "id": container.id.to_string(),
        "name": container.config.name,
        "rootfsImage": named.unwrap_or(&container.image.reference),
        "rootfsImageRef": container.image.id,
        "rootfsImageName": container.image.reference,
        "runtime": "cleat-runtime",
        "createdTime": rfc3339(container.created_at_ns),
        "checkpointedTime": rfc3339(told.checkpointed_at_ns),
        "restoredTime": NEVER,
        "restored": false,
    })
}

fn annotations(told: &Told<'_>) -> Map<String, Value> {
    let Told { pod, container, .. } = told;
    let name = &pod.config.name;
    let metadata = json!({ "name": container.config.name, "attempt": container.config.attempt });
    let cri_o = |key: &str| format!("io.kubernetes.cri-o.{key}");
    let mut all = vec![
        ("io.container.manager".to_owned(), "cri-o".to_owned()),
        ("io.kubernetes.container.name".to_owned(), container.config.name.clone()),
        ("io.kubernetes.pod.name".to_owned(), name.name.clone()),
        ("io.kubernetes.pod.namespace".to_owned(), name.namespace.clone()),
        ("io.kubernetes.pod.uid".to_owned(), name.uid.clone()),
        (cri_o("ContainerID"), container.id.to_string()),
        (cri_o("ContainerType"), "container".to_owned()),
        (cri_o("SandboxID"), pod.id.to_string()),
        (cri_o("Created"), rfc3339(container.created_at_ns)),
        (cri_o("Metadata"), metadata.to_string()),
        (cri_o("Labels"), json!(container.config.labels).to_string()),
        (cri_o("Annotations"), json!(container.config.annotations).to_string()),
        (cri_o("Image"), container.image.id.clone()),
        (cri_o("ImageName"), container.image.reference.clone()),
        (cri_o("ImageRef"), container.image.id.clone()),
        (cri_o("TTY"), container.config.tty.to_string()),
        (cri_o("Stdin"), container.config.stdin.to_string()),
        (cri_o("StdinOnce"), container.config.stdin_once.to_string()),
    ];
    let addresses = pod.addresses.iter().enumerate();
    all.extend(addresses.map(|(index, address)| (cri_o(&format!("IP.{index}")), address.to_string())));
    all.into_iter().map(|(key, value)| (key, value.into())).collect()
}

fn network(pod: &Pod) -> Value {
    let subnet = |address: &IpAddr| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        json!({ "ipnet": format!("{address}/{bits}") })
    };
    let subnets: Vec<_> = pod.addresses.iter().map(subnet).collect();
    if subnets.is_empty() {
        return json!({});
    }
    json!({ "pod": { "interfaces": { "eth0": { "subnets": subnets, "mac_address": "" } } } })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::container::{ContainerState, ImageUse};
    use crate::engine::model::{ContainerConfig, Id, Identity, PodConfig, PodResources, Resources};
    use crate::engine::pod::PodState;

    fn id(letter: &str) -> Id {
        Id::try_from(letter.repeat(64)).unwrap()
    }

    pub(in super::super) fn container() -> Container {
        let mut config = ContainerConfig { name: "web".into(), attempt: 2, ..ContainerConfig::default() };
        config.image.user_specified = "registry/web:1".into();
        Container {
            id: id("c"),
            pod: id("a"),
            is_alone: false,
            config,
            image: ImageUse { id: "sha256:1".into(), reference: "registry/web@sha256:2".into() },
            identity: Identity::default(),
            created_at_ns: 1_500_000_000,
            cgroup: "/a/c".into(),
            log_path: None,
            stop_signal: 15,
            resources: Resources::default(),
            state: ContainerState::Running { pid: 7, started_at_ns: 1 },
            restarts: Default::default(),
            health: None,
        }
    }

    fn documents() -> Map<String, Value> {
        let (mut pod_config, container) = (PodConfig::default(), container());
        pod_config.name.name = "pod".into();
        pod_config.name.namespace = "space".into();
        let pod = Pod {
            id: id("a"),
            config: pod_config,
            resized: PodResources::default(),
            created_at_ns: 0,
            cgroup: String::new(),
            joined: Vec::new(),
            addresses: vec![IpAddr::from([10, 1, 2, 3])],
            ports: Default::default(),
            state: PodState::NotReady,
        };
        let told = Told { pod: &pod, container: &container, checkpointed_at_ns: 2_000_000_000 };
        let all = all(&told, br#"{"ociVersion":"1.2.0","annotations":{"x":"y"}}"#, &["/etc/motd".to_owned()]);
        let parse = |(name, text): (&str, Vec<u8>)| (name.to_owned(), serde_json::from_slice(&text).unwrap());
        all.unwrap().into_iter().map(parse).collect()
    }

    #[test]
    fn the_configuration_has_the_fields_that_checkpointctl_shows() {
        let config = &documents()["config.dump"];
        assert_eq!((&config["name"], &config["runtime"]), (&json!("web"), &json!("cleat-runtime")));
        assert_eq!(config["rootfsImageName"], "registry/web@sha256:2");
        assert_eq!(config["rootfsImage"], "registry/web:1");
        assert_eq!(config["createdTime"], "1970-01-01T00:00:01.500000000Z");
        assert_eq!(config["checkpointedTime"], "1970-01-01T00:00:02.000000000Z");
    }

    #[test]
    fn the_specification_is_annotated_as_cri_o_does() {
        let spec = &documents()["spec.dump"];
        let annotations = &spec["annotations"];
        assert_eq!(annotations["io.container.manager"], "cri-o");
        assert_eq!(annotations["io.kubernetes.cri-o.Metadata"], r#"{"attempt":2,"name":"web"}"#);
        assert_eq!(annotations["io.kubernetes.cri-o.IP.0"], "10.1.2.3");
        assert_eq!(annotations["io.kubernetes.pod.namespace"], "space");
        assert_eq!(spec["ociVersion"], "1.2.0");
    }

    #[test]
    fn the_rest_is_what_it_is() {
        let documents = documents();
        assert_eq!(documents["deleted.files"], json!(["/etc/motd"]));
        let interface = &documents["network.status"]["pod"]["interfaces"]["eth0"];
        assert_eq!(interface["subnets"][0]["ipnet"], "10.1.2.3/32");
    }
}
