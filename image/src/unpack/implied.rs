//! Folders that a layer has only because its entries lie in them.
//!
//! A layer with an entry `etc/x` and none for `etc` says nothing about `etc`: where a lower layer has that folder, it stays
//! what it is. A layer is unpacked without the ones below, so which folders these are is kept beside its tree, for whoever
//! sees the layers together (the store's covers).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::error::UnpackError;
use super::tree::Folder;

/// Name of the list beside the tree: paths, each ended by a NUL. Absent where there is none to list.
const IMPLIED: &str = "implied";
/// Most bytes of paths of folders that a layer may imply: one entry of 5 KB can imply two thousand folders, so without a
/// limit a small archive would fill inodes and memory. Real layers imply a few hundred folders, some thousands at worst.
pub(super) const MAX_IMPLIED_BYTES: usize = 16 << 20;

/// Paths of those of `folders`, which are in the order in which they were made or described, that no entry describes.
fn undescribed(folders: &[Folder]) -> BTreeSet<&[u8]> {
    let mut found = BTreeSet::new();
    for folder in folders {
        match folder.mtime {
            None => found.insert(&folder.path[..]),
            Some(_) => found.remove(&folder.path[..]),
        };
    }
    found
}

/// Write to `kept` which of `folders` are only implied.
pub(super) fn record(kept: BorrowedFd<'_>, folders: &[Folder]) -> Result<(), UnpackError> {
    let paths = undescribed(folders);
    if paths.is_empty() {
        return Ok(());
    }
    let write = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = BufWriter::new(File::from(openat(kept, IMPLIED, flags, Mode::RUSR | Mode::WUSR)?));
        for path in paths {
            file.write_all(path)?;
            file.write_all(&[0])?;
        }
        file.into_inner().map(drop).map_err(io::IntoInnerError::into_error)
    };
    write().map_err(|error: io::Error| UnpackError::kept(&error))
}

/// The folders that the layer with `kept` beside its tree only implies: relative paths, the empty one being its root. None
/// for a layer of before they were recorded.
pub(crate) fn implied(kept: BorrowedFd<'_>) -> Result<BTreeSet<Vec<u8>>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(kept, IMPLIED, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    // Each path and the NUL behind it were counted when it was written.
    let limit = MAX_IMPLIED_BYTES as u64 + 1;
    let read = file.take(limit).read_to_end(&mut text);
    read.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    text.pop();
    Ok(text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn folder(path: &str, is_described: bool) -> Folder {
        Folder { path: path.into(), mtime: is_described.then_some((0, 0)), is_new: true }
    }

    #[test]
    fn what_an_entry_describes_later_is_not_implied_and_what_is_made_anew_is() {
        let base = tempfile::tempdir().unwrap();
        let kept = File::open(base.path()).unwrap();
        assert!(implied(kept.as_fd()).unwrap().is_empty(), "nothing was recorded");
        let folders = [
            folder("", false),
            folder("described", true),
            folder("later", false),
            folder("later", true),
            folder("anew", true),
            folder("anew", false),
        ];
        record(kept.as_fd(), &folders).unwrap();
        let expected = ["", "anew"].map(|path| path.as_bytes().to_vec());
        assert_eq!(implied(kept.as_fd()).unwrap(), BTreeSet::from(expected));
    }

    #[test]
    fn a_layer_that_describes_everything_has_no_list() {
        let base = tempfile::tempdir().unwrap();
        let kept = File::open(base.path()).unwrap();
        record(kept.as_fd(), &[folder("", false), folder("", true)]).unwrap();
        assert_eq!(std::fs::read_dir(base.path()).unwrap().count(), 0);
    }
}
