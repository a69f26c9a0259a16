//! The specification of a container, from its parts.

use oci_spec::runtime::{Linux, LinuxResources, Root, Spec};

use super::mounts::Mounts;
use super::{ContainerFacts, Host, PodFacts, SpecError};
use super::{
    annotations, capability, devices, disks, lsm, masks, mounts, namespaces, process, resources, seccomp,
    sysctl,
};

/// Version of the OCI runtime specification that is written: the first with recursive read-only mounts.
pub(super) const OCI_VERSION: &str = "1.1.0";

/// The specification of a container of `pod`.
///
/// # Errors
/// When the request contradicts itself or the machine cannot do what it asks for; nothing is left out silently.
pub(crate) fn container(
    host: &Host,
    pod: &PodFacts<'_>,
    facts: &ContainerFacts<'_>,
) -> Result<Spec, SpecError> {
    let security = &facts.config.security;
    if security.privileged && !pod.config.security.privileged {
        return Err(SpecError::PrivilegedInUnprivilegedPod);
    }
    let Mounts { list, rootfs_propagation } = mounts::mounts(host, pod, facts)?;
    let mut root = Root::default();
    root.set_path(facts.rootfs.to_owned()).set_readonly(Some(security.read_only_rootfs));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(list))
        .set_process(Some(confined_process(host, pod, facts)?))
        .set_hostname(own_hostname(pod))
        .set_annotations(Some(annotations::of_container(pod, facts)))
        .set_linux(Some(linux(host, pod, facts)?));
    if let Some(linux) = spec.linux_mut() {
        linux.set_rootfs_propagation(rootfs_propagation.map(str::to_owned));
    }
    Ok(spec)
}

/// The program and what confines it.
fn confined_process(
    host: &Host,
    pod: &PodFacts<'_>,
    facts: &ContainerFacts<'_>,
) -> Result<oci_spec::runtime::Process, SpecError> {
    let security = &facts.config.security;
    let adjustment = facts.config.resources.oom_score_adj;
    let selinux = lsm::selinux_contexts(host, security)?;
    let mut process = process::process(host, pod, facts)?;
    process
        .set_capabilities(Some(capability::sets(host, security)?))
        .set_no_new_privileges(Some(security.no_new_privileges))
        .set_apparmor_profile(lsm::app_armor_profile(host, security)?)
        .set_selinux_label(selinux.map(|contexts| contexts.process))
        .set_oom_score_adj(
            adjustment.map(|asked| resources::clamp_oom_score_adj(asked, host.oom_score_adj_min)),
        );
    Ok(process)
}

/// What the kernel does for it.
fn linux(host: &Host, pod: &PodFacts<'_>, facts: &ContainerFacts<'_>) -> Result<Linux, SpecError> {
    let security = &facts.config.security;
    let held = capability::sets(host, security)?.bounding().clone().unwrap_or_default();
    let mut devices = devices::devices(facts.host_devices, security.privileged, facts.devices)?;
    devices.rules.extend(devices::asked_rules(&facts.config.device_rules)?);
    let mut resources: LinuxResources = resources::on_host(host, &facts.config.resources)?;
    disks::limit(&mut resources, facts.disks)?;
    resources.set_devices(Some(devices.rules));
    let sysctls = if pod.pause_pid.is_none() { sysctl::sysctls(pod)? } else { Default::default() };
    let [users, groups] = namespaces::id_mappings(pod);
    let mut linux = Linux::default();
    linux
        .set_uid_mappings(users)
        .set_gid_mappings(groups)
        .set_namespaces(Some(namespaces::of_container(pod, facts)?))
        .set_sysctl((!sysctls.is_empty()).then_some(sysctls))
        .set_cgroups_path(Some(facts.cgroups_path.into()))
        .set_resources(Some(resources))
        .set_devices(Some(devices.nodes))
        .set_seccomp(seccomp::filter(host, security, facts.seccomp_profile, &held)?)
        .set_masked_paths(Some(masks::masked_paths(host, security)))
        .set_readonly_paths(Some(masks::read_only_paths(security)))
        .set_mount_label(lsm::selinux_contexts(host, security)?.map(|contexts| contexts.mount));
    Ok(linux)
}

/// The name of a UTS namespace that the container makes itself; one it joins has its name already.
fn own_hostname(pod: &PodFacts<'_>) -> Option<String> {
    let makes_it = pod.pause_pid.is_none() && !pod.uses_host_uts() && !pod.config.hostname.is_empty();
    makes_it.then(|| pod.config.hostname.clone())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::model::{SeLinux, Seccomp};
    use crate::spec::fixture::Scene;

    fn decide(scene: &Scene) -> Result<Spec, SpecError> {
        container(&scene.host, &scene.pod_facts(), &scene.container_facts())
    }

    #[test]
    fn a_plain_container_is_confined() {
        let mut scene = Scene::default();
        scene.container.security.seccomp = Seccomp::RuntimeDefault;
        scene.container.resources.oom_score_adj = Some(-997);
        scene.host.oom_score_adj_min = 0;
        let spec = decide(&scene).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.args().as_deref(), Some(&["/app".to_owned()][..]));
        assert_eq!((process.user().uid(), process.user().gid()), (1000, 1000));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[1000, 2000][..]));
        assert_eq!(process.oom_score_adj(), Some(0));
        assert_eq!(process.selinux_label(), &None);
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.seccomp().is_some());
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/pods/p/c")));
        assert!(linux.resources().as_ref().unwrap().devices().as_ref().unwrap().len() > 1);
        assert_eq!(spec.hostname(), &None);
        assert_eq!(spec.version(), OCI_VERSION);
    }

    #[test]
    fn a_privileged_container_is_not() {
        let mut scene = Scene::default();
        scene.container.security.privileged = true;
        assert_eq!(decide(&scene), Err(SpecError::PrivilegedInUnprivilegedPod));
        scene.pod.security.privileged = true;
        scene.container.security.seccomp = Seccomp::RuntimeDefault;
        let spec = decide(&scene).unwrap();
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.seccomp(), &None);
        assert!(linux.masked_paths().as_ref().unwrap().is_empty());
        let held = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(held.effective().as_ref(), Some(&scene.host.bounding));
    }

    #[test]
    fn a_group_of_one_sets_its_own_name_and_sysctls() {
        let mut scene = Scene { pause_pid: None, ..Scene::default() };
        scene.pod.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
        let spec = decide(&scene).unwrap();
        assert_eq!(spec.hostname().as_deref(), Some("web-0"));
        assert!(spec.linux().as_ref().unwrap().sysctl().is_some());
        scene.pause_pid = Some(100);
        assert!(decide(&scene).unwrap().linux().as_ref().unwrap().sysctl().is_none());
    }

    #[test]
    fn a_selinux_label_is_on_processes_and_mounts() {
        let mut scene = Scene::default();
        scene.container.security.selinux = Some(SeLinux { level: "s0:c1,c2".into(), ..SeLinux::default() });
        assert!(matches!(decide(&scene), Err(SpecError::SeLinuxUnsupported(_))));
        scene.host.selinux = true;
        let spec = decide(&scene).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.selinux_label().as_deref(), Some("system_u:system_r:container_t:s0:c1,c2"));
        let label = spec.linux().as_ref().unwrap().mount_label().as_deref();
        assert_eq!(label, Some("system_u:object_r:container_file_t:s0:c1,c2"));
    }

    #[test]
    fn a_specification_survives_its_file() {
        let mut scene = Scene::default();
        scene.container.security.seccomp = Seccomp::RuntimeDefault;
        let spec = decide(&scene).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<Spec>(&text).unwrap(), spec);
    }
}
