//! An image, or a part of it, as a read-only volume: which folders to merge, without mounting anything.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, lgetxattr, open, openat2, readlinkat,
    statat,
};
use rustix::io::Errno;

use super::image::Image;
use super::rootfs::Rootfs;
use super::{Store, StoreError};

/// overlayfs's mark of a folder that hides what the lower layers have there.
const OPAQUE: &str = "trusted.overlay.opaque";

/// What is mounted for an image volume, read-only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Volume {
    /// This file or folder, to be bound.
    Single(PathBuf),
    /// These folders, the topmost first, to be merged by overlayfs; two or more.
    Merged(Vec<PathBuf>),
}

impl Store {
    /// The folders that are the image at `sub_path`, which is relative, or empty for all of it. Links in it are followed
    /// inside the image. None if there is no such file or folder; a path that is absolute or climbs is no such path.
    /// The caller keeps the layers in the store, by [`crate::Snapshotter::hold`].
    pub fn volume(&self, image: &Image, sub_path: &str) -> Result<Option<Volume>, StoreError> {
        let climbs = sub_path.starts_with('/') || sub_path.split('/').any(|part| part == "..");
        if climbs || sub_path.contains('\0') {
            return Ok(None);
        }
        let lower = self.lower_paths(&image.id, &image.layers)?;
        let rootfs = self.open_rootfs(image)?;
        let failed = |error| StoreError::io("find the part of an image", sub_path, error);
        let Some((real, is_folder)) = resolve(&rootfs, sub_path).map_err(failed)? else { return Ok(None) };
        let mut found = Vec::new();
        for layer in lower {
            let (path, ends) = part(&layer, &real).map_err(failed)?;
            found.extend(path);
            if ends || (!is_folder && !found.is_empty()) {
                break;
            }
        }
        Ok(match found.len() {
            0 => None,
            1 => found.pop().map(Volume::Single),
            _ => Some(Volume::Merged(found)),
        })
    }
}

/// The path of `sub_path` without links, relative, and whether it is a folder; none if there is no such file or folder.
fn resolve(rootfs: &Rootfs, sub_path: &str) -> Result<Option<(PathBuf, bool)>, Errno> {
    let sub_path = if sub_path.is_empty() { "." } else { sub_path };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = match rootfs.resolve(sub_path, flags) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = fstat(&found)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Ok(None);
    }
    let (root, path) = (name_of(rootfs.as_fd())?, name_of(found.as_fd())?);
    let relative = path.strip_prefix(root).map_err(|_| Errno::STALE)?.to_owned();
    // The name is what the kernel says; that it is the same thing is checked.
    let strict = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let again = if relative.as_os_str().is_empty() { Path::new(".") } else { &relative };
    let again = fstat(openat2(rootfs, again, flags, Mode::empty(), strict)?)?;
    if (again.st_dev, again.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Errno::STALE);
    }
    Ok(Some((relative, kind == FileType::Directory)))
}

fn name_of(descriptor: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    use std::os::fd::AsRawFd;
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let name = readlinkat(CWD, link, Vec::new())?;
    Ok(Path::new(std::ffi::OsStr::from_bytes(name.to_bytes())).to_owned())
}

/// Where `layer` has `path`, if it does, and whether it hides what the layers below it have there.
fn part(layer: &Path, path: &Path) -> Result<(Option<PathBuf>, bool), Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = open(layer, flags, Mode::empty())?;
    let mut here = layer.to_owned();
    let mut hides = false;
    let mut rest = path.components().peekable();
    while let Some(name) = rest.next() {
        here.push(name);
        let stat = match statat(&folder, name.as_os_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok((None, hides)),
            Err(error) => return Err(error),
        };
        if kind(&stat) != FileType::Directory {
            // A whiteout, or something in the way of what lower layers have; the path's own end if it is a file.
            let is_it = rest.peek().is_none() && kind(&stat) == FileType::RegularFile;
            return Ok((is_it.then_some(here), true));
        }
        folder = open_below(&folder, name.as_os_str().as_bytes())?;
        hides |= is_opaque(&here)?;
    }
    Ok((Some(here), hides))
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn open_below(folder: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

/// Layers do not change once they are in the store, so a path that was walked without links leads where it led.
fn is_opaque(folder: &Path) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match lgetxattr(folder, OPAQUE, &mut value[..]) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}
