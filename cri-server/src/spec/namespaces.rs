//! Which namespaces are new, which are joined, which are the host's.
//!
//! The cgroup namespace is a container's own on cgroup v1 as on v2, so that /proc/self/cgroup does not tell how the
//! node is arranged. Containerd and CRI-O keep the host's on v1 because old monitors in containers expected it. A
//! privileged container keeps the host's on both, as node agents need it.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType as Kind, Spec,
};

use super::{ContainerFacts, NetworkNamespace, PodFacts, SpecError};
use crate::engine::model::{CgroupMode, IdRange, IpcMode, PidMode, UserMapping, UserMode};

/// The namespaces of the pause process, which makes those that the pod's containers join.
pub(super) fn of_pause(pod: &PodFacts<'_>) -> Vec<LinuxNamespace> {
    let wanted = &pod.config.namespaces;
    let mut list = vec![new(Kind::Mount), new(Kind::Cgroup)];
    if wanted.pid != PidMode::Node {
        list.push(new(Kind::Pid));
    }
    if wanted.ipc != IpcMode::Node {
        list.push(new(Kind::Ipc));
    }
    if !pod.uses_host_uts() {
        list.push(new(Kind::Uts));
    }
    list.extend(network(pod));
    list.extend(user(pod));
    list
}

/// The namespaces of a container.
pub(super) fn of_container(
    pod: &PodFacts<'_>,
    facts: &ContainerFacts<'_>,
) -> Result<Vec<LinuxNamespace>, SpecError> {
    let mut list = vec![new(Kind::Mount)];
    let has_cgroups = match facts.config.cgroup_namespace {
        CgroupMode::ByPrivilege => !facts.config.security.privileged,
        CgroupMode::Container => true,
        CgroupMode::Node => false,
    };
    if has_cgroups {
        list.push(new(Kind::Cgroup));
    }
    list.extend(pid(pod, facts)?);
    if pod.config.namespaces.ipc != IpcMode::Node {
        list.push(of_pod(pod, Kind::Ipc, "ipc"));
    }
    if !pod.uses_host_uts() {
        list.push(of_pod(pod, Kind::Uts, "uts"));
    }
    list.extend(network(pod));
    list.extend(user(pod));
    Ok(list)
}

fn pid(pod: &PodFacts<'_>, facts: &ContainerFacts<'_>) -> Result<Option<LinuxNamespace>, SpecError> {
    let joined = |pid: i32| Some(at(Kind::Pid, format!("/proc/{pid}/ns/pid").into()));
    match &facts.config.pid {
        PidMode::Container => Ok(Some(new(Kind::Pid))),
        PidMode::Pod => pod.pause_pid.map(joined).ok_or(SpecError::NoPodProcess),
        // Whose it is another process holds at each start: see `join`.
        PidMode::Target(_) if pod.config.kind.is_one() => Ok(Some(new(Kind::Pid))),
        PidMode::Target(id) => {
            facts.target_pid.map(joined).ok_or_else(|| SpecError::TargetNotRunning(id.short().to_owned()))
        }
        PidMode::Node => Ok(None),
    }
}

/// A namespace of another container that a container without a pod joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// Its processes.
    Pid,
    /// Its IPC objects.
    Ipc,
}

/// Has the container of `spec` join a namespace of the process `pid`, in place of one of its own or of another process's.
pub(crate) fn join(spec: &mut Spec, joined: Joined, pid: i32) {
    let (kind, file) = match joined {
        Joined::Pid => (Kind::Pid, "pid"),
        Joined::Ipc => (Kind::Ipc, "ipc"),
    };
    let Some(linux) = spec.linux_mut() else { return };
    let mut list = linux.namespaces().clone().unwrap_or_default();
    list.retain(|known| known.typ() != kind);
    list.push(at(kind, format!("/proc/{pid}/ns/{file}").into()));
    linux.set_namespaces(Some(list));
}

/// The pause process's namespace, or a new one in a group without a pause.
fn of_pod(pod: &PodFacts<'_>, kind: Kind, file: &str) -> LinuxNamespace {
    match pod.pause_pid {
        Some(pid) => at(kind, format!("/proc/{pid}/ns/{file}").into()),
        None => new(kind),
    }
}

fn network(pod: &PodFacts<'_>) -> Option<LinuxNamespace> {
    match pod.network {
        NetworkNamespace::Path(path) => Some(at(Kind::Network, path.to_owned())),
        NetworkNamespace::Host => None,
    }
}

/// All of a pod are in one user namespace, which owns its other namespaces.
fn user(pod: &PodFacts<'_>) -> Option<LinuxNamespace> {
    pod.user.map(|path| at(Kind::User, path.to_owned()))
}

/// The mappings of the pod's own user namespace, users first: runtimes need them for what they make outside of it.
pub(super) fn id_mappings(pod: &PodFacts<'_>) -> [Option<Vec<LinuxIdMapping>>; 2] {
    match &pod.config.namespaces.user {
        UserMode::Pod(UserMapping { users, groups }) => {
            [users, groups].map(|range| Some(mapping_list(std::slice::from_ref(range))))
        }
        UserMode::Node => [None, None],
    }
}

/// Ranges as the specification has them.
pub(super) fn mapping_list(ranges: &[IdRange]) -> Vec<LinuxIdMapping> {
    let convert = |range: &IdRange| {
        let mapping = LinuxIdMappingBuilder::default()
            .container_id(range.container_id)
            .host_id(range.host_id)
            .size(range.length);
        mapping.build().expect("every field is set")
    };
    ranges.iter().map(convert).collect()
}

fn new(kind: Kind) -> LinuxNamespace {
    let mut namespace = LinuxNamespace::default();
    namespace.set_typ(kind);
    namespace
}

fn at(kind: Kind, path: PathBuf) -> LinuxNamespace {
    let mut namespace = new(kind);
    namespace.set_path(Some(path));
    namespace
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture::{self, Scene};

    /// `None`: the host's; `Some("")`: a new one; `Some(path)`: joined.
    fn found(list: &[LinuxNamespace], kind: Kind) -> Option<String> {
        let all: Vec<_> = list.iter().filter(|namespace| namespace.typ() == kind).collect();
        assert!(all.len() <= 1, "{kind:?} twice");
        all.first().map(|namespace| {
            namespace.path().as_ref().map_or(String::new(), |path| path.to_str().unwrap().to_owned())
        })
    }

    fn container(scene: &Scene) -> Vec<LinuxNamespace> {
        of_container(&scene.pod_facts(), &scene.container_facts()).unwrap()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_container_joins_its_pod() {
        let list = container(&Scene::default());
        assert_eq!(found(&list, Kind::Mount), some(""));
        assert_eq!(found(&list, Kind::Cgroup), some(""));
        assert_eq!(found(&list, Kind::Pid), some(""));
        assert_eq!(found(&list, Kind::Ipc), some("/proc/100/ns/ipc"));
        assert_eq!(found(&list, Kind::Uts), some("/proc/100/ns/uts"));
        assert_eq!(found(&list, Kind::Network), some("/run/netns/pod"));
    }

    #[test]
    fn a_pods_user_namespace_is_joined_by_all() {
        let mut scene = Scene::default();
        assert_eq!(found(&container(&scene), Kind::User), None);
        assert_eq!(id_mappings(&scene.pod_facts()), [None, None]);
        scene.pod.namespaces.user = fixture::user_mode();
        assert_eq!(found(&container(&scene), Kind::User), some("/run/pod/userns"));
        assert_eq!(found(&of_pause(&scene.pod_facts()), Kind::User), some("/run/pod/userns"));
        let [users, groups] = id_mappings(&scene.pod_facts()).map(Option::unwrap);
        assert_eq!((users[0].container_id(), users[0].host_id(), users[0].size()), (0, 65_536, 65_536));
        assert_eq!(groups[0].host_id(), 131_072);
    }

    #[test]
    fn a_group_without_a_pause_owns_its_namespaces() {
        let list = container(&Scene { pause_pid: None, ..Scene::default() });
        assert_eq!((found(&list, Kind::Ipc), found(&list, Kind::Uts)), (some(""), some("")));
    }

    #[test]
    fn process_namespaces_are_shared_as_asked() {
        let mut scene = Scene::default();
        for (mode, expected) in [
            (PidMode::Container, some("")),
            (PidMode::Pod, some("/proc/100/ns/pid")),
            (PidMode::Target(fixture::id('b')), some("/proc/200/ns/pid")),
            (PidMode::Node, None),
        ] {
            scene.container.pid = mode.clone();
            assert_eq!(found(&container(&scene), Kind::Pid), expected, "{mode:?}");
        }
    }

    #[test]
    fn a_namespace_nobody_holds_is_an_error() {
        let mut scene = Scene { pause_pid: None, target_pid: None, ..Scene::default() };
        let decide = |scene: &Scene| of_container(&scene.pod_facts(), &scene.container_facts());
        scene.container.pid = PidMode::Pod;
        assert_eq!(decide(&scene), Err(SpecError::NoPodProcess));
        scene.container.pid = PidMode::Target(fixture::id('b'));
        assert_eq!(decide(&scene), Err(SpecError::TargetNotRunning("bbbbbbbbbbbb".into())));
    }

    #[test]
    fn the_hosts_namespaces_are_not_listed() {
        let mut scene = Scene { host_network: true, ..Scene::default() };
        scene.pod.namespaces.ipc = IpcMode::Node;
        scene.pod.namespaces.pid = PidMode::Node;
        for hostname in ["", "named"] {
            scene.pod.hostname = hostname.into();
            let (pause, list) = (of_pause(&scene.pod_facts()), container(&scene));
            for list in [&pause, &list] {
                assert_eq!((found(list, Kind::Network), found(list, Kind::Ipc)), (None, None));
                assert_eq!(found(list, Kind::Uts).is_none(), hostname.is_empty());
            }
            assert_eq!(found(&pause, Kind::Pid), None);
        }
    }

    #[test]
    fn a_pod_without_a_name_still_has_a_namespace_for_it() {
        let mut scene = Scene::default();
        scene.pod.hostname = String::new();
        assert_eq!(found(&of_pause(&scene.pod_facts()), Kind::Uts), some(""));
    }

    #[test]
    fn a_privileged_container_sees_the_hosts_cgroups() {
        let mut scene = Scene::default();
        scene.container.security.privileged = true;
        assert_eq!(found(&container(&scene), Kind::Cgroup), None);
    }
}
