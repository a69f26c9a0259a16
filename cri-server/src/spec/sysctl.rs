//! Kernel parameters of a pod: only those that belong to a namespace of its own, matched on the whole name.

use std::collections::{BTreeMap, HashMap};

use super::{PodFacts, SpecError};
use crate::engine::model::IpcMode;

/// Parameters of the IPC namespace (`ipc_namespaces(7)`), besides those below [`MQUEUE`].
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// What parameters of POSIX message queues start with; they too belong to the IPC namespace.
const MQUEUE: &str = "fs.mqueue.";

/// What parameters of the network namespace start with.
const NET: &str = "net.";

/// The one parameter of the UTS namespace that is not the hostname, which has a field of its own.
const DOMAIN_NAME: &str = "kernel.domainname";

/// The pod's parameters, with dots; a name that contains one itself is written with slashes (`net/ipv4/conf/eth0.1/mtu`),
/// because not every runtime reads `net.ipv4.conf.eth0/1.mtu`.
pub(super) fn sysctls(pod: &PodFacts<'_>) -> Result<HashMap<String, String>, SpecError> {
    checked(&pod.config.sysctls, pod)
}

fn checked(
    asked: &BTreeMap<String, String>,
    pod: &PodFacts<'_>,
) -> Result<HashMap<String, String>, SpecError> {
    asked
        .iter()
        .map(|(name, value)| {
            let refuse = |reason| SpecError::Sysctl { name: name.clone(), reason };
            let dotted = dotted(name).ok_or_else(|| refuse("the name is malformed"))?;
            if value.is_empty() || value.chars().any(|c| c.is_control() && c != '\t') {
                return Err(refuse("the value is empty or contains a control character"));
            }
            owned(&dotted, pod).map_err(refuse)?;
            let written = if dotted.contains('/') { swapped(&dotted) } else { dotted };
            Ok((written, value.clone()))
        })
        .collect()
}

/// Whether the pod owns the namespace that the parameter belongs to.
fn owned(name: &str, pod: &PodFacts<'_>) -> Result<(), &'static str> {
    let (belongs_to_pod, otherwise) = if name.starts_with(NET) {
        (!pod.network.is_host(), "the pod uses the host's network")
    } else if name.starts_with(MQUEUE) || IPC.contains(&name) {
        let config = pod.config;
        let owns_it = config.namespaces.ipc != IpcMode::Node && config.ipc_of.is_none();
        (owns_it, "the pod uses the IPC namespace of the host or of another container")
    } else if name == DOMAIN_NAME {
        (!pod.uses_host_uts(), "the pod uses the host's UTS namespace")
    } else {
        (false, "it belongs to the whole machine, not to a namespace of the pod")
    };
    if belongs_to_pod { Ok(()) } else { Err(otherwise) }
}

/// The form with dots as separators. In a name whose first separator is `/`, dots and slashes have changed roles
/// (`sysctl(8)`). `None` for what names no file below /proc/sys.
fn dotted(name: &str) -> Option<String> {
    let separator = name.find(['.', '/'])?;
    let dotted = if name[separator..].starts_with('/') { swapped(name) } else { name.to_owned() };
    dotted.split('.').all(is_component).then_some(dotted)
}

/// The other form of a name: dots for slashes and slashes for dots.
fn swapped(name: &str) -> String {
    let swap = |c: char| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// A name of a file: no empty part on either side of a `/`, so that neither reading of it leads upwards.
fn is_component(component: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    component.split('/').all(|part| !part.is_empty() && part.chars().all(sound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture::Scene;

    fn decide(scene: &mut Scene, name: &str, value: &str) -> Result<HashMap<String, String>, SpecError> {
        scene.pod.sysctls = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        sysctls(&scene.pod_facts())
    }

    #[test]
    fn parameters_of_the_pods_namespaces_are_set() {
        for (asked, expected) in [
            ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_unprivileged_port_start"),
            ("net/ipv4/conf/eth0.1/mtu", "net/ipv4/conf/eth0.1/mtu"),
            ("net.ipv4.conf.eth0/1.mtu", "net/ipv4/conf/eth0.1/mtu"),
            ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
            ("kernel/sem", "kernel.sem"),
            ("fs.mqueue.msg_max", "fs.mqueue.msg_max"),
            ("kernel.domainname", "kernel.domainname"),
        ] {
            let set = decide(&mut Scene::default(), asked, "1\t2").unwrap();
            assert_eq!(set, HashMap::from([(expected.to_owned(), "1\t2".to_owned())]));
        }
    }

    #[test]
    fn everything_else_is_refused_by_its_whole_name() {
        for name in [
            "kernel.core_pattern",
            "kernel.shm_rmid_forced_x",
            "kernel.shm",
            "kernel.hostname",
            "fs.mqueue",
            "netx.y",
            "net",
            "",
            ".net.x",
            "net..x",
            "net.x.",
            "net.ipv4./../../kernel/core_pattern",
            "net.ipv4/../../kernel/core_pattern",
            "net/../kernel/core_pattern",
            "net.//.x",
            "net.ipv4.x=1",
            "net.ipv4.x+kernel.core_pattern",
            "net.ipv4.x\n",
        ] {
            let result = decide(&mut Scene::default(), name, "1");
            assert!(matches!(result, Err(SpecError::Sysctl { .. })), "{name:?}: {result:?}");
        }
    }

    #[test]
    fn values_cannot_add_lines() {
        for value in ["", "1\n", "1\0", "\u{1b}"] {
            assert!(decide(&mut Scene::default(), "net.ipv4.ip_forward", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn the_hosts_namespaces_are_not_the_pods_to_change() {
        let mut scene = Scene { host_network: true, ..Scene::default() };
        scene.pod.namespaces.ipc = IpcMode::Node;
        scene.pod.hostname = String::new();
        for name in ["net.ipv4.ip_forward", "kernel.sem", "fs.mqueue.msg_max", "kernel.domainname"] {
            assert!(decide(&mut scene, name, "1").is_err(), "{name}");
        }
    }
}
