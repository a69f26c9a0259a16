//! Device nodes a container has, and the cgroup rules that say which numbers it may use.
//!
//! The rules are the boundary, not the nodes: with CAP_MKNOD a container may make any node, but open only what is
//! allowed.

use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::path::normalised;
use super::{DeviceGrant, DeviceKind, HostDevice, SpecError};
use crate::engine::model::{DeviceRule, RuleKind};

/// Full access.
const ALL: &str = "rwm";

/// The numbers every container may use, all of character devices; `None` is any. The nodes that go with them are made
/// by the runtime (OCI runtime specification, default devices).
const DEFAULTS: [(Option<i64>, Option<i64>, &str); 10] = [
    // Nodes may be made, not opened.
    (None, None, "m"),
    // null, zero, full, random, urandom
    (Some(1), Some(3), ALL),
    (Some(1), Some(5), ALL),
    (Some(1), Some(7), ALL),
    (Some(1), Some(8), ALL),
    (Some(1), Some(9), ALL),
    // tty, console, ptmx
    (Some(5), Some(0), ALL),
    (Some(5), Some(1), ALL),
    (Some(5), Some(2), ALL),
    // The container's own terminals; those of others are in other devpts instances.
    (Some(136), None, ALL),
];

/// Folders of /dev that a container has mounts of its own on.
const OWN_MOUNTS: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

/// Nodes that stand for a container's own terminal.
const OWN_NODES: [&str; 2] = ["/dev/console", "/dev/ptmx"];

/// The nodes and rules of a container.
#[derive(Debug, PartialEq)]
pub(super) struct Devices {
    pub(super) nodes: Vec<LinuxDevice>,
    pub(super) rules: Vec<LinuxDeviceCgroup>,
}

/// Decides nodes and rules. A privileged container has all `of_host` and no rule that denies; what it is given by name
/// replaces a host device of the same path.
pub(super) fn devices(
    of_host: &[HostDevice],
    privileged: bool,
    grants: &[DeviceGrant],
) -> Result<Devices, SpecError> {
    let mut nodes = Vec::new();
    let mut rules = if privileged { vec![rule(true, None, None, None, ALL)] } else { default_rules() };
    for grant in grants {
        let path = normalised(&grant.device.path)
            .map_err(|source| SpecError::Path { what: "device path", source })?;
        if !privileged {
            rules.push(grant_rule(grant)?);
        }
        nodes.retain(|node: &LinuxDevice| node.path() != &path);
        nodes.push(node(&grant.device, &path));
    }
    if privileged {
        let given: Vec<_> = nodes.iter().map(|node| node.path().clone()).collect();
        let of_host = of_host.iter().filter(|device| !is_own(&device.path) && !given.contains(&device.path));
        nodes.extend(of_host.map(|device| node(device, &device.path)));
    }
    Ok(Devices { nodes, rules })
}

/// The rules of a container that has nothing but the default devices.
pub(super) fn default_rules() -> Vec<LinuxDeviceCgroup> {
    let deny_all = rule(false, None, None, None, ALL);
    let make_block = rule(true, Some(LinuxDeviceType::B), None, None, "m");
    let characters = DEFAULTS
        .iter()
        .map(|(major, minor, access)| rule(true, Some(LinuxDeviceType::C), *major, *minor, access));
    [deny_all, make_block].into_iter().chain(characters).collect()
}

/// The rules that a client has written itself, each of which allows.
pub(super) fn asked_rules(asked: &[DeviceRule]) -> Result<Vec<LinuxDeviceCgroup>, SpecError> {
    let one = |asked: &DeviceRule| {
        if !are_permissions(&asked.permissions) {
            return Err(SpecError::RulePermissions(asked.permissions.clone()));
        }
        let kind = match asked.kind {
            // The kernel reads no numbers behind it.
            RuleKind::All => return Ok(rule(true, None, None, None, ALL)),
            RuleKind::Block => LinuxDeviceType::B,
            RuleKind::Character => LinuxDeviceType::C,
        };
        let (major, minor) = (asked.major.map(i64::from), asked.minor.map(i64::from));
        Ok(rule(true, Some(kind), major, minor, &asked.permissions))
    };
    asked.iter().map(one).collect()
}

/// Any of r, w and m, each at most once.
fn are_permissions(text: &str) -> bool {
    let once = |c: char| text.matches(c).count() == 1;
    !text.is_empty() && text.chars().all(|c| matches!(c, 'r' | 'w' | 'm') && once(c))
}

fn grant_rule(grant: &DeviceGrant) -> Result<LinuxDeviceCgroup, SpecError> {
    let permissions = &grant.permissions;
    if !are_permissions(permissions) {
        return Err(SpecError::DevicePermissions {
            path: grant.device.path.clone(),
            permissions: permissions.clone(),
        });
    }
    let (major, minor) = (grant.device.major.into(), grant.device.minor.into());
    Ok(rule(true, Some(kind(grant.device.kind)), Some(major), Some(minor), permissions))
}

fn node(device: &HostDevice, path: &Path) -> LinuxDevice {
    let mut node = LinuxDevice::default();
    node.set_path(path.to_owned())
        .set_typ(kind(device.kind))
        .set_major(device.major.into())
        .set_minor(device.minor.into())
        .set_file_mode(Some(device.mode & 0o777))
        .set_uid(Some(device.uid))
        .set_gid(Some(device.gid));
    node
}

fn kind(kind: DeviceKind) -> LinuxDeviceType {
    match kind {
        DeviceKind::Block => LinuxDeviceType::B,
        DeviceKind::Character => LinuxDeviceType::C,
    }
}

pub(super) fn rule(
    allow: bool,
    typ: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(typ.or(Some(LinuxDeviceType::A)))
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

fn is_own(path: &Path) -> bool {
    OWN_MOUNTS.iter().any(|folder| path.starts_with(folder))
        || OWN_NODES.iter().any(|node| path == Path::new(node))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn device(path: &str, kind: DeviceKind, major: u32, minor: u32) -> HostDevice {
        HostDevice { path: path.into(), kind, major, minor, mode: 0o20_660, uid: 0, gid: 6 }
    }

    fn grant(path: &str, permissions: &str) -> DeviceGrant {
        DeviceGrant { device: device(path, DeviceKind::Block, 8, 1), permissions: permissions.into() }
    }

    fn paths(devices: &Devices) -> Vec<PathBuf> {
        devices.nodes.iter().map(|node| node.path().clone()).collect()
    }

    #[test]
    fn everything_is_denied_before_anything_is_allowed() {
        let devices = devices(&[], false, &[]).unwrap();
        assert!(devices.nodes.is_empty());
        assert!(!devices.rules[0].allow());
        assert_eq!((devices.rules[0].typ(), devices.rules[0].major()), (Some(LinuxDeviceType::A), None));
        assert!(devices.rules[1..].iter().all(LinuxDeviceCgroup::allow));
        let opens_anything = |rule: &LinuxDeviceCgroup| {
            rule.allow() && rule.major().is_none() && rule.access().as_deref().is_some_and(|a| a != "m")
        };
        assert!(!devices.rules.iter().any(opens_anything));
    }

    #[test]
    fn a_grant_is_a_node_and_a_rule() {
        let devices = devices(&[], false, &[grant("/dev/./sda1", "rw")]).unwrap();
        assert_eq!(paths(&devices), [PathBuf::from("/dev/sda1")]);
        assert_eq!((devices.nodes[0].file_mode(), devices.nodes[0].gid()), (Some(0o660), Some(6)));
        let last = devices.rules.last().unwrap();
        assert_eq!((last.typ(), last.major(), last.minor()), (Some(LinuxDeviceType::B), Some(8), Some(1)));
        assert_eq!(last.access().as_deref(), Some("rw"));
    }

    #[test]
    fn permissions_are_r_w_and_m_once_each() {
        for good in ["r", "w", "m", "rw", "mrw"] {
            assert!(devices(&[], false, &[grant("/dev/x", good)]).is_ok(), "{good}");
        }
        for bad in ["", "x", "rwx", "rr", "r w"] {
            let result = devices(&[], false, &[grant("/dev/x", bad)]);
            let expected = SpecError::DevicePermissions { path: "/dev/x".into(), permissions: bad.into() };
            assert_eq!(result, Err(expected));
        }
        assert!(matches!(devices(&[], false, &[grant("dev/x", "r")]), Err(SpecError::Path { .. })));
    }

    #[test]
    fn a_privileged_container_has_the_hosts_devices_but_its_own_terminals() {
        let of_host = ["/dev/kvm", "/dev/console", "/dev/ptmx", "/dev/pts/0", "/dev/shm/x", "/dev/sda"]
            .map(|path| device(path, DeviceKind::Character, 10, 232));
        let devices = devices(&of_host, true, &[grant("/dev/sda", "r")]).unwrap();
        assert_eq!(paths(&devices), [PathBuf::from("/dev/sda"), PathBuf::from("/dev/kvm")]);
        assert_eq!(devices.nodes[0].typ(), LinuxDeviceType::B);
        assert_eq!(devices.rules.len(), 1);
        assert!(devices.rules[0].allow());
    }
}
