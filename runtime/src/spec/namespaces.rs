//! `linux.namespaces`: which are made, which are joined.

use std::collections::HashMap;
use std::path::PathBuf;

use cleat_sys::namespace as kinds;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType as Type, LinuxTimeOffset};

use super::{IdMaps, SpecError};

/// The namespaces of a container.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Kinds made with init; the cgroup namespace is not among them (see [`Namespaces::new_cgroup`]).
    pub(crate) create: u64,
    /// Whether a cgroup namespace is made: after init has joined its cgroups, whose folders become its roots.
    pub(crate) new_cgroup: bool,
    /// Whether a time namespace is made, and its offsets in the form of `/proc/<pid>/timens_offsets`: before init, whose
    /// birth in it fixes them.
    pub(crate) new_time: Option<String>,
    /// Existing ones that are joined, by kind and file; the user and the mount namespace are not among them.
    pub(crate) join: Vec<(u64, PathBuf)>,
    /// Where the container's mounts are; among the kinds made with init if it is a new one.
    pub(crate) mounts: MountNamespace,
    /// The user namespace that owns all that are made.
    pub(crate) user: Option<UserNamespace>,
}

/// Where a container's mounts are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum MountNamespace {
    New,
    /// The one that the runtime is in.
    #[default]
    Runtimes,
    /// That of a file.
    At(PathBuf),
}

/// A user namespace of the container's own.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum UserNamespace {
    /// A new one with these mappings.
    New(IdMaps),
    /// That of a file. Its mappings are known to whoever wrote the specification, or have to be asked for.
    At(PathBuf, Option<IdMaps>),
}

/// System controls that belong to the IPC namespace (sysctl/kernel.rst).
const IPC_SYSCTLS: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

impl Namespaces {
    /// Decides about namespaces; `maps` are `linux.uidMappings` and `linux.gidMappings`.
    pub(super) fn new(specified: &[LinuxNamespace], maps: Option<IdMaps>) -> Result<Self, SpecError> {
        let mut planned = Self::default();
        let mut user = None;
        let mut seen = 0;
        for namespace in specified {
            let kind = kind(namespace.typ());
            if seen & kind != 0 {
                return Err(SpecError::value("linux.namespaces", format!("{} twice", namespace.typ())));
            }
            seen |= kind;
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                path if kind == kinds::USER => user = Some(path.cloned()),
                Some(path) if path.is_relative() => {
                    return Err(SpecError::value("linux.namespaces.path", path.display()));
                }
                Some(path) if kind == kinds::MOUNT => planned.mounts = MountNamespace::At(path.clone()),
                Some(path) => planned.join.push((kind, path.clone())),
                None if kind == kinds::CGROUP => planned.new_cgroup = true,
                None if kind == kinds::TIME => planned.new_time = Some(String::new()),
                None => planned.create |= kind,
            }
        }
        if planned.create & kinds::MOUNT != 0 {
            planned.mounts = MountNamespace::New;
        }
        planned.user = user_namespace(user, maps)?;
        if planned.user.is_some() && planned.mounts == MountNamespace::Runtimes {
            // Its root may mount nothing where somebody else is root.
            return Err(SpecError::NeedsNamespace("a user namespace", "mount"));
        }
        Ok(planned)
    }

    /// Adds `linux.timeOffsets`.
    pub(super) fn offset_time(
        &mut self,
        offsets: &HashMap<String, LinuxTimeOffset>,
    ) -> Result<(), SpecError> {
        let mut lines: Vec<_> = Vec::new();
        for (clock, offset) in offsets {
            let nanoseconds = offset.nanosecs().unwrap_or(0);
            if !matches!(clock.as_str(), "monotonic" | "boottime") || nanoseconds >= 1_000_000_000 {
                return Err(SpecError::value("linux.timeOffsets", clock));
            }
            lines.push(format!("{clock} {} {nanoseconds}\n", offset.secs().unwrap_or(0)));
        }
        lines.sort();
        match &mut self.new_time {
            Some(planned) => planned.extend(lines),
            None if lines.is_empty() => {}
            None => return Err(SpecError::Missing("linux.timeOffsets: a new time namespace")),
        }
        Ok(())
    }

    /// Kinds that the builder changes for itself to make or join them for init.
    pub(crate) fn builders(&self) -> u64 {
        let joined = self.join.iter().fold(0, |all, (kind, _)| all | kind) & !kinds::CGROUP;
        if self.new_time.is_some() { joined | kinds::TIME } else { joined }
    }

    /// Whether the kind is not the caller's.
    fn is_own(&self, kind: u64) -> bool {
        self.create & kind != 0 || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    pub(crate) fn has_own_cgroup(&self) -> bool {
        self.new_cgroup || self.is_own(kinds::CGROUP)
    }

    pub(crate) fn has_own_uts(&self) -> bool {
        self.is_own(kinds::UTS)
    }

    pub(crate) fn has_own_network(&self) -> bool {
        self.is_own(kinds::NETWORK)
    }

    /// Refuses a system control whose effect is not confined to a namespace of the container.
    pub(super) fn check_sysctl(&self, path: &str, name: &str) -> Result<(), SpecError> {
        let beyond = |hint| Err(SpecError::Sysctl { name: name.to_owned(), hint });
        if path.starts_with("net/") {
            return if self.is_own(kinds::NETWORK) { Ok(()) } else { beyond(": it has the host's network") };
        }
        let in_kernel = path.strip_prefix("kernel/").unwrap_or_default();
        if path.starts_with("fs/mqueue/") || IPC_SYSCTLS.contains(&in_kernel) {
            return if self.is_own(kinds::IPC) {
                Ok(())
            } else {
                beyond(": it has the host's IPC namespace")
            };
        }
        match in_kernel {
            "domainname" if self.has_own_uts() => Ok(()),
            "hostname" => beyond(": set hostname instead"),
            _ => beyond(""),
        }
    }
}

/// `specified`: whether there is one, and whether at a path.
fn user_namespace(
    specified: Option<Option<PathBuf>>,
    maps: Option<IdMaps>,
) -> Result<Option<UserNamespace>, SpecError> {
    // The runtime acts as root of the namespace: what it makes belongs to that.
    let has_root = |maps: &IdMaps| maps.users.outside(0).is_some() && maps.groups.outside(0).is_some();
    if maps.as_ref().is_some_and(|maps| !has_root(maps)) {
        return Err(SpecError::value("linux.uidMappings and linux.gidMappings", "no mapping of id 0"));
    }
    match (specified, maps) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(SpecError::NeedsNamespace("linux.uidMappings", "user")),
        (Some(None), None) => Err(SpecError::Missing("linux.uidMappings")),
        (Some(None), Some(maps)) => Ok(Some(UserNamespace::New(maps))),
        (Some(Some(path)), maps) if path.is_absolute() => Ok(Some(UserNamespace::At(path, maps))),
        (Some(Some(path)), _) => Err(SpecError::value("linux.namespaces.path", path.display())),
    }
}

fn kind(specified: Type) -> u64 {
    match specified {
        Type::Mount => kinds::MOUNT,
        Type::Cgroup => kinds::CGROUP,
        Type::Uts => kinds::UTS,
        Type::Ipc => kinds::IPC,
        Type::Pid => kinds::PID,
        Type::Network => kinds::NETWORK,
        Type::User => kinds::USER,
        Type::Time => kinds::TIME,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(list: &[(Type, Option<&str>)]) -> Result<Namespaces, SpecError> {
        let list: Vec<_> = list
            .iter()
            .map(|(typ, path)| {
                let mut namespace = LinuxNamespace::default();
                namespace.set_typ(*typ);
                namespace.set_path(path.map(PathBuf::from));
                namespace
            })
            .collect();
        Namespaces::new(&list, None)
    }

    #[test]
    fn namespaces_are_made_or_joined() {
        let plan =
            planned(&[(Type::Mount, None), (Type::Cgroup, None), (Type::Network, Some("/run/n"))]).unwrap();
        assert_eq!((plan.create, plan.new_cgroup), (kinds::MOUNT, true));
        assert_eq!(plan.join, [(kinds::NETWORK, PathBuf::from("/run/n"))]);
    }

    #[test]
    fn what_is_unclear_is_refused() {
        assert!(planned(&[(Type::Mount, None), (Type::Mount, None)]).is_err());
        assert!(planned(&[(Type::Mount, Some("ns/mnt"))]).is_err());
        assert!(planned(&[(Type::Mount, None), (Type::Network, Some("n"))]).is_err());
        assert_eq!(
            planned(&[(Type::Mount, None), (Type::User, None)]).unwrap_err(),
            SpecError::Missing("linux.uidMappings")
        );
    }

    #[test]
    fn mounts_are_in_a_new_namespace_or_in_somebody_elses() {
        let path = "/proc/1/ns/mnt";
        for (list, expected, created) in [
            (vec![(Type::Mount, None)], MountNamespace::New, kinds::MOUNT),
            (vec![], MountNamespace::Runtimes, 0),
            (vec![(Type::Mount, Some(path))], MountNamespace::At(path.into()), 0),
        ] {
            let plan = planned(&list).unwrap();
            assert_eq!((plan.mounts, plan.create, plan.join.len()), (expected, created, 0), "{list:?}");
        }
        let own_users = planned(&[(Type::User, Some("/proc/1/ns/user"))]);
        assert_eq!(own_users.unwrap_err(), SpecError::NeedsNamespace("a user namespace", "mount"));
    }

    #[test]
    fn a_user_namespace_has_mappings_and_mappings_a_user_namespace() {
        let maps = |json| {
            let list: Vec<oci_spec::runtime::LinuxIdMapping> = serde_json::from_str(json).unwrap();
            IdMaps::new("linux", Some(&list), Some(&list)).unwrap()
        };
        let good = || maps(r#"[{"containerID":0,"hostID":1000,"size":10}]"#);
        let path = || Some(PathBuf::from("/run/u"));
        let at = |maps| Some(UserNamespace::At("/run/u".into(), maps));
        assert_eq!(user_namespace(None, None).unwrap(), None);
        assert_eq!(user_namespace(Some(None), good()).unwrap(), good().map(UserNamespace::New));
        assert_eq!(user_namespace(Some(path()), good()).unwrap(), at(good()));
        assert_eq!(user_namespace(Some(path()), None).unwrap(), at(None));
        for (specified, maps) in [
            (None, good()),
            (Some(None), None),
            (Some(None), maps(r#"[{"containerID":1,"hostID":1000,"size":10}]"#)),
            (Some(Some("relative".into())), good()),
        ] {
            assert!(user_namespace(specified.clone(), maps).is_err(), "{specified:?}");
        }
    }

    #[test]
    fn offsets_need_a_time_namespace_and_a_clock_that_has_one() {
        let offsets = |json| serde_json::from_str::<HashMap<String, LinuxTimeOffset>>(json).unwrap();
        let good = offsets(r#"{"monotonic":{"secs":-5},"boottime":{"secs":1,"nanosecs":7}}"#);
        let mut plan = planned(&[(Type::Mount, None), (Type::Time, None)]).unwrap();
        plan.offset_time(&good).unwrap();
        assert_eq!(plan.new_time.as_deref(), Some("boottime 1 7\nmonotonic -5 0\n"));
        assert_eq!((plan.create, plan.builders()), (kinds::MOUNT, kinds::TIME));
        for bad in [r#"{"realtime":{"secs":1}}"#, r#"{"monotonic":{"nanosecs":1000000000}}"#] {
            assert!(plan.offset_time(&offsets(bad)).is_err(), "{bad}");
        }
        let mut host = planned(&[(Type::Mount, None)]).unwrap();
        assert!(host.offset_time(&good).is_err());
        assert!(host.offset_time(&HashMap::new()).is_ok());
    }

    #[test]
    fn a_sysctl_stays_within_the_container() {
        let plan = planned(&[(Type::Mount, None), (Type::Network, None)]).unwrap();
        for (path, allowed) in [
            ("net/ipv4/ip_forward", true),
            ("kernel/shmmax", false),
            ("kernel/core_pattern", false),
            ("kernel/hostname", false),
            ("vm/swappiness", false),
        ] {
            assert_eq!(plan.check_sysctl(path, path).is_ok(), allowed, "{path}");
        }
    }
}
