//! What a root filesystem needs for somebody else to put the mounts on it: criu, when it restores a container.

use std::path::Path;

use cleat_sys::mount::{Attributes, Propagation, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};

use super::{Tree, Wanted, attach, materials, tree, workshop};
use crate::Failure;
use crate::failure::Step;
use crate::spec::{Mount, MountKind, Plan};

/// Makes the places of mounts that a root filesystem lacks, as a creation does. No mount stays.
pub(crate) fn make_places(plan: &Plan) -> Result<(), Failure> {
    let make = || {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).step(|| "make the host's mounts private")?;
        let path = &plan.root.path;
        let root = attach::clone_path(path, true).step(|| format!("open {}", path.display()))?;
        materials::put_on_root(&root).step(|| "mount the root filesystem")?;
        let tree = Tree::new(root);
        // In their order, each on top of those before: a place may be in a folder that is bound.
        let wanted = plan.mounts.iter().filter(|mount| !is_made_anew(&mount.target, &plan.mounts));
        wanted.into_iter().try_for_each(|mount| make_place(&tree, mount))
    };
    workshop::inside(make).step(|| "work in a mount namespace of its own")?
}

fn make_place(tree: &Tree, mount: &Mount) -> Result<(), Failure> {
    let step = || format!("make the place of mount {}", mount.target.display());
    match &mount.kind {
        MountKind::Bind { source, recursive, beneath } => {
            let copy = attach::clone_source(source, beneath.as_deref(), *recursive)?;
            let wanted = if tree::is_folder(&copy).step(step)? { Wanted::Folder } else { Wanted::File };
            let target = tree.find_or_create(&mount.target, wanted).step(step)?;
            attach::attach(&copy, &target).step(step)
        }
        MountKind::Filesystem { .. } => {
            tree.find_or_create(&mount.target, Wanted::Folder).map(drop).step(step)
        }
        // On sysfs, whose folder it is, or beneath a filesystem that is made anew.
        MountKind::Cgroup => Ok(()),
    }
}

/// Whether the place lies in a filesystem of the container's own, which is restored with all its folders.
fn is_made_anew(place: &Path, mounts: &[Mount]) -> bool {
    let is_beneath = |mount: &Mount| place != mount.target && place.starts_with(&mount.target);
    mounts.iter().any(|mount| matches!(mount.kind, MountKind::Filesystem { .. }) && is_beneath(mount))
}

/// Makes the root filesystem's folder a mount, in the caller's own mount namespace, whose mounts do not reach the host's.
pub(crate) fn mount_root_on_itself(plan: &Plan) -> Result<(), Failure> {
    materials::cut_tie(plan)?;
    let path = &plan.root.path;
    let step = || format!("mount {} on itself", path.display());
    let root = attach::clone_path(path, true).step(step)?;
    let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
    set_attributes(&root, &private, true).step(step)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::openat(CWD, path, flags, Mode::empty()).step(step)?;
    attach::attach(&root, &target).step(step)
}
