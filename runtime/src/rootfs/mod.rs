//! The container's file system, built in init's new mount namespace.
//!
//! ```text
//! 1 cut the tie to the host      mount events reach us, ours do not reach the host
//! 2 take the host's part         while host paths still mean the host's files (see `materials`)
//! 3 mount the root               on top of "/", so that no folder of the host is needed for it
//! 4 mount the rest               every target resolved beneath the root's descriptor
//! 5 devices, console, masks
//! 6 hooks                        the last that can reach programs of the host
//! 7 pivot                        the host's tree is gone
//! ```
//! In a mount namespace that is not the container's own there is no 1 and no 7 (see `shared`).
//!
//! No path of the container is ever resolved by us or from the host's root: all are found by `openat2` beneath the
//! root's descriptor ([`Tree`]), and mounts are put in place by descriptor.

mod attach;
mod cgroupfs;
mod console;
mod copy_up;
mod devices;
mod masks;
mod materials;
mod overlay;
mod pivot;
mod places;
mod shared;
mod tree;
mod workshop;

use std::os::fd::OwnedFd;
use std::path::Path;

use cleat_sys::cgroup::Cgroup;
use cleat_sys::mount::{Attributes, Propagation, set_attributes};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

pub(crate) use cgroupfs::hierarchies;
pub(crate) use console::{Console, open as open_console};
pub(crate) use materials::{Materials, Tenant};
pub(crate) use places::{make_places, mount_root_on_itself};
pub use shared::SharedRoot;
pub(crate) use tree::{Tree, Wanted, is_folder};
pub(crate) use workshop::inside as in_workshop;

use crate::failure::Step;
use crate::request::Rootfs;
use crate::spec::{Mount, MountKind, MountNamespace, Plan};
use crate::{Failure, selinux};

/// What mounts need beside the plan.
pub(crate) struct Supplies<'a> {
    pub(crate) cgroup: &'a Cgroup,
    /// User namespaces that map mounts' owners, by the mounts' positions.
    pub(crate) owners: Vec<Option<OwnedFd>>,
    /// What was taken by the builder, for a container with a user namespace or in somebody else's mount namespace.
    pub(crate) materials: Option<Materials>,
    /// An existing mount namespace to join.
    pub(crate) namespace: Option<OwnedFd>,
    /// Whether the host's root is left behind rather than taken away.
    pub(crate) no_pivot: bool,
}

/// Builds the container's file system and, after `before_pivot`, makes it the caller's root; with a terminal, its console
/// too.
pub(crate) fn enter(
    plan: &Plan,
    rootfs: &Rootfs,
    supplies: Supplies<'_>,
    before_pivot: impl FnOnce() -> Result<(), Failure>,
) -> Result<(Tree, Option<Console>), Failure> {
    let is_own = plan.namespaces.mounts == MountNamespace::New;
    if is_own {
        materials::cut_tie(plan)?;
    }
    let Materials { trees, root, nodes } = match supplies.materials {
        Some(materials) => materials,
        None => Materials::make(plan, rootfs, &supplies.owners)?,
    };
    let tree = match is_own {
        true => place_root(root, plan.root.propagation.kind == Propagation::Shared)?,
        false => shared::place(root, &plan.root.path, supplies.namespace.as_ref())?,
    };
    for (mount, prepared) in plan.mounts.iter().zip(trees) {
        mount_one(&tree, plan, (mount, prepared), supplies.cgroup)?;
    }
    devices::make(&tree, plan, &nodes)?;
    let console = if plan.process.terminal { Some(console::make(&tree, &plan.process)?) } else { None };
    masks::apply(&tree, plan)?;
    let cwd = &plan.process.cwd;
    tree.find_or_create(cwd, Wanted::Folder).step(|| format!("make the working folder {}", cwd.display()))?;
    before_pivot()?;
    if supplies.no_pivot || !is_own {
        pivot::enter_without_pivot(&tree).step(|| "change root to the root filesystem")?;
    } else {
        pivot::enter(&tree).step(|| "pivot into the root filesystem")?;
    }
    finish_root(&tree, plan)?;
    Ok((tree, console))
}

/// Mounts the root filesystem on top of the host's root, so that no folder of the host is needed for it.
fn place_root(root: OwnedFd, shared: bool) -> Result<Tree, Failure> {
    if shared {
        mount_change("/", MountPropagationFlags::PRIVATE).step(|| "make the host's root private")?;
    }
    materials::put_on_root(&root).step(|| "mount the root filesystem")?;
    Ok(Tree::new(root))
}

fn mount_one(
    tree: &Tree,
    plan: &Plan,
    (mount, prepared): (&Mount, Option<OwnedFd>),
    cgroup: &Cgroup,
) -> Result<(), Failure> {
    let label = plan.mount_label.as_deref();
    let step = || materials::naming(mount);
    let is_bind = matches!(mount.kind, MountKind::Bind { .. });
    let wanted = match &prepared {
        Some(copy) if is_bind && !tree::is_folder(copy).step(step)? => Wanted::File,
        _ => Wanted::Folder,
    };
    // An image that brings /proc as a link could have its masks put elsewhere (CVE-2019-19921).
    let target = if mount.is_filesystem("proc") || mount.is_filesystem("sysfs") {
        tree.find_plain(&mount.target).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => tree.find_or_create(&mount.target, wanted),
            _ => Err(error),
        })
    } else {
        tree.find_or_create(&mount.target, wanted)
    };
    let target = target.step(step)?;
    let mounted = if mount.kind == MountKind::Cgroup {
        cgroupfs::mount(mount, &target, cgroup, label)?
    } else {
        let tree = attach::detached(mount, prepared).step(step)?;
        if mount.copy_up {
            copy_up::copy(&target, &tree).step(|| format!("copy what is at {}", mount.target.display()))?;
        }
        attach::attach(&tree, &target).step(step)?;
        if let Some(label) = label.filter(|_| mount.is_filesystem("mqueue")) {
            // Its superblock is the IPC namespace's and has labels of its own, so that an option comes too late.
            selinux::label_folder(&tree, label).step(|| format!("label {}", mount.target.display()))?;
        }
        tree
    };
    if let Some(propagation) = mount.propagation {
        let change = Attributes { propagation: Some(propagation.kind), ..Attributes::default() };
        set_attributes(&mounted, &change, propagation.recursive).step(step)?;
    }
    Ok(())
}

/// What may hold for the root only once everything beneath it is in place.
fn finish_root(tree: &Tree, plan: &Plan) -> Result<(), Failure> {
    let propagation = plan.root.propagation;
    let kind =
        Some(propagation.kind).filter(|kind| matches!(kind, Propagation::Shared | Propagation::Unbindable));
    let set = if plan.root.read_only { cleat_sys::mount::READ_ONLY } else { 0 };
    let change = Attributes { set, clear: 0, propagation: kind };
    if change.is_empty() {
        return Ok(());
    }
    set_attributes(tree, &change, false).step(|| "set the root filesystem's attributes")
}

/// Mounts an overlay on the folder that the plan names as the root filesystem, in the caller's mount namespace, for a
/// runtime that takes it from there.
pub(crate) fn mount_overlay(plan: &Plan, rootfs: &Rootfs) -> Result<(), Failure> {
    materials::cut_tie(plan)?;
    let root = materials::take_root(plan, rootfs)?;
    shared::place(root, &plan.root.path, None).map(drop)
}

/// The tree of the caller's own root: in an exec'd process, the container's.
pub(crate) fn own_root() -> Result<Tree, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(Path::new("/"), flags, Mode::empty()).map(Tree::new).step(|| "open the container's root")
}
