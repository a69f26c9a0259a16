//! Mounts as detached trees: made or cloned, given their attributes, then put in place by two descriptors.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cleat_sys::mount::{Attributes, set_attributes};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::Tree;
use crate::Failure;
use crate::failure::Step;
use crate::spec::{Mount, MountKind, OptionList};

/// A new filesystem, mounted nowhere yet.
pub(super) fn new_filesystem(
    name: &str,
    source: &str,
    options: &OptionList,
    attributes: u64,
) -> io::Result<OwnedFd> {
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", source)?;
    for (key, value) in options {
        match value {
            Some(value) => fsconfig_set_string(&context, key, value)?,
            None => fsconfig_set_flag(&context, key)?,
        }
    }
    fsconfig_create(&context)?;
    mount_context(&context, attributes)
}

/// Options of keys with values.
pub(super) fn options(list: &[(&str, &str)]) -> OptionList {
    list.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).to_owned()))).collect()
}

/// Mounts the filesystem that `context` has created, nowhere yet.
pub(super) fn mount_context(context: &OwnedFd, attributes: u64) -> io::Result<OwnedFd> {
    let attributes = u32::try_from(attributes).map_err(io::Error::other)?;
    let attributes = MountAttrFlags::from_bits_retain(attributes);
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// A copy of the mount at `path` on the host, beginning at that file or folder.
pub(super) fn clone_path(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(CWD, path, clone_flags(recursive))?)
}

/// A copy of the source of a bind mount: of the mount at `path` on the host, or of what is at `beneath` in that folder.
pub(super) fn clone_source(path: &Path, beneath: Option<&Path>, recursive: bool) -> Result<OwnedFd, Failure> {
    let Some(part) = beneath else {
        return clone_path(path, recursive).step(|| format!("open {}", path.display()));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(path, flags, Mode::empty()).step(|| format!("open {}", path.display()))?;
    let found = Tree::new(folder).find_beneath(part);
    found
        .and_then(|found| clone_descriptor(&found, recursive))
        .step(|| format!("open {} without leaving {}", part.display(), path.display()))
}

/// A copy of the mount that `descriptor` lies in, beginning there.
pub(super) fn clone_descriptor(descriptor: &impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    Ok(open_tree(descriptor, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Puts a detached tree on top of what `target` stands for.
pub(super) fn attach(tree: &impl AsFd, target: &impl AsFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

/// The new filesystem of a planned mount.
pub(super) fn filesystem(mount: &Mount) -> io::Result<OwnedFd> {
    match &mount.kind {
        MountKind::Filesystem { name, source, options } => {
            new_filesystem(name, source, options, mount.attributes.set)
        }
        MountKind::Bind { .. } | MountKind::Cgroup => Err(rustix::io::Errno::INVAL.into()),
    }
}

/// The detached tree of a planned mount, of which the copy of a bind mount's source has to be `prepared`, and a new
/// filesystem may be.
pub(super) fn detached(mount: &Mount, prepared: Option<OwnedFd>) -> io::Result<OwnedFd> {
    let is_bind = matches!(mount.kind, MountKind::Bind { .. });
    let tree = prepared.map_or_else(|| filesystem(mount), Ok)?;
    let attributes = if is_bind { bind_attributes(mount.attributes) } else { Attributes::default() };
    if !attributes.is_empty() {
        set_attributes(&tree, &attributes, false)?;
    }
    if !mount.recursive_attributes.is_empty() {
        set_attributes(&tree, &mount.recursive_attributes, true)?;
    }
    Ok(tree)
}

/// A copy keeps what its original has: `rw` must not open a read-only mount of the host. Only access times, where the
/// later mode replaces the earlier one, are cleared.
fn bind_attributes(attributes: Attributes) -> Attributes {
    Attributes { clear: attributes.clear & cleat_sys::mount::ACCESS_TIME_MASK, ..attributes }
}
