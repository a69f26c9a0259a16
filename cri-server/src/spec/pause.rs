//! The specification of a pod's own process: it holds namespaces, reaps orphans and can do nothing else.

use std::path::Path;

use oci_spec::runtime::{
    Capabilities, Linux, LinuxCpu, LinuxResources, LinuxSeccomp, Process, Root, Spec, User,
};

use super::container::OCI_VERSION;
use super::{Host, PodFacts, SpecError};
use super::{annotations, capability, devices, lsm, masks, mounts, namespaces, resources, sysctl};

/// The pause process's `oom_score_adj` where the daemon may set it: among the last to go, after the kubelet.
const PAUSE_OOM_SCORE_ADJ: i32 = -998;

/// User and group the pause process runs as. It is nobody else's user, so that a container of the pod which shares its
/// process namespace cannot reach its root filesystem through /proc.
const PAUSE_UID: u32 = 65535;
/// See [`PAUSE_UID`].
const PAUSE_GID: u32 = 65535;

/// The kernel's least CPU weight.
const CPU_SHARES: u64 = 2;

/// The specification of a pod's pause process, `args` executed from the read-only root filesystem at `rootfs`.
///
/// It has no capability and no device beyond the usual ones, cannot gain privileges and is confined by the default
/// seccomp profile unless the pod is privileged. It makes the pod's namespaces and sets the pod's sysctls.
///
/// # Errors
/// When the pod asks for a sysctl that is not its own, or for a label the machine does not know.
pub(crate) fn pause(
    host: &Host,
    pod: &PodFacts<'_>,
    cgroups_path: &str,
    rootfs: &Path,
    args: &[String],
) -> Result<Spec, SpecError> {
    let security = &pod.config.security;
    let selinux = lsm::selinux_contexts(host, security)?;
    let sysctls = sysctl::sysctls(pod)?;
    let [users, groups] = namespaces::id_mappings(pod);
    let mut linux = Linux::default();
    linux
        .set_uid_mappings(users)
        .set_gid_mappings(groups)
        .set_namespaces(Some(namespaces::of_pause(pod)))
        .set_sysctl((!sysctls.is_empty()).then_some(sysctls))
        .set_cgroups_path(Some(cgroups_path.into()))
        .set_resources(Some(limits()))
        .set_seccomp(filter(host, pod))
        .set_masked_paths(Some(masks::MASKED.iter().map(|path| (*path).to_owned()).collect()))
        .set_readonly_paths(Some(masks::READ_ONLY.iter().map(|path| (*path).to_owned()).collect()))
        .set_mount_label(selinux.as_ref().map(|contexts| contexts.mount.clone()));
    let mut root = Root::default();
    root.set_path(rootfs.to_owned()).set_readonly(Some(true));
    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts::pause_mounts()))
        .set_process(Some(process(host, args, selinux.map(|contexts| contexts.process))))
        .set_hostname((!pod.config.hostname.is_empty()).then(|| pod.config.hostname.clone()))
        .set_annotations(Some(annotations::of_pause(pod)))
        .set_linux(Some(linux));
    Ok(spec)
}

fn process(host: &Host, args: &[String], selinux_label: Option<String>) -> Process {
    let mut user = User::default();
    user.set_uid(PAUSE_UID).set_gid(PAUSE_GID);
    let mut process = Process::default();
    process
        .set_args(Some(args.to_vec()))
        .set_env(Some(Vec::new()))
        .set_cwd("/".into())
        .set_user(user)
        .set_terminal(Some(false))
        .set_capabilities(Some(capability::none()))
        .set_no_new_privileges(Some(true))
        .set_rlimits(None)
        .set_selinux_label(selinux_label)
        .set_oom_score_adj(Some(resources::clamp_oom_score_adj(PAUSE_OOM_SCORE_ADJ, host.oom_score_adj_min)));
    process
}

fn limits() -> LinuxResources {
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(Some(CPU_SHARES));
    let mut resources = LinuxResources::default();
    resources.set_cpu(Some(cpu)).set_devices(Some(devices::default_rules()));
    resources
}

/// Unlike a container's, the filter does not depend on what the client asks for: no client's program runs here.
fn filter(host: &Host, pod: &PodFacts<'_>) -> Option<LinuxSeccomp> {
    let wanted = host.seccomp && !pod.config.security.privileged;
    wanted.then(|| host.seccomp_profile.resolve(&Capabilities::new(), host.architecture, host.kernel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture::Scene;

    fn decide(scene: &Scene) -> Result<Spec, SpecError> {
        pause(&scene.host, &scene.pod_facts(), "/pods/p/pause", Path::new("/lib/pause"), &["/pause".into()])
    }

    #[test]
    fn the_pause_process_can_do_nothing() {
        let spec = decide(&Scene::default()).unwrap();
        let process = spec.process().as_ref().unwrap();
        let sets = process.capabilities().as_ref().unwrap();
        for set in [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()] {
            assert_eq!(set, &Some(Capabilities::new()));
        }
        assert_eq!(process.no_new_privileges(), Some(true));
        assert_eq!((process.user().uid(), process.oom_score_adj()), (PAUSE_UID, Some(-998)));
        assert_eq!(spec.root().as_ref().unwrap().readonly(), Some(true));
        assert_eq!(spec.hostname().as_deref(), Some("web-0"));
        let linux = spec.linux().as_ref().unwrap();
        assert!(linux.seccomp().is_some());
        assert_eq!(linux.masked_paths().as_ref().unwrap().len(), masks::MASKED.len());
        assert_eq!(linux.cgroups_path().as_deref(), Some(Path::new("/pods/p/pause")));
    }

    #[test]
    fn a_privileged_pods_pause_process_has_no_filter_but_no_more_rights() {
        let mut scene = Scene::default();
        scene.pod.security.privileged = true;
        let spec = decide(&scene).unwrap();
        assert!(spec.linux().as_ref().unwrap().seccomp().is_none());
        let sets = spec.process().as_ref().unwrap().capabilities().clone().unwrap();
        assert_eq!(sets.bounding(), &Some(Capabilities::new()));
    }

    #[test]
    fn a_kernel_without_filters_still_runs_pods() {
        let mut scene = Scene::default();
        scene.host.seccomp = false;
        assert!(decide(&scene).unwrap().linux().as_ref().unwrap().seccomp().is_none());
    }

    #[test]
    fn sysctls_are_the_pause_processes_to_set() {
        let mut scene = Scene::default();
        scene.pod.sysctls.insert("kernel.shmmax".into(), "1".into());
        let spec = decide(&scene).unwrap();
        assert_eq!(spec.linux().as_ref().unwrap().sysctl().as_ref().unwrap()["kernel.shmmax"], "1");
        scene.pod.sysctls.insert("kernel.core_pattern".into(), "|/x".into());
        assert!(matches!(decide(&scene), Err(SpecError::Sysctl { .. })));
    }

    #[test]
    fn the_adjustment_stays_within_what_the_daemon_may_set() {
        let mut scene = Scene::default();
        scene.host.oom_score_adj_min = -10;
        assert_eq!(decide(&scene).unwrap().process().as_ref().unwrap().oom_score_adj(), Some(-10));
    }
}
