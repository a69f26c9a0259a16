//! Device nodes and the links that come with them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, makedev};
use rustix::io::Errno;

use super::{Tree, Wanted};
use crate::Failure;
use crate::failure::Step;
use crate::spec::{Device, MountKind, Plan};

/// Links every container has (config-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes the planned devices; nothing where /dev is a folder of the host.
pub(super) fn make(tree: &Tree, plan: &Plan) -> Result<(), Failure> {
    let dev = Path::new("/dev");
    if plan.mounts.iter().any(|mount| mount.target == dev && matches!(mount.kind, MountKind::Bind { .. })) {
        return Ok(());
    }
    let folder = tree.find_or_create(dev, Wanted::Folder).step(|| "open /dev")?;
    // The modes are the wanted ones.
    let umask = rustix::process::umask(Mode::empty());
    let outcome = plan.devices.iter().try_for_each(|device| {
        let step = || format!("make device {}", device.path.display());
        let parent = match device.path.parent() {
            Some(parent) if parent != dev => Some(tree.find_or_create(parent, Wanted::Folder).step(step)?),
            _ => None,
        };
        make_node(parent.as_ref().unwrap_or(&folder), device).step(step)
    });
    rustix::process::umask(umask);
    outcome?;
    LINKS
        .iter()
        .try_for_each(|(name, target)| make_link(&folder, name, target).step(|| format!("link /dev/{name}")))
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
