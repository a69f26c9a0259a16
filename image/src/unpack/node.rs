//! What is neither file nor folder: links, devices, pipes, whiteouts.
//!
//! Names are used relative to an open folder right after they were made there; nobody else writes to the layer, so nothing
//! can come between.

use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, Uid, chmodat, chownat, linkat, makedev, mknodat, statat, symlinkat,
    utimensat,
};
use rustix::io::Errno;

use super::apply::timestamps;
use super::tar::{Entry, Kind};
use crate::tree::STAT_BLOCK_BYTES;

/// Make a symbolic link, device or pipe; EEXIST if the name is taken.
pub(super) fn create(parent: &OwnedFd, name: &[u8], kind: &Kind) -> Result<(), Errno> {
    let mode = Mode::RUSR | Mode::WUSR;
    match kind {
        Kind::Symlink(target) => symlinkat(&target[..], parent, name),
        Kind::CharDevice { major, minor } => {
            mknodat(parent, name, FileType::CharacterDevice, mode, makedev(*major, *minor))
        }
        Kind::BlockDevice { major, minor } => {
            mknodat(parent, name, FileType::BlockDevice, mode, makedev(*major, *minor))
        }
        Kind::Fifo => mknodat(parent, name, FileType::Fifo, mode, 0),
        Kind::File | Kind::GnuSparse | Kind::Directory | Kind::HardLink(_) => Err(Errno::INVAL),
    }
}

/// Set owner, mode and times; returns the bytes it takes on disk. Extended attributes of such entries are left out:
/// `user.` ones cannot exist on them, and no other one is let through that would mean anything here.
pub(super) fn describe(parent: &OwnedFd, name: &[u8], entry: &Entry) -> Result<u64, Errno> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(entry.kind, Kind::Symlink(_)) {
        chmodat(parent, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    utimensat(parent, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES)
}

/// One more name for `target` in `folder`, a symbolic link itself if it is one.
pub(super) fn hard_link(folder: &OwnedFd, target: &[u8], parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    linkat(folder, target, parent, name, AtFlags::empty())
}

/// overlayfs's whiteout.
pub(super) fn whiteout(parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    mknodat(parent, name, FileType::CharacterDevice, Mode::empty(), makedev(0, 0))
}
