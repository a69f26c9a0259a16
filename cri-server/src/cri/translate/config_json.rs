//! Configurations as JSON with the CRI's field names and numbers, as the peers print them.

use std::path::Path;

use cleat_cri_api::v1::security_profile::ProfileType;
use cleat_cri_api::v1::{IdMapping, Mount, NamespaceOption, Signal};
use serde_json::{Value, json};

use super::{mount, namespace, resources, signal};
use crate::engine::model::{
    AppArmor, ContainerConfig, GroupsPolicy, Namespaces, PodConfig, PortMapping, Protocol, Resources,
    Seccomp, Security, UserChoice,
};

/// A pod's configuration.
pub(super) fn pod(config: &PodConfig) -> Value {
    json!({
        "metadata": {
            "name": config.name.name,
            "uid": config.name.uid,
            "namespace": config.name.namespace,
            "attempt": config.name.attempt,
        },
        "hostname": config.hostname,
        "log_directory": optional_path(config.log_directory.as_deref()),
        "dns_config": config.dns.as_ref().map(|dns| json!({
            "servers": dns.servers, "searches": dns.searches, "options": dns.options,
        })),
        "port_mappings": config.port_mappings.iter().map(port_mapping).collect::<Vec<_>>(),
        "labels": config.labels,
        "annotations": config.annotations,
        "linux": {
            "cgroup_parent": config.cgroup_parent,
            "sysctls": config.sysctls,
            "overhead": config.overhead.as_ref().map(limits),
            "resources": config.resources.as_ref().map(limits),
            "security_context": security(&config.security, &config.namespaces),
        },
    })
}

/// A container's configuration.
pub(super) fn container(config: &ContainerConfig) -> Value {
    let namespaces = Namespaces { pid: config.pid.clone(), ..Namespaces::default() };
    let variable = |(key, value): &(String, String)| json!({ "key": key, "value": value });
    json!({
        "metadata": { "name": config.name, "attempt": config.attempt },
        "image": { "image": config.image.requested, "user_specified_image": config.image.user_specified },
        "command": config.command,
        "args": config.args,
        "working_dir": config.working_dir,
        "envs": config.envs.iter().map(variable).collect::<Vec<_>>(),
        "mounts": config.mounts.iter().filter_map(mount::report).map(mounted).collect::<Vec<_>>(),
        "devices": config.devices.iter().map(|device| json!({
            "container_path": mount::text(&device.container_path),
            "host_path": mount::text(&device.host_path),
            "permissions": device.permissions,
        })).collect::<Vec<_>>(),
        "CDI_devices": config.cdi_devices.iter().map(|name| json!({ "name": name.to_string() })).collect::<Vec<_>>(),
        "labels": config.labels,
        "annotations": config.annotations,
        "log_path": optional_path(config.log_path.as_deref()),
        "stdin": config.stdin,
        "stdin_once": config.stdin_once,
        "tty": config.tty,
        "stop_signal": config.stop_signal.map_or(Signal::RuntimeDefault, signal::name) as i32,
        "linux": {
            "resources": limits(&config.resources),
            "security_context": security(&config.security, &namespaces),
        },
    })
}

fn optional_path(path: Option<&Path>) -> String {
    path.map(mount::text).unwrap_or_default()
}

fn port_mapping(mapping: &PortMapping) -> Value {
    let protocol = match mapping.protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::Sctp => 2,
    };
    json!({
        "protocol": protocol,
        "container_port": mapping.container_port,
        "host_port": mapping.host_port,
        "host_ip": mapping.host_ip,
    })
}

fn mounted(mount: Mount) -> Value {
    json!({
        "container_path": mount.container_path,
        "host_path": mount.host_path,
        "readonly": mount.readonly,
        "recursive_read_only": mount.recursive_read_only,
        "selinux_relabel": mount.selinux_relabel,
        "propagation": mount.propagation,
    })
}

/// Limits, by the names that the CRI gives them.
pub(super) fn limits(limits: &Resources) -> Value {
    let numbers = resources::linux(limits);
    let pages = numbers.hugepage_limits.iter();
    let pages = pages.map(|page| json!({ "page_size": page.page_size, "limit": page.limit }));
    json!({
        "cpu_period": numbers.cpu_period,
        "cpu_quota": numbers.cpu_quota,
        "cpu_shares": numbers.cpu_shares,
        "memory_limit_in_bytes": numbers.memory_limit_in_bytes,
        "memory_swap_limit_in_bytes": numbers.memory_swap_limit_in_bytes,
        "oom_score_adj": numbers.oom_score_adj,
        "cpuset_cpus": numbers.cpuset_cpus,
        "cpuset_mems": numbers.cpuset_mems,
        "hugepage_limits": pages.collect::<Vec<_>>(),
        "unified": limits.unified,
    })
}

fn security(security: &Security, namespaces: &Namespaces) -> Value {
    let NamespaceOption { network, pid, ipc, target_id, userns_options } = namespace::options(namespaces);
    let user = userns_options.map(|options| {
        let ranges = |list: Vec<IdMapping>| -> Vec<Value> {
            let told = |range: IdMapping| json!({ "host_id": range.host_id, "container_id": range.container_id, "length": range.length });
            list.into_iter().map(told).collect()
        };
        json!({ "mode": options.mode, "uids": ranges(options.uids), "gids": ranges(options.gids) })
    });
    let UserChoice { uid, gid, name, supplemental_groups, groups_policy, .. } = &security.user;
    json!({
        "namespace_options": {
            "network": network, "pid": pid, "ipc": ipc, "target_id": target_id, "userns_options": user,
        },
        "privileged": security.privileged,
        "capabilities": {
            "add_capabilities": security.capabilities.add,
            "drop_capabilities": security.capabilities.drop,
            "add_ambient_capabilities": security.capabilities.add_ambient,
        },
        "run_as_user": uid.map(|value| json!({ "value": value })),
        "run_as_group": gid.map(|value| json!({ "value": value })),
        "run_as_username": name,
        "supplemental_groups": supplemental_groups,
        "supplemental_groups_policy": i32::from(*groups_policy == GroupsPolicy::Strict),
        "readonly_rootfs": security.read_only_rootfs,
        "no_new_privs": security.no_new_privileges,
        "masked_paths": security.masked_paths,
        "readonly_paths": security.read_only_paths,
        "seccomp": match &security.seccomp {
            Seccomp::RuntimeDefault => profile(ProfileType::RuntimeDefault, ""),
            // Only containers without a pod bring one along.
            Seccomp::Unconfined | Seccomp::Inline(_) => profile(ProfileType::Unconfined, ""),
            Seccomp::Localhost(path) => profile(ProfileType::Localhost, &mount::text(path)),
        },
        "apparmor": match &security.app_armor {
            AppArmor::RuntimeDefault => profile(ProfileType::RuntimeDefault, ""),
            AppArmor::Unconfined => profile(ProfileType::Unconfined, ""),
            AppArmor::Localhost(name) => profile(ProfileType::Localhost, name),
        },
        "selinux_options": security.selinux.as_ref().map(|label| json!({
            "user": label.user, "role": label.role, "type": label.kind, "level": label.level,
        })),
    })
}

fn profile(kind: ProfileType, reference: &str) -> Value {
    json!({ "profile_type": kind as i32, "localhost_ref": reference })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cri::translate::samples;

    #[test]
    fn names_are_the_cris() {
        let pod = pod(&samples::pod().config);
        assert_eq!(pod["metadata"]["namespace"], "default");
        assert_eq!(pod["linux"]["security_context"]["namespace_options"]["pid"], 1);
        let container = container(&samples::container().config);
        assert_eq!(container["image"]["user_specified_image"], "busybox:1");
        assert_eq!(container["linux"]["resources"]["cpu_shares"], 0);
        assert_eq!(container["labels"]["k"], "v");
    }
}
