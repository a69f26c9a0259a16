//! Containers of a user who is not the host's root.
//!
//! Such a user is root in a user namespace of their own and nowhere else. So the builder goes into the container's before
//! anything is made, and works from there as it would on the host: the namespace counts as the runtime's own from then on.
//!
//! ```text
//! caller, uid 1000 ──fork──▶ builder ──▶ joins the container's user namespace, is its root ──▶ cgroup? ──clone──▶ init
//! ```
//! Cgroups are the host's root's unless that has given some away. A container that asks for no limits and for no
//! cgroup by name goes without.

use std::path::Path;

use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::namespace;
use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::process::geteuid;

use super::builder::{ScopeWanted, make_cgroup};
use super::channel::Channel;
use super::mapping::Owner;
use super::tie_to_caller;
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::spec::Plan;
use crate::{Failure, cgroups, process, systemd};

/// The mapping of the first user namespace, which is the host's.
const WHOLE_MAPPING: [&str; 3] = ["0", "0", "4294967295"];

/// Kinds of namespaces by their names in procfs, but the user and the pid namespace. Not every kernel has all.
const KINDS: [(&str, u64); 6] = [
    ("mnt", namespace::MOUNT),
    ("net", namespace::NETWORK),
    ("ipc", namespace::IPC),
    ("uts", namespace::UTS),
    ("cgroup", namespace::CGROUP),
    ("time", namespace::TIME),
];

/// Whether the caller is a user whose privileges begin in a user namespace of the container's.
pub(super) fn is_needed() -> bool {
    !geteuid().is_root()
}

/// Enters the planned user namespace, which the plan has no more then. Nothing has been made yet.
pub(super) fn enter(plan: &mut Plan, caller: &Channel) -> Result<(), Failure> {
    let step = || "make a container without being root";
    let planned = plan.namespaces.user.take();
    let Some(owner) = Owner::of(planned.as_ref())? else {
        return Err(Failure::because(step(), "a rootless container needs a user namespace of its own"));
    };
    plan.process.has_fixed_groups = owner.has_fixed_groups()?;
    become_owner(&owner, namespace::USER, plan.process.has_fixed_groups, |kinds| {
        namespace::join(&owner.namespace, kinds)
    })?;
    tie_to_caller(caller)
}

/// Joins namespaces, the user namespace of `owner` among them, and becomes its root.
pub(super) fn become_owner(
    owner: &Owner,
    kinds: u64,
    has_fixed_groups: bool,
    join: impl FnOnce(u64) -> std::io::Result<()>,
) -> Result<(), Failure> {
    join(kinds).step(|| format!("join user namespace {}", owner.name))?;
    process::become_root(has_fixed_groups)
}

/// Kinds of namespaces that the process `pid` does not share with the caller.
pub(super) fn not_shared_with(procfs: &Procfs, pid: i32) -> Result<u64, Failure> {
    let identity = |process: &str, name: &str| {
        let link = procfs.open_link(Path::new(&format!("{process}/ns/{name}")));
        let found = link.and_then(|file| Ok(fstat(file)?));
        found
            .map(|found| (found.st_dev, found.st_ino))
            .step(|| format!("look at namespace {process}/ns/{name}"))
    };
    let mut kinds = KINDS.iter().filter(|(name, _)| procfs.has(&format!("self/ns/{name}")));
    kinds.try_fold(0, |all, (name, kind)| {
        let is_shared = identity("self", name)? == identity(&pid.to_string(), name)?;
        Ok(if is_shared { all } else { all | kind })
    })
}

/// As [`make_cgroup`]; where that may not be made, and nothing needs it, none. `wanted`: whether a container may do without;
/// when it is not said, those of a user namespace may.
pub(super) fn make_cgroup_or_none(
    plan: &Plan,
    cgroup: Cgroup,
    scope: ScopeWanted,
    wanted: Option<bool>,
) -> Result<(Cgroup, Option<systemd::Placeholder>), Failure> {
    let refusal = match make_cgroup(&cgroup, scope) {
        Ok(placeholder) => return Ok((cgroup, placeholder)),
        Err(failure) if is_refusal(&failure) && !plan.names_cgroup => failure,
        Err(failure) => return Err(failure),
    };
    let may = match wanted {
        Some(may) => may,
        None => is_in_user_namespace()?,
    };
    if !may {
        return Err(refusal);
    }
    if cgroups::has_limits(cgroup.layout(), &plan.resources)? {
        let reason = format!(
            "a rootless container without permission for cgroups can have no limits ({})",
            refusal.reason
        );
        return Err(Failure { reason, ..refusal });
    }
    let none = Cgroup::open(&Layout::none(), &cgroup.path()).step(|| "do without a cgroup")?;
    Ok((none, None))
}

fn is_refusal(failure: &Failure) -> bool {
    let refusals = [Errno::ACCESS, Errno::PERM, Errno::ROFS].map(Errno::raw_os_error);
    failure.errno.is_some_and(|errno| refusals.contains(&errno))
}

fn is_in_user_namespace() -> Result<bool, Failure> {
    let step = || "look at the own user namespace";
    let map = Procfs::open().and_then(|procfs| procfs.read("self/uid_map")).step(step)?;
    Ok(!map.split_ascii_whitespace().eq(WHOLE_MAPPING))
}
