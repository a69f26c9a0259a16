//! Walking folders that a container or an image filled: removal, measurement, and what was changed.
//!
//! Such trees may be deeper than a path or the descriptor table reaches. So the walk keeps a list of folders still to be
//! seen, each as a short path below an anchor, an open descriptor shared by many of them; a new anchor is opened only where
//! a path would grow beyond [`MAX_RELATIVE_BYTES`]. No symbolic link is followed and no mount is crossed.

mod changes;
mod measure;
mod remove;
mod upper;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, ResolveFlags, fgetxattr, openat2};
use rustix::io::Errno;

pub use changes::ChangeKind;
pub(crate) use changes::changes;
pub(crate) use measure::{Measured, STAT_BLOCK_BYTES, measure};
pub(crate) use remove::remove;
pub(crate) use upper::walk;
pub use upper::{UpperEntry, Walk};

/// Overlay's mark of a folder that hides others.
const OPAQUE: &str = "trusted.overlay.opaque";
/// Longest path below an anchor: half of PATH_MAX, so that one more name always fits.
const MAX_RELATIVE_BYTES: usize = 2048;

/// A failed step of a walk; the path is the last part of the whole.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path:?}")]
pub(crate) struct TreeError {
    pub(crate) operation: &'static str,
    pub(crate) path: PathBuf,
    #[source]
    pub(crate) source: Errno,
}

/// A folder to be seen.
#[derive(Clone)]
struct Pending {
    anchor: Rc<OwnedFd>,
    path: Vec<u8>,
}

impl Pending {
    fn new(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Self, TreeError> {
        let anchor = parent.try_clone_to_owned().map_err(|error| TreeError {
            operation: "duplicate the descriptor of the parent of",
            path: to_path(name),
            source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })?;
        Ok(Self { anchor: Rc::new(anchor), path: name.to_vec() })
    }

    fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        openat2(&self.anchor, &self.path[..], flags, Mode::empty(), resolve)
    }

    /// The folder `name` in this folder, which is open as `fd`.
    fn child(&self, fd: &Rc<OwnedFd>, name: &[u8]) -> Self {
        if self.path.len() + name.len() < MAX_RELATIVE_BYTES {
            Self { anchor: Rc::clone(&self.anchor), path: [&self.path[..], b"/", name].concat() }
        } else {
            Self { anchor: Rc::clone(fd), path: name.to_vec() }
        }
    }

    fn failed(&self, operation: &'static str, source: Errno) -> TreeError {
        TreeError { operation, path: to_path(&self.path), source }
    }
}

/// The entries of the open folder `fd` without `.` and `..`: names, and whether the kernel says each is a folder.
fn entries(fd: impl AsFd) -> Result<Vec<(Vec<u8>, bool)>, Errno> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            found.push((name.to_vec(), entry.file_type() == rustix::fs::FileType::Directory));
        }
    }
    Ok(found)
}

/// Whether the open folder `fd` hides what layers below have at its path (overlayfs.rst, "whiteouts and opaque directories").
pub(crate) fn is_opaque(fd: impl AsFd) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match fgetxattr(fd, OPAQUE, &mut value) {
        Ok(length) => Ok(length == 1 && value == *b"y"),
        // None, or longer than the one letter that says so.
        Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
        Err(error) => Err(error),
    }
}

fn to_path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}
