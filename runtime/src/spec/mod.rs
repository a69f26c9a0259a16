//! Decisions: an OCI runtime specification becomes a [`Plan`]. Pure, so that all of it is tested without privileges.
//!
//! Whatever is not supported yet is refused here, by the name of its field, before anything has been touched.

mod cpus;
mod devices;
mod error;
#[cfg(test)]
mod fuzz;
mod hooks;
mod id_maps;
mod intel_rdt;
mod memory_policy;
mod mounts;
mod namespaces;
mod net_devices;
mod priority;
mod process;
mod unsupported;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cleat_sys::memory_policy::MemoryPolicy;
use cleat_sys::mount::Propagation;
use nix::sys::personality::Persona;
use oci_spec::runtime::{
    Linux, LinuxPersonality, LinuxPersonalityDomain, LinuxResources, LinuxSeccomp, Spec,
};

use crate::systemd::Scope;

pub(crate) use cpus::CpuAffinity;
pub(crate) use devices::Device;
pub(crate) use error::SpecError;
pub(crate) use hooks::{Hook, Hooks, planned as hooks};
pub(crate) use id_maps::{IdMap, IdMaps};
pub(crate) use intel_rdt::IntelRdt;
pub(crate) use mounts::{Mount, MountKind, OptionList};
pub(crate) use namespaces::{MountNamespace, Namespaces, UserNamespace};
pub(crate) use net_devices::NetDevice;
pub(crate) use priority::IoPriority;
pub(crate) use process::{Capabilities, ProcessPlan, Rlimit};

/// The longest container id, in bytes.
const MAX_ID_BYTES: usize = 255;

/// All that is decided about a container before its first effect.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) cgroup_path: String,
    /// Whether the specification names it: then nothing else will do.
    pub(crate) names_cgroup: bool,
    pub(crate) resources: LinuxResources,
    pub(crate) namespaces: Namespaces,
    pub(crate) root: Root,
    pub(crate) mounts: Vec<Mount>,
    /// Of what is mounted anew.
    pub(crate) mount_label: Option<String>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) devices: Vec<Device>,
    pub(crate) masked_paths: Vec<PathBuf>,
    pub(crate) readonly_paths: Vec<PathBuf>,
    /// Names in the form of the file below `/proc/sys`: `net/ipv4/ip_forward`.
    pub(crate) sysctls: Vec<(PathBuf, String)>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) seccomp: Option<LinuxSeccomp>,
    pub(crate) personality: Option<Persona>,
    pub(crate) memory_policy: Option<MemoryPolicy>,
    pub(crate) intel_rdt: Option<IntelRdt>,
    pub(crate) hooks: Hooks,
    /// For the hooks.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) process: ProcessPlan,
}

/// The root filesystem.
#[derive(Debug)]
pub(crate) struct Root {
    /// Absolute.
    pub(crate) path: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) propagation: RootPropagation,
}

/// `linux.rootfsPropagation`: how mount events pass between the container and the host, and within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RootPropagation {
    pub(crate) kind: Propagation,
    pub(crate) recursive: bool,
}

impl Plan {
    /// The plan of the container `id` whose `config.json` in `bundle` holds `spec`.
    pub(crate) fn new(id: &str, bundle: &Path, spec: &Spec) -> Result<Self, SpecError> {
        check_id(id)?;
        unsupported::refuse(spec)?;
        let linux = spec.linux().as_ref().ok_or(SpecError::Missing("linux"))?;
        let process = spec.process().as_ref().ok_or(SpecError::Missing("process"))?;
        let maps = IdMaps::new("linux", linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref())?;
        let mut namespaces = Namespaces::new(linux.namespaces().as_deref().unwrap_or_default(), maps)?;
        if let Some(offsets) = linux.time_offsets() {
            namespaces.offset_time(offsets)?;
        }
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let mut mounts: Vec<_> = mounts.iter().map(Mount::new).collect::<Result<_, _>>()?;
        let mount_label = process::label("linux.mountLabel", linux.mount_label().as_ref())?;
        if let Some(label) = &mount_label {
            mounts.iter_mut().for_each(|mount| mount.label(label));
        }
        if namespaces.user.is_none() && mounts.iter().any(Mount::takes_the_containers_owners) {
            return Err(SpecError::NeedsNamespace("option idmap of a mount without mappings", "user"));
        }
        Ok(Self {
            cgroup_path: cgroup_path(id, linux)?,
            names_cgroup: linux.cgroups_path().as_ref().is_some_and(|path| !path.as_os_str().is_empty()),
            resources: linux.resources().clone().unwrap_or_default(),
            root: root(bundle, spec, linux)?,
            mounts,
            mount_label,
            net_devices: net_devices::plan(linux.net_devices().as_ref(), &namespaces)?,
            devices: devices::plan(linux.devices().as_deref().unwrap_or_default())?,
            masked_paths: absolute_paths("linux.maskedPaths", linux.masked_paths())?,
            readonly_paths: absolute_paths("linux.readonlyPaths", linux.readonly_paths())?,
            sysctls: sysctls(linux, &namespaces)?,
            hostname: uts_name("hostname", spec.hostname().as_ref(), &namespaces)?,
            domainname: uts_name("domainname", spec.domainname().as_ref(), &namespaces)?,
            seccomp: linux.seccomp().clone(),
            personality: linux.personality().as_ref().map(personality).transpose()?,
            memory_policy: linux.memory_policy().as_ref().map(memory_policy::plan).transpose()?,
            intel_rdt: linux.intel_rdt().as_ref().map(|asked| intel_rdt::plan(id, asked)).transpose()?,
            hooks: Hooks::new(spec.hooks().as_ref())?,
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            process: ProcessPlan::new(process)?,
            namespaces,
        })
    }
}

impl Plan {
    /// Has systemd make the cgroup: one that the specification has `named` must be a scope.
    pub(crate) fn require_systemd(&mut self, id: &str, named: bool) -> Result<(), SpecError> {
        if !named {
            self.cgroup_path = Scope::of_id(id)?.path().to_owned();
        } else if Scope::of_path(&self.cgroup_path).is_none() {
            let expected = format!("{} (slice:prefix:name is expected)", self.cgroup_path);
            return Err(SpecError::value("linux.cgroupsPath", expected));
        }
        Ok(())
    }
}

/// PER_LINUX32 of linux/personality.h.
const LINUX32: i32 = 8;

fn personality(specified: &LinuxPersonality) -> Result<Persona, SpecError> {
    // The specification knows of none as yet.
    if let Some(flag) = specified.flags().iter().flatten().next() {
        return Err(SpecError::value("linux.personality.flags", flag));
    }
    Ok(match specified.domain() {
        LinuxPersonalityDomain::PerLinux => Persona::empty(),
        LinuxPersonalityDomain::PerLinux32 => Persona::from_bits_retain(LINUX32),
    })
}

/// Ids become names of cgroups and folders.
pub(crate) fn check_id(id: &str) -> Result<(), SpecError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_+.-".contains(c);
    if id.is_empty() || id.len() > MAX_ID_BYTES || id == "." || id == ".." || !id.chars().all(plain) {
        return Err(SpecError::Id(id.to_owned()));
    }
    Ok(())
}

fn cgroup_path(id: &str, linux: &Linux) -> Result<String, SpecError> {
    let Some(path) = linux.cgroups_path() else { return Ok(format!("/{id}")) };
    let text = path.to_str().ok_or_else(|| SpecError::value("linux.cgroupsPath", path.display()))?;
    if let Some(scope) = Scope::parse(text)? {
        return Ok(scope.path().to_owned());
    }
    let relative = text.trim_start_matches('/');
    Ok(format!("/{}", if relative.is_empty() { id } else { relative }))
}

fn root(bundle: &Path, spec: &Spec, linux: &Linux) -> Result<Root, SpecError> {
    let root = spec.root().as_ref().ok_or(SpecError::Missing("root"))?;
    Ok(Root {
        path: bundle.join(root.path()),
        read_only: root.readonly().unwrap_or(false),
        propagation: root_propagation(linux.rootfs_propagation().as_deref().unwrap_or_default())?,
    })
}

fn root_propagation(name: &str) -> Result<RootPropagation, SpecError> {
    let kind = match name.strip_prefix('r').unwrap_or(name) {
        "" | "slave" => Propagation::Slave,
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "unbindable" => Propagation::Unbindable,
        _ => return Err(SpecError::value("linux.rootfsPropagation", name)),
    };
    Ok(RootPropagation { kind, recursive: name.is_empty() || name.starts_with('r') })
}

fn absolute_paths(field: &'static str, paths: &Option<Vec<String>>) -> Result<Vec<PathBuf>, SpecError> {
    let check = |path: &String| {
        if path.starts_with('/') { Ok(path.into()) } else { Err(SpecError::value(field, path)) }
    };
    paths.as_deref().unwrap_or_default().iter().map(check).collect()
}

/// Names whose effect would reach beyond the container are refused: one that belongs to no namespace of its own.
fn sysctls(linux: &Linux, namespaces: &Namespaces) -> Result<Vec<(PathBuf, String)>, SpecError> {
    let Some(sysctls) = linux.sysctl() else { return Ok(Vec::new()) };
    let mut planned: Vec<_> = sysctls
        .iter()
        .map(|(name, value)| {
            // Dots separate, unless a slash comes first: then dots are part of a name (sysctl(8)).
            let slashes = name.find('/') < name.find('.') && name.contains('/');
            let path = if slashes { name.clone() } else { name.replace(['.', '/'], "\0").replace('\0', "/") };
            if path.split('/').any(|part| part.is_empty() || part == ".." || part == ".")
                || value.contains('\0')
            {
                return Err(SpecError::value("linux.sysctl", name));
            }
            namespaces.check_sysctl(&path, name)?;
            Ok((PathBuf::from(path), value.clone()))
        })
        .collect::<Result<_, _>>()?;
    planned.sort();
    Ok(planned)
}

fn uts_name(
    field: &'static str,
    name: Option<&String>,
    namespaces: &Namespaces,
) -> Result<Option<String>, SpecError> {
    match name {
        Some(name) if !name.is_empty() && !namespaces.has_own_uts() => {
            Err(SpecError::NeedsNamespace(field, "uts"))
        }
        Some(name) if !name.is_empty() => Ok(Some(name.clone())),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_plain_names() {
        for good in ["a", "a.b_c-d+e", &"x".repeat(255)] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(256)] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_root_is_a_recursive_slave_unless_told_otherwise() {
        let expected = [("", Propagation::Slave, true), ("slave", Propagation::Slave, false)];
        for (name, kind, recursive) in expected {
            assert_eq!(root_propagation(name).unwrap(), RootPropagation { kind, recursive });
        }
        assert_eq!(root_propagation("rshared").unwrap().kind, Propagation::Shared);
        assert!(root_propagation("sideways").is_err());
    }
}
