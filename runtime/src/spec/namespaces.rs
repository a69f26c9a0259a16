//! `linux.namespaces`: which are made, which are joined.

use std::path::PathBuf;

use cleat_sys::namespace as kinds;
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType as Type};

use super::SpecError;

/// The namespaces of a container.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// Kinds made with init; the cgroup namespace is not among them (see [`Namespaces::new_cgroup`]).
    pub(crate) create: u64,
    /// Whether a cgroup namespace is made: after init has joined its cgroups, whose folders become its roots.
    pub(crate) new_cgroup: bool,
    /// Existing ones that are joined, by kind and file.
    pub(crate) join: Vec<(u64, PathBuf)>,
}

/// System controls that belong to the IPC namespace (sysctl/kernel.rst).
const IPC_SYSCTLS: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

impl Namespaces {
    pub(super) fn new(specified: &[LinuxNamespace]) -> Result<Self, SpecError> {
        let mut planned = Self::default();
        let mut seen = 0;
        for namespace in specified {
            let kind = kind(namespace.typ())?;
            if seen & kind != 0 {
                return Err(SpecError::value("linux.namespaces", format!("{} twice", namespace.typ())));
            }
            seen |= kind;
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                Some(_) if kind == kinds::MOUNT => {
                    return Err(SpecError::Unsupported("linux.namespaces: joining a mount namespace".into()));
                }
                Some(path) if path.is_absolute() => planned.join.push((kind, path.clone())),
                Some(path) => return Err(SpecError::value("linux.namespaces.path", path.display())),
                None if kind == kinds::CGROUP => planned.new_cgroup = true,
                None => planned.create |= kind,
            }
        }
        if planned.create & kinds::MOUNT == 0 {
            return Err(SpecError::Missing("linux.namespaces: a mount namespace"));
        }
        Ok(planned)
    }

    /// Whether the kind is not the caller's.
    fn is_own(&self, kind: u64) -> bool {
        self.create & kind != 0 || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    pub(crate) fn has_own_uts(&self) -> bool {
        self.is_own(kinds::UTS)
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

fn kind(specified: Type) -> Result<u64, SpecError> {
    Ok(match specified {
        Type::Mount => kinds::MOUNT,
        Type::Cgroup => kinds::CGROUP,
        Type::Uts => kinds::UTS,
        Type::Ipc => kinds::IPC,
        Type::Pid => kinds::PID,
        Type::Network => kinds::NETWORK,
        Type::User => return Err(SpecError::Unsupported("linux.namespaces: user".into())),
        Type::Time => return Err(SpecError::Unsupported("linux.namespaces: time".into())),
    })
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
        Namespaces::new(&list)
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
        assert!(planned(&[]).is_err());
        assert!(planned(&[(Type::Mount, None), (Type::Mount, None)]).is_err());
        assert!(planned(&[(Type::Mount, Some("/proc/1/ns/mnt"))]).is_err());
        assert!(planned(&[(Type::Mount, None), (Type::Network, Some("n"))]).is_err());
        assert!(matches!(
            planned(&[(Type::Mount, None), (Type::User, None)]),
            Err(SpecError::Unsupported(_))
        ));
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
