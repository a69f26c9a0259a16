//! Device nodes and the links that come with them.
//!
//! A user namespace's root may not make device nodes, and none works on a filesystem of its own. There the nodes are made
//! outside, on a filesystem that nobody else sees, and bound one by one.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use cleat_sys::mount as attribute;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, makedev};
use rustix::io::Errno;

use super::{Tree, Wanted, attach, materials};
use crate::Failure;
use crate::failure::Step;
use crate::spec::{Device, IdMaps, MountKind, Plan};

/// Links every container has (config-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the planned devices, or binds those that were made outside; nothing where /dev is a folder of the host.
pub(super) fn make(tree: &Tree, plan: &Plan, outside: &[OwnedFd]) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    if plan.mounts.iter().any(|mount| mount.target == dev && matches!(mount.kind, MountKind::Bind { .. })) {
        return Ok(());
    }
    let folder = tree.find_or_create(dev, Wanted::Folder).step(|| "open /dev")?;
    // The modes are the wanted ones.
    let umask = rustix::process::umask(Mode::empty());
    let outcome = plan.devices.iter().enumerate().try_for_each(|(index, device)| {
        let step = || format!("make device {}", device.path.display());
        let parent = match device.path.parent() {
            Some(parent) if parent != dev => Some(tree.find_or_create(parent, Wanted::Folder).step(step)?),
            _ => None,
        };
        let parent = parent.as_ref().unwrap_or(&folder);
        match outside.get(index) {
            Some(node) => bind_node(parent, device, node).step(step),
            None => match make_node(parent, device) {
                // The root of a user namespace, who has the host's devices as their user.
                Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
                    take_hosts(device).and_then(|node| bind_node(parent, device, &node)).step(step)
                }
                other => other.step(step),
            },
        }
    });
    rustix::process::umask(umask);
    outcome?;
    LINKS
        .iter()
        .try_for_each(|(name, target)| make_link(&folder, name, target).step(|| format!("link /dev/{name}")))
}

/// Makes nodes for a container with a user namespace, whose owners are those that `maps` says; by the devices' positions.
/// To be called in a mount namespace that goes again.
pub(super) fn make_outside(devices: &[Device], maps: &IdMaps) -> Result<Vec<OwnedFd>, Failure> {
    let options = attach::options(&[("mode", "700")]);
    let attributes = attribute::NO_SUID | attribute::NO_EXEC;
    let folder = attach::new_filesystem("tmpfs", "devices", &options, attributes)
        .and_then(|folder| materials::put_on_root(&folder).map(|()| folder))
        .step(|| "mount a filesystem for device nodes")?;
    // The modes are the wanted ones.
    let umask = rustix::process::umask(Mode::empty());
    let make = |(index, device): (usize, &Device)| {
        let step = || format!("make device {}", device.path.display());
        let (Some(uid), Some(gid)) = (maps.users.outside(device.uid), maps.groups.outside(device.gid)) else {
            return Err(Failure::because(step(), "its owner is not mapped into the user namespace"));
        };
        let named = Device { path: index.to_string().into(), uid, gid, ..device.clone() };
        make_node(&folder, &named).and_then(|()| take_node(&folder, &named.path)).step(step)
    };
    let nodes = devices.iter().enumerate().map(make).collect();
    rustix::process::umask(umask);
    nodes
}

/// The host's node at the same path, if it is the wanted device.
fn take_hosts(device: &Device) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(&device.path, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&node)?;
    let is_it = FileType::from_raw_mode(found.st_mode) == device.kind
        && found.st_rdev == makedev(device.major, device.minor);
    if is_it { attach::clone_descriptor(&node, false) } else { Err(Errno::PERM.into()) }
}

fn take_node(folder: &OwnedFd, name: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    attach::clone_descriptor(&node, false)
}

/// Whatever an image has put there, but a link or a folder, is covered.
fn bind_node(folder: &OwnedFd, device: &Device, node: &OwnedFd) -> io::Result<()> {
    let Some(name) = device.path.file_name() else { return Err(Errno::INVAL.into()) };
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, name, new, Mode::empty()) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    match FileType::from_raw_mode(rustix::fs::fstat(&target)?.st_mode) {
        FileType::Symlink | FileType::Directory => Err(Errno::EXIST.into()),
        _ => attach::attach(node, &target),
    }
}

/// A node that is there already has to be the one wanted: an image could have put anything in its place.
fn make_node(folder: &OwnedFd, device: &Device) -> io::Result<()> {
    let Some(name) = device.path.file_name() else { return Err(Errno::INVAL.into()) };
    let number = makedev(device.major, device.minor);
    match rustix::fs::mknodat(folder, name, device.kind, Mode::from_raw_mode(device.mode), number) {
        Err(Errno::EXIST) => {
            let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_node = FileType::from_raw_mode(found.st_mode) == device.kind;
            if !is_node || device.kind != FileType::Fifo && found.st_rdev != number {
                return Err(Errno::EXIST.into());
            }
        }
        other => other?,
    }
    if (device.uid, device.gid) == (0, 0) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    Ok(rustix::fs::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// What an image or a mount brought under that name stays.
fn make_link(folder: &OwnedFd, name: &str, target: &str) -> io::Result<()> {
    match rustix::fs::symlinkat(target, folder, name) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
