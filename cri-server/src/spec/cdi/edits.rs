//! Putting what devices need into a container's specification.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Hook as OciHook, Hooks, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxIntelRdt, LinuxNetDevice,
    Mount as OciMount, Spec,
};

use super::error::CdiError;
use super::file::{Edits, Hook, IntelRdt, Mount, NetDevice, Node, NodeKind};
use crate::spec::devices;
use crate::spec::path::{depth, normalised};

/// Permissions that grant nothing: the node is there, and opening it is refused.
const NO_PERMISSIONS: &str = "none";

/// A node of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostNode {
    /// Its kind.
    pub(crate) kind: NodeKind,
    /// Major and minor number.
    pub(crate) numbers: (u32, u32),
    /// Permission bits.
    pub(crate) mode: u32,
}

/// The paths of this host whose nodes [`apply`] needs to know.
pub(crate) fn host_nodes<'a>(edits: &'a [&Edits]) -> impl Iterator<Item = &'a Path> {
    edits.iter().flat_map(|edits| &edits.device_nodes).map(Node::on_host)
}

/// Puts `edits` into `spec`, in their order. `nodes` tells what is at each path of [`host_nodes`], or why nothing is.
///
/// # Errors
/// When an edit makes no sense, or needs what this host does not have. `spec` may be half edited then.
pub(crate) fn apply(
    spec: &mut Spec,
    edits: &[&Edits],
    nodes: &HashMap<PathBuf, Result<HostNode, String>>,
) -> Result<(), CdiError> {
    for edits in edits {
        variables(spec, &edits.env)?;
        for node in &edits.device_nodes {
            device(spec, node, nodes.get(node.on_host()))?;
        }
        mounts(spec, &edits.mounts)?;
        edits.hooks.iter().try_for_each(|hook| add_hook(spec, hook))?;
        groups(spec, &edits.additional_gids);
        edits.net_devices.iter().try_for_each(|device| net_device(spec, device))?;
        if let Some(asked) = &edits.intel_rdt {
            intel_rdt(spec, asked);
        }
    }
    Ok(())
}

impl Node {
    fn on_host(&self) -> &Path {
        self.host_path.as_deref().unwrap_or(&self.path)
    }
}

/// A later variable replaces an earlier one of its name.
fn variables(spec: &mut Spec, added: &[String]) -> Result<(), CdiError> {
    let Some(process) = spec.process_mut() else { return Ok(()) };
    let mut all = process.env().clone().unwrap_or_default();
    for variable in added {
        let name = variable.split_once('=').map(|(name, _)| name).filter(|name| !name.is_empty());
        let (Some(name), false) = (name, variable.contains('\0')) else {
            return Err(CdiError::Variable(variable.clone()));
        };
        let same = |old: &String| old.split_once('=').is_some_and(|(old, _)| old == name);
        match all.iter_mut().find(|old| same(old)) {
            Some(old) => old.clone_from(variable),
            None => all.push(variable.clone()),
        }
    }
    process.set_env(Some(all));
    Ok(())
}

fn device(spec: &mut Spec, asked: &Node, found: Option<&Result<HostNode, String>>) -> Result<(), CdiError> {
    let path = normalised(&asked.path).map_err(|source| CdiError::Path { what: "device node", source })?;
    let node = resolved(asked, found)?;
    // A node that says no owner is the program's, as other runtimes have it.
    let user = spec.process().as_ref().map(|process| (process.user().uid(), process.user().gid()));
    let (uid, gid) = user.unwrap_or_default();
    let (major, minor) = (i64::from(node.numbers.0), i64::from(node.numbers.1));
    let rule = access(asked)?
        .filter(|_| node.kind != NodeKind::Fifo)
        .map(|access| devices::rule(true, Some(node.kind.oci()), Some(major), Some(minor), &access));
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let made: LinuxDevice = {
        let mut made = LinuxDevice::default();
        made.set_path(path.clone())
            .set_typ(node.kind.oci())
            .set_major(major)
            .set_minor(minor)
            .set_file_mode(Some(asked.file_mode.unwrap_or(node.mode) & 0o777))
            .set_uid(Some(asked.uid.unwrap_or(uid)))
            .set_gid(Some(asked.gid.unwrap_or(gid)));
        made
    };
    let mut list = linux.devices().clone().unwrap_or_default();
    list.retain(|old| *old.path() != path);
    list.push(made);
    linux.set_devices(Some(list));
    if let (Some(rule), Some(resources)) = (rule, linux.resources_mut()) {
        let mut rules: Vec<LinuxDeviceCgroup> = resources.devices().clone().unwrap_or_default();
        rules.push(rule);
        resources.set_devices(Some(rules));
    }
    Ok(())
}

/// What the file leaves open is taken from the host's node. One with kind and number needs none there.
fn resolved(asked: &Node, found: Option<&Result<HostNode, String>>) -> Result<HostNode, CdiError> {
    let stated = asked.kind.filter(|kind| asked.major != 0 || *kind == NodeKind::Fifo);
    let fault = |why: &str| CdiError::Node { path: asked.on_host().to_owned(), why: why.to_owned() };
    match (stated, found) {
        (Some(kind), found) => {
            let mode = found.and_then(|found| found.as_ref().ok()).map_or(DEFAULT_MODE, |node| node.mode);
            Ok(HostNode { kind, numbers: (asked.major, asked.minor), mode })
        }
        (None, None) => Err(fault("nobody has looked")),
        (None, Some(Err(why))) => Err(fault(why)),
        (None, Some(Ok(node))) if asked.kind.is_some_and(|kind| kind != node.kind) => {
            Err(fault("it is of another kind than the file says"))
        }
        (None, Some(Ok(node))) => Ok(*node),
    }
}

/// Permissions of a node that exists nowhere but in the file.
const DEFAULT_MODE: u32 = 0o600;

/// What the cgroup allows; nothing for a node that may not be opened.
fn access(asked: &Node) -> Result<Option<String>, CdiError> {
    match asked.permissions.as_str() {
        NO_PERMISSIONS => Ok(None),
        "" => Ok(Some("rwm".to_owned())),
        text if text.chars().all(|c| "rwm".contains(c)) => {
            // In the kernel's order and once each, whatever the file has.
            Ok(Some("rwm".chars().filter(|c| text.contains(*c)).collect()))
        }
        text => Err(CdiError::Permissions { path: asked.path.clone(), permissions: text.to_owned() }),
    }
}

impl NodeKind {
    fn oci(self) -> LinuxDeviceType {
        match self {
            Self::Block => LinuxDeviceType::B,
            Self::Character => LinuxDeviceType::C,
            Self::Fifo => LinuxDeviceType::P,
        }
    }
}

/// A device's mount replaces one at the same place; all are sorted by depth, so that none is mounted below a place that
/// is covered later.
fn mounts(spec: &mut Spec, added: &[Mount]) -> Result<(), CdiError> {
    if added.is_empty() {
        return Ok(());
    }
    let mut all = spec.mounts().clone().unwrap_or_default();
    for mount in added {
        let mount = planned(mount)?;
        all.retain(|old| old.destination() != mount.destination());
        all.push(mount);
    }
    all.sort_by_key(|mount| depth(mount.destination()));
    spec.set_mounts(Some(all));
    Ok(())
}

/// Something of the host is bound unless the file names a filesystem.
fn planned(asked: &Mount) -> Result<OciMount, CdiError> {
    let clean = |path: &Path, what| normalised(path).map_err(|source| CdiError::Path { what, source });
    let destination = clean(&asked.container_path, "mount in the container")?;
    if depth(&destination) == 0 {
        return Err(CdiError::MountOnRoot);
    }
    let mut options = asked.options.clone();
    let kind = asked.kind.as_deref().filter(|kind| !matches!(*kind, "" | "none"));
    let source = match kind {
        None | Some("bind") => {
            if !options.iter().any(|option| matches!(option.as_str(), "bind" | "rbind")) {
                options.push("rbind".to_owned());
            }
            clean(&asked.host_path, "mount's path on the host")?
        }
        Some(_) => asked.host_path.clone(),
    };
    let mut mount = OciMount::default();
    mount
        .set_destination(destination)
        .set_typ(Some(kind.unwrap_or("bind").to_owned()))
        .set_source(Some(source))
        .set_options(Some(options));
    Ok(mount)
}

fn add_hook(spec: &mut Spec, asked: &Hook) -> Result<(), CdiError> {
    let path = normalised(&asked.path).map_err(|source| CdiError::Path { what: "hook's program", source })?;
    if let Some(timeout_s) = asked.timeout.filter(|timeout| *timeout < 1) {
        return Err(CdiError::HookTimeout { path, timeout_s });
    }
    if let Some(bad) = asked.env.iter().flatten().find(|variable| !variable.contains('=')) {
        return Err(CdiError::Variable(bad.clone()));
    }
    let mut hook = OciHook::default();
    hook.set_path(path).set_args(asked.args.clone()).set_env(asked.env.clone()).set_timeout(asked.timeout);
    let mut hooks: Hooks = spec.hooks().clone().unwrap_or_default();
    let list = |list: &Option<Vec<OciHook>>| {
        let mut list = list.clone().unwrap_or_default();
        list.push(hook.clone());
        Some(list)
    };
    match asked.hook_name.as_str() {
        #[allow(deprecated)] // vendors' files still have them
        "prestart" => hooks.set_prestart(list(hooks.prestart())),
        "createRuntime" => hooks.set_create_runtime(list(hooks.create_runtime())),
        "createContainer" => hooks.set_create_container(list(hooks.create_container())),
        "startContainer" => hooks.set_start_container(list(hooks.start_container())),
        "poststart" => hooks.set_poststart(list(hooks.poststart())),
        "poststop" => hooks.set_poststop(list(hooks.poststop())),
        name => return Err(CdiError::Hook(name.to_owned())),
    };
    spec.set_hooks(Some(hooks));
    Ok(())
}

/// Group 0 is left out, as the specification says.
fn groups(spec: &mut Spec, added: &[u32]) {
    let Some(process) = spec.process_mut() else { return };
    let mut all = process.user().additional_gids().clone().unwrap_or_default();
    for gid in added.iter().filter(|gid| **gid != 0) {
        if !all.contains(gid) {
            all.push(*gid);
        }
    }
    process.user_mut().set_additional_gids(Some(all));
}

/// Each has one container and one name there.
fn net_device(spec: &mut Spec, asked: &NetDevice) -> Result<(), CdiError> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let (found, wanted) = (&asked.host_interface_name, &asked.name);
    let mut all = linux.net_devices().clone().unwrap_or_default();
    let is_taken = all.contains_key(found) || all.values().any(|one| one.name().as_ref() == Some(wanted));
    if is_taken || found.is_empty() || wanted.is_empty() {
        return Err(CdiError::NetDevice { found: found.clone(), wanted: wanted.clone() });
    }
    let mut device = LinuxNetDevice::default();
    device.set_name(Some(wanted.clone()));
    all.insert(found.clone(), device);
    linux.set_net_devices(Some(all));
    Ok(())
}

/// The last one is the container's, as other runtimes have it.
fn intel_rdt(spec: &mut Spec, asked: &IntelRdt) {
    let Some(linux) = spec.linux_mut() else { return };
    let mut planned = LinuxIntelRdt::default();
    planned
        .set_clos_id(asked.clos_id.clone())
        .set_l3_cache_schema(asked.l3_cache_schema.clone())
        .set_mem_bw_schema(asked.mem_bw_schema.clone())
        .set_schemata(asked.schemata.clone())
        .set_enable_monitoring(asked.enable_monitoring);
    linux.set_intel_rdt(Some(planned));
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::spec::fixture::Scene;

    fn edits(value: Value) -> Edits {
        serde_json::from_value(value).unwrap()
    }

    fn applied(value: Value) -> Result<Spec, CdiError> {
        let scene = Scene::default();
        let mut spec =
            crate::spec::container(&scene.host, &scene.pod_facts(), &scene.container_facts()).unwrap();
        let null = HostNode { kind: NodeKind::Character, numbers: (1, 3), mode: 0o666 };
        let nodes = HashMap::from([
            (PathBuf::from("/dev/gpu"), Ok(null)),
            (PathBuf::from("/dev/absent"), Err("no such file".to_owned())),
        ]);
        let (first, second) = (edits(json!({"env": ["FIRST=1", "PATH=/x"]})), edits(value));
        apply(&mut spec, &[&first, &second], &nodes).map(|()| spec)
    }

    fn node(value: Value) -> Result<(LinuxDevice, Option<LinuxDeviceCgroup>), CdiError> {
        let plain = applied(json!({}))?.linux().as_ref().unwrap().resources().clone().unwrap();
        let linux = applied(json!({"deviceNodes": [value]}))?.linux().clone().unwrap();
        let rules = linux.resources().as_ref().unwrap().devices().clone().unwrap();
        let added =
            (rules.len() > plain.devices().as_ref().unwrap().len()).then(|| rules.last().unwrap().clone());
        Ok((linux.devices().as_ref().unwrap().last().unwrap().clone(), added))
    }

    #[test]
    fn variables_replace_those_of_their_name() {
        let spec = applied(json!({"env": ["FIRST=2", "NEW=a=b"]})).unwrap();
        let env = spec.process().as_ref().unwrap().env().clone().unwrap();
        for (variable, count) in [("FIRST=2", 1), ("FIRST=1", 0), ("NEW=a=b", 1), ("PATH=/x", 1)] {
            assert_eq!(env.iter().filter(|one| *one == variable).count(), count, "{variable} in {env:?}");
        }
        for bad in ["", "A", "=b", "A=\0"] {
            assert!(matches!(applied(json!({"env": [bad]})), Err(CdiError::Variable(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_node_is_what_the_file_says_and_else_what_the_host_has() {
        let (made, rule) = node(json!({"path": "/dev/x", "hostPath": "/dev/gpu"})).unwrap();
        assert_eq!((made.path().as_path(), made.typ()), (Path::new("/dev/x"), LinuxDeviceType::C));
        assert_eq!((made.major(), made.minor(), made.file_mode()), (1, 3, Some(0o666)));
        assert_eq!((made.uid(), made.gid()), (Some(1000), Some(1000)), "the program's");
        let rule = rule.unwrap();
        assert_eq!((rule.major(), rule.minor(), rule.access().as_deref()), (Some(1), Some(3), Some("rwm")));

        let whole = json!({"path": "/dev/absent", "type": "b", "major": 7, "minor": 8, "fileMode": 416,
                           "permissions": "wr", "uid": 0, "gid": 5});
        let (made, rule) = node(whole).unwrap();
        assert_eq!((made.typ(), made.major(), made.minor()), (LinuxDeviceType::B, 7, 8));
        assert_eq!((made.file_mode(), made.uid(), made.gid()), (Some(0o640), Some(0), Some(5)));
        assert_eq!(rule.unwrap().access().as_deref(), Some("rw"));

        assert!(node(json!({"path": "/dev/gpu", "permissions": "none"})).unwrap().1.is_none());
        assert!(node(json!({"path": "/dev/p", "type": "p"})).unwrap().1.is_none());
    }

    #[test]
    fn a_node_that_cannot_be_had_is_refused() {
        for (bad, part) in [
            (json!({"path": "/dev/absent"}), "/dev/absent is not a device node of this host: no such file"),
            (json!({"path": "/dev/gpu", "type": "b"}), "another kind"),
            (json!({"path": "dev/x", "hostPath": "/dev/gpu"}), "its device node"),
            (json!({"path": "/dev/gpu", "permissions": "rx"}), "\"rx\""),
        ] {
            let error = node(bad).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn mounts_are_bound_replace_their_place_and_lie_in_order() {
        let spec = applied(json!({"mounts": [
            {"hostPath": "/opt/a/b", "containerPath": "/opt/a/b", "options": ["ro", "bind"]},
            {"hostPath": "/opt/a", "containerPath": "/opt/a/"},
            {"hostPath": "/my/hosts", "containerPath": "/etc/hosts", "type": "none"},
            {"hostPath": "tmpfs", "containerPath": "/scratch", "type": "tmpfs", "options": ["size=1m"]},
        ]}))
        .unwrap();
        let mounts = spec.mounts().clone().unwrap();
        let place = |path: &str| mounts.iter().position(|one| one.destination() == Path::new(path)).unwrap();
        assert!(place("/scratch") < place("/opt/a") && place("/opt/a") < place("/opt/a/b"));
        assert!(place("/dev") < place("/dev/pts"), "ours are still in order");
        let hosts: Vec<_> =
            mounts.iter().filter(|one| one.destination() == Path::new("/etc/hosts")).collect();
        assert_eq!((hosts.len(), hosts[0].source().as_deref()), (1, Some(Path::new("/my/hosts"))));
        let of = |path| {
            let mount = &mounts[place(path)];
            (mount.typ().clone().unwrap(), mount.options().clone().unwrap().join(","))
        };
        assert_eq!(of("/opt/a"), ("bind".into(), "rbind".into()));
        assert_eq!(of("/opt/a/b"), ("bind".into(), "ro,bind".into()));
        assert_eq!(of("/scratch"), ("tmpfs".into(), "size=1m".into()));
        for bad in
            [json!({"hostPath": "/a", "containerPath": "/"}), json!({"hostPath": "a", "containerPath": "/b"})]
        {
            assert!(applied(json!({"mounts": [bad]})).is_err());
        }
    }

    #[test]
    fn hooks_come_at_their_points_or_are_refused() {
        let hook = |name: &str| json!({"hooks": [{"hookName": name, "path": "/bin/h", "args": ["h", "x"], "timeout": 2}]});
        for name in
            ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
        {
            let hooks = serde_json::to_value(applied(hook(name)).unwrap().hooks()).unwrap();
            assert_eq!(hooks[name], json!([{"path": "/bin/h", "args": ["h", "x"], "timeout": 2}]), "{hooks}");
        }
        assert!(matches!(applied(hook("later")), Err(CdiError::Hook(_))));
        for bad in [
            json!({"hookName": "prestart", "path": "h"}),
            json!({"hookName": "prestart", "path": "/h", "timeout": 0}),
            json!({"hookName": "prestart", "path": "/h", "env": ["A"]}),
        ] {
            assert!(applied(json!({"hooks": [bad]})).is_err());
        }
    }

    #[test]
    fn groups_are_added_once_and_never_roots() {
        let spec = applied(json!({"additionalGids": [0, 44, 2000, 44]})).unwrap();
        let groups = spec.process().as_ref().unwrap().user().additional_gids().clone().unwrap();
        assert_eq!(groups, [1000, 2000, 44]);
    }

    #[test]
    fn network_devices_are_moved_each_under_a_name_of_its_own() {
        let device = |found: &str, name: &str| json!({"hostInterfaceName": found, "name": name});
        let devices = |list: &[Value]| applied(json!({"netDevices": list}));
        let spec = devices(&[device("eth1", "net1"), device("eth2", "net2")]).unwrap();
        let planned = serde_json::to_value(spec.linux().as_ref().unwrap().net_devices()).unwrap();
        assert_eq!(planned, json!({"eth1": {"name": "net1"}, "eth2": {"name": "net2"}}));
        for bad in [
            &[device("eth1", "a"), device("eth1", "b")][..],
            &[device("eth1", "a"), device("eth2", "a")],
            &[device("", "a")],
            &[device("eth1", "")],
        ] {
            assert!(matches!(devices(bad), Err(CdiError::NetDevice { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_share_of_caches_is_the_runtimes_to_judge() {
        let asked =
            json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "enableMonitoring": true, "enableCMT": true});
        let spec = applied(json!({"intelRdt": asked})).unwrap();
        let planned = serde_json::to_value(spec.linux().as_ref().unwrap().intel_rdt()).unwrap();
        assert_eq!(planned, json!({"closID": "gold", "l3CacheSchema": "L3:0=f", "enableMonitoring": true}));
    }
}
