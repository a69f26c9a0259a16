//! The store's folder on disk: its parts, its lock, and renames between its parts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags, flock, fsync, mkdirat, open, openat, renameat, syncfs};
use rustix::io::Errno;

use super::StoreError;
use super::covers::COVERS;
use crate::reference::Algorithm;

/// Only the daemon may look into the store: images hold setuid programs.
const PRIVATE: Mode = Mode::RWXU;
/// Mode of the lower folder of an image without layers, which becomes the mode of the container's `/`.
const EMPTY_MODE: Mode = Mode::from_raw_mode(0o755);

/// The open folder. Locked as long as it lives.
pub(crate) struct Folder {
    root: PathBuf,
    root_fd: OwnedFd,
    layers: [OwnedFd; 2],
    tars: [OwnedFd; 2],
    covers: OwnedFd,
    snapshots: OwnedFd,
    tmp: OwnedFd,
    next_tmp: AtomicU64,
    /// Holds the lock by being open.
    _lock: OwnedFd,
}

impl Folder {
    /// Open and lock the folder, making what is missing.
    pub(super) fn open(root: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(root).map_err(|error| {
            StoreError::io("create the folder", root, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let root = root.canonicalize().map_err(|error| {
            StoreError::io("resolve the path", root, Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root_fd =
            open(&root, flags, Mode::empty()).map_err(|e| StoreError::io("open the folder", &root, e))?;
        rustix::fs::fchmod(&root_fd, PRIVATE)
            .map_err(|error| StoreError::io("protect the folder", &root, error))?;
        let lock = lock(&root, &root_fd)?;
        let part = |name: &str, mode| make_and_open(&root, &root_fd, name, mode);
        part("empty", EMPTY_MODE)?;
        part("layers", PRIVATE)?;
        let layers = [part("layers/sha256", PRIVATE)?, part("layers/sha512", PRIVATE)?];
        part("tars", PRIVATE)?;
        let tars = [part("tars/sha256", PRIVATE)?, part("tars/sha512", PRIVATE)?];
        let (snapshots, tmp) = (part("snapshots", PRIVATE)?, part("tmp", PRIVATE)?);
        let covers = part(COVERS, PRIVATE)?;
        Ok(Self {
            layers,
            tars,
            covers,
            snapshots,
            tmp,
            next_tmp: AtomicU64::new(0),
            _lock: lock,
            root_fd,
            root,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The lower folder of an image without layers.
    pub(crate) fn empty(&self) -> PathBuf {
        self.root.join("empty")
    }

    /// The folder of all layers of an algorithm.
    pub(super) fn layers(&self, algorithm: Algorithm) -> BorrowedFd<'_> {
        match algorithm {
            Algorithm::Sha256 => self.layers[0].as_fd(),
            Algorithm::Sha512 => self.layers[1].as_fd(),
        }
    }

    /// The folder of what layers' trees do not hold of their archives, for all layers of an algorithm.
    pub(super) fn tars(&self, algorithm: Algorithm) -> BorrowedFd<'_> {
        match algorithm {
            Algorithm::Sha256 => self.tars[0].as_fd(),
            Algorithm::Sha512 => self.tars[1].as_fd(),
        }
    }

    /// The folder of all covers.
    pub(super) fn covers(&self) -> BorrowedFd<'_> {
        self.covers.as_fd()
    }

    /// The folder of all snapshots.
    pub(crate) fn snapshots(&self) -> BorrowedFd<'_> {
        self.snapshots.as_fd()
    }

    pub(crate) fn tmp(&self) -> BorrowedFd<'_> {
        self.tmp.as_fd()
    }

    /// A name in `tmp/` that was not used since the store was opened, when `tmp/` was emptied.
    pub(crate) fn tmp_name(&self) -> String {
        self.next_tmp.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// A new empty folder in `tmp/`.
    pub(crate) fn make_tmp(&self) -> Result<(String, OwnedFd), StoreError> {
        let name = self.tmp_name();
        let path = self.root.join("tmp").join(&name);
        mkdirat(&self.tmp, &name, PRIVATE)
            .map_err(|error| StoreError::io("make the folder", &path, error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&self.tmp, &name, flags, Mode::empty())
            .map_err(|error| StoreError::io("open the folder", &path, error))?;
        Ok((name, fd))
    }

    /// Move `tmp/<from>` to `name` in `folder`. What lies there already has no row (the caller holds the database and has
    /// looked): a publication failed half way. It goes to `tmp/` and is returned for removal.
    pub(crate) fn publish(
        &self,
        from: &str,
        folder: BorrowedFd<'_>,
        name: &str,
    ) -> Result<Option<String>, StoreError> {
        let failed = |error| StoreError::io("move a folder into its place as", name, error);
        match renameat(&self.tmp, from, folder, name) {
            Ok(()) => Ok(None),
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                let old = self.retract(folder, name)?;
                renameat(&self.tmp, from, folder, name).map_err(failed)?;
                Ok(old)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Move `name` in `folder` to `tmp/`, where nobody finds it; the new name, unless there is no such thing.
    pub(crate) fn retract(&self, folder: BorrowedFd<'_>, name: &str) -> Result<Option<String>, StoreError> {
        let to = self.tmp_name();
        match renameat(folder, name, &self.tmp, &to) {
            Ok(()) => Ok(Some(to)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::io("move out of its place the folder", name, error)),
        }
    }

    /// Remove `tmp/<name>` with everything in it.
    pub(crate) fn discard(&self, name: &str) -> Result<(), StoreError> {
        self.remove_tree(self.tmp.as_fd(), "tmp", name)
    }

    /// Remove `name` in `folder`, which is `within` the store.
    pub(super) fn remove_tree(
        &self,
        folder: BorrowedFd<'_>,
        within: &str,
        name: &str,
    ) -> Result<(), StoreError> {
        crate::tree::remove(folder, name.as_bytes()).map_err(|error| {
            StoreError::io(error.operation, self.root.join(within).join(name).join(error.path), error.source)
        })
    }

    /// Write all files of the file system to disk: one call instead of one fsync for each of an image's files.
    pub(super) fn sync_files(&self) -> Result<(), StoreError> {
        syncfs(&self.root_fd)
            .map_err(|error| StoreError::io("write to disk the file system of", &self.root, error))
    }

    /// Write to disk which layers there are.
    pub(super) fn sync_layers(&self) -> Result<(), StoreError> {
        self.tars
            .iter()
            .chain(&self.layers)
            .try_for_each(fsync)
            .map_err(|error| StoreError::io("write to disk the folder", self.root.join("layers"), error))
    }
}

fn lock(root: &Path, root_fd: &OwnedFd) -> Result<OwnedFd, StoreError> {
    let path = root.join("lock");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(root_fd, "lock", flags, Mode::RUSR | Mode::WUSR)
        .map_err(|error| StoreError::io("open the lock", &path, error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(root.to_owned())),
        Err(error) => Err(StoreError::io("lock", &path, error)),
    }
}

fn make_and_open(root: &Path, root_fd: &OwnedFd, name: &str, mode: Mode) -> Result<OwnedFd, StoreError> {
    let path = root.join(name);
    match mkdirat(root_fd, name, mode) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(StoreError::io("make the folder", &path, error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(root_fd, name, flags, Mode::empty())
        .map_err(|e| StoreError::io("open the folder", &path, e))?;
    // The process's umask may have taken bits away.
    rustix::fs::fchmod(&folder, mode)
        .map_err(|error| StoreError::io("set the mode of the folder", &path, error))?;
    Ok(folder)
}
