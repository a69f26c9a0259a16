//! Requests with everything optional left out; a test sets what it is about.

use cleat_cri_api::v1::*;

/// A pod `name` in the namespace `test`.
#[must_use]
pub fn pod(name: &str) -> PodSandboxConfig {
    let metadata = PodSandboxMetadata {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        namespace: "test".to_owned(),
        attempt: 0,
    };
    PodSandboxConfig { metadata: Some(metadata), ..Default::default() }
}

/// A container `name` of `image` with the image's own command.
#[must_use]
pub fn container(name: &str, image: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
        image: Some(ImageSpec { image: image.to_owned(), ..Default::default() }),
        log_path: format!("{name}.log"),
        ..Default::default()
    }
}

/// A container `name` of busybox that runs `script`.
#[must_use]
pub fn script(name: &str, script: &str) -> ContainerConfig {
    let command = ["sh", "-c", script].map(ToOwned::to_owned).to_vec();
    ContainerConfig { command, ..container(name, crate::BUSYBOX) }
}

/// A container `name` of busybox that runs until it gets SIGTERM, and then ends with code 0 at once. It is one process
/// from the line `up` in its log on: a leak checker that looks twice sees the same.
#[must_use]
pub fn sleeper(name: &str) -> ContainerConfig {
    script(
        name,
        "trap 'exit 0' TERM; mkfifo /tmp/silent; exec 3<>/tmp/silent; echo up; while true; do read nothing <&3; done",
    )
}

/// The Linux part of a pod's configuration.
pub fn pod_linux(config: &mut PodSandboxConfig) -> &mut LinuxPodSandboxConfig {
    config.linux.get_or_insert_default()
}

/// The security context of a pod.
pub fn pod_security(config: &mut PodSandboxConfig) -> &mut LinuxSandboxSecurityContext {
    pod_linux(config).security_context.get_or_insert_default()
}

/// The namespaces of a pod.
pub fn pod_namespaces(config: &mut PodSandboxConfig) -> &mut NamespaceOption {
    pod_security(config).namespace_options.get_or_insert_default()
}

/// The security context of a container.
pub fn security(config: &mut ContainerConfig) -> &mut LinuxContainerSecurityContext {
    config.linux.get_or_insert_default().security_context.get_or_insert_default()
}

/// The namespaces of a container.
pub fn namespaces(config: &mut ContainerConfig) -> &mut NamespaceOption {
    security(config).namespace_options.get_or_insert_default()
}

/// The capabilities of a container.
pub fn capabilities(config: &mut ContainerConfig) -> &mut Capability {
    security(config).capabilities.get_or_insert_default()
}

/// The resources of a container.
pub fn resources(config: &mut ContainerConfig) -> &mut LinuxContainerResources {
    config.linux.get_or_insert_default().resources.get_or_insert_default()
}

/// A mount of the host's `from` at `to`.
#[must_use]
pub fn mount(from: &std::path::Path, to: &str) -> Mount {
    Mount { host_path: from.display().to_string(), container_path: to.to_owned(), ..Default::default() }
}

/// An environment variable.
#[must_use]
pub fn env(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

/// A seccomp or AppArmor profile.
#[must_use]
pub fn profile(kind: security_profile::ProfileType, file: &str) -> SecurityProfile {
    SecurityProfile { profile_type: kind.into(), localhost_ref: file.to_owned() }
}
