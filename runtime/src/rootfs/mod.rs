//! The container's file system, built in init's new mount namespace.
//!
//! ```text
//! 1 cut the tie to the host      mount events reach us, ours do not reach the host
//! 2 copy what will be bound      while host paths still mean the host's files
//! 3 mount the root               on top of "/", so that no folder of the host is needed for it
//! 4 mount the rest               every target resolved beneath the root's descriptor
//! 5 devices, console, masks
//! 6 hooks                        the last that can reach programs of the host
//! 7 pivot                        the host's tree is gone
//! ```
//! No path of the container is ever resolved by us or from the host's root: all are found by `openat2` beneath the
//! root's descriptor ([`Tree`]), and mounts are put in place by descriptor.

mod attach;
mod cgroupfs;
mod console;
mod devices;
mod masks;
mod overlay;
mod pivot;
mod tree;

use std::os::fd::OwnedFd;
use std::path::Path;

use cleat_sys::cgroup::Cgroup;
use cleat_sys::mount::{Attributes, Propagation, map_owners, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

pub(crate) use console::{Console, open as open_console};
pub(crate) use tree::{Tree, Wanted};

use crate::Failure;
use crate::failure::Step;
use crate::request::Rootfs;
use crate::spec::{Mount, MountKind, Plan};

/// What mounts need beside the plan.
pub(crate) struct Supplies<'a> {
    pub(crate) cgroup: &'a Cgroup,
    /// User namespaces that map mounts' owners, by the mounts' positions.
    pub(crate) owners: Vec<Option<OwnedFd>>,
    /// Whether the host's root is left behind rather than taken away.
    pub(crate) no_pivot: bool,
}

/// Builds the container's file system and, after `before_pivot`, makes it the caller's root; with a terminal, its console
/// too.
pub(crate) fn enter(
    plan: &Plan,
    rootfs: &Rootfs,
    supplies: &Supplies<'_>,
    before_pivot: impl FnOnce() -> Result<(), Failure>,
) -> Result<(Tree, Option<Console>), Failure> {
    let shared = plan.root.propagation.kind == Propagation::Shared;
    if !shared {
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        mount_change("/", slave).step(|| "make the host's mounts slaves")?;
    }
    let sources = copy_sources(&plan.mounts, &supplies.owners)?;
    let tree = mount_root(plan, rootfs, shared)?;
    for (mount, source) in plan.mounts.iter().zip(sources) {
        mount_one(&tree, mount, source, supplies.cgroup)?;
    }
    devices::make(&tree, plan)?;
    let console = if plan.process.terminal { Some(console::make(&tree, &plan.process)?) } else { None };
    masks::apply(&tree, plan)?;
    let cwd = &plan.process.cwd;
    tree.find_or_create(cwd, Wanted::Folder).step(|| format!("make the working folder {}", cwd.display()))?;
    before_pivot()?;
    if supplies.no_pivot {
        pivot::enter_without_pivot(&tree).step(|| "change root to the root filesystem")?;
    } else {
        pivot::enter(&tree).step(|| "pivot into the root filesystem")?;
    }
    finish_root(&tree, plan)?;
    Ok((tree, console))
}

/// Copies of the mounts that will be bound, with their owners mapped, by position.
fn copy_sources(mounts: &[Mount], owners: &[Option<OwnedFd>]) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let copy = |(mount, mapping): (&Mount, &Option<OwnedFd>)| {
        let MountKind::Bind { source, recursive } = &mount.kind else { return Ok(None) };
        let copy = attach::clone_path(source, *recursive).step(|| format!("open {}", source.display()))?;
        if let (Some(owners), Some(mapping)) = (&mount.owners, mapping) {
            map_owners(&copy, mapping, owners.recursive)
                .step(|| format!("map the owners of mount {}", mount.target.display()))?;
        }
        Ok(Some(copy))
    };
    mounts.iter().zip(owners).map(copy).collect()
}

/// Mounts the root filesystem on top of the host's root. Paths from "/" go on meaning the host's, since a process's own
/// root is not affected by what is mounted on it.
fn mount_root(plan: &Plan, rootfs: &Rootfs, shared: bool) -> Result<Tree, Failure> {
    let path = &plan.root.path;
    let root = match rootfs {
        Rootfs::Ready => {
            let root = attach::clone_path(path, true).step(|| format!("open {}", path.display()))?;
            if !tree::is_folder(&root).step(|| format!("look at {}", path.display()))? {
                return Err(Failure::because(format!("open {}", path.display()), "is not a folder"));
            }
            root
        }
        Rootfs::Overlay { lower, upper, work } => {
            overlay::mount(lower, upper, work).step(|| format!("mount overlay on {}", upper.display()))?
        }
    };
    let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
    set_attributes(&root, &private, true).step(|| "make the root filesystem private")?;
    if shared {
        mount_change("/", MountPropagationFlags::PRIVATE).step(|| "make the host's root private")?;
    }
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&root, "", CWD, "/", flags).step(|| "mount the root filesystem")?;
    Ok(Tree::new(root))
}

fn mount_one(tree: &Tree, mount: &Mount, source: Option<OwnedFd>, cgroup: &Cgroup) -> Result<(), Failure> {
    let step = || format!("mount {}", mount.target.display());
    let wanted = match &source {
        Some(copy) if !tree::is_folder(copy).step(step)? => Wanted::File,
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
        cgroupfs::mount(mount, &target, cgroup)?
    } else {
        let tree = attach::detached(mount, source).step(step)?;
        attach::attach(&tree, &target).step(step)?;
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

/// The tree of the caller's own root: in an exec'd process, the container's.
pub(crate) fn own_root() -> Result<Tree, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(Path::new("/"), flags, Mode::empty()).map(Tree::new).step(|| "open the container's root")
}
