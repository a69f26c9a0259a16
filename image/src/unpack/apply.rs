//! Entries become files. Which file, and what else has to go for it, is decided here; [`super::file`] and
//! [`super::node`] make them.

use std::io::{BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, fchmod, fchown, fstat, futimens, mkdirat,
    openat,
};
use rustix::io::Errno;

use super::error::{UnpackError, lossless};
use super::path::{self, PathFault, Place, Role};
use super::recipe::Lost;
use super::tar::{Archive, Entry, Kind};
use super::tree::{Folder, Tree, examine, is_whiteout, open_folder, set_opaque};
use super::{file, implied, node, xattr};
use crate::tree::STAT_BLOCK_BYTES;

/// The bits of a mode besides the kind of the file.
const PERMISSIONS: u32 = 0o7777;

/// A layer being unpacked.
pub(super) struct Layer<'a> {
    root: BorrowedFd<'a>,
    tree: Tree<'a>,
    figures: Figures,
}

/// What the layer takes on disk.
#[derive(Clone, Copy, Default)]
pub(super) struct Figures {
    pub(super) bytes: u64,
    pub(super) inodes: u64,
    pub(super) opaque_root: bool,
}

impl Figures {
    /// Add what is in `folder`, and the folder.
    pub(super) fn add(&mut self, folder: BorrowedFd<'_>) -> Result<(), UnpackError> {
        let measured = crate::tree::measure(folder, b".")
            .map_err(|error| UnpackError::io(error.operation, b"", error.source))?;
        self.bytes += measured.bytes;
        self.inodes += measured.inodes;
        Ok(())
    }
}

impl<'a> Layer<'a> {
    /// Begin in the empty folder `root`; what is taken away again goes to `lost`.
    pub(super) fn new(root: BorrowedFd<'a>, lost: Option<Lost>) -> Result<Self, UnpackError> {
        fchmod(root, Mode::from_raw_mode(0o755))
            .map_err(|error| UnpackError::io("set the mode of", b"", error))?;
        let mut tree = Tree::new(root, lost);
        tree.folders.push(Folder { path: Vec::new(), mtime: None, is_new: true });
        Ok(Self { root, tree, figures: Figures::default() })
    }

    /// Carry out entry number `number`, whose data `archive` stands at.
    pub(super) fn apply<R: BufRead, S: Write>(
        &mut self,
        entry: &Entry,
        number: u64,
        archive: &mut Archive<R, S>,
    ) -> Result<(), UnpackError> {
        let role = path::classify(&entry.path).map_err(|fault| fault_of(&entry.path, &fault))?;
        self.tree.entry = number;
        match role {
            Role::Root => self.describe_root(entry),
            Role::Plain(place) => self.place(&place, entry, archive),
            Role::Whiteout(place) => self.whiteout(&place),
            Role::Opaque(path) => self.opaque(&path),
            Role::Ignored => Ok(()),
        }
    }

    fn describe_root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != Kind::Directory {
            return Err(UnpackError::Root);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(self.root, ".", flags, Mode::empty())
            .map_err(|error| UnpackError::io("open folder", b"", error))?;
        describe(&root, entry, b"")?;
        self.tree.folders.push(Folder { path: Vec::new(), mtime: Some(entry.mtime), is_new: false });
        Ok(())
    }

    fn place<R: BufRead, S: Write>(
        &mut self,
        place: &Place,
        entry: &Entry,
        archive: &mut Archive<R, S>,
    ) -> Result<(), UnpackError> {
        let parent = self.tree.enter(&place.parent)?;
        let (name, path) = (&place.name[..], place.path());
        match &entry.kind {
            Kind::Directory => self.directory(&parent, name, path, entry),
            Kind::HardLink(target) => self.hard_link(&parent, name, &path, target),
            Kind::File | Kind::GnuSparse => {
                let create = || file::create(&parent, name, entry.mode);
                let created = self.in_free_place(&parent, name, &path, create)?;
                file::fill(&created, entry, archive, &path)?;
                let stat = describe(&created, entry, &path)?;
                set_mtime(&created, entry.mtime, &path)?;
                self.count(&stat);
                Ok(())
            }
            kind => {
                self.in_free_place(&parent, name, &path, || node::create(&parent, name, kind))?;
                self.figures.bytes += node::describe(&parent, name, entry)
                    .map_err(|error| UnpackError::io("set owner, mode and time of", &path, error))?;
                self.figures.inodes += 1;
                Ok(())
            }
        }
    }

    /// Make something; where a name is taken, by an earlier entry or a whiteout, take that away first.
    fn in_free_place<T>(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        let result = match make() {
            Err(Errno::EXIST) => {
                self.tree.take_away(parent, name, path)?;
                make()
            }
            result => result,
        };
        result.map_err(|error| UnpackError::io("create", path, error))
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: Vec<u8>,
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let make = || mkdirat(parent, name, Mode::RWXU);
        let mut is_new = true;
        let mut hides_lower = false;
        match make() {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = examine(parent, name, &path)?;
                let kind = stat.as_ref().map(|stat| FileType::from_raw_mode(stat.st_mode));
                is_new = kind != Some(FileType::Directory);
                if is_new {
                    hides_lower = stat.as_ref().is_some_and(is_whiteout);
                    self.tree.take_away(parent, name, &path)?;
                    make().map_err(|error| UnpackError::io("make folder", &path, error))?;
                }
            }
            Err(error) => return Err(UnpackError::io("make folder", &path, error)),
        }
        let folder = open_folder(parent, name, &path)?;
        if hides_lower {
            set_opaque(&folder, &path)?;
        }
        describe(&folder, entry, &path)?;
        self.tree.folders.push(Folder { path, mtime: Some(entry.mtime), is_new });
        Ok(())
    }

    fn hard_link(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        target: &[u8],
    ) -> Result<(), UnpackError> {
        let missing = || UnpackError::LinkTarget { path: lossless(path), target: lossless(target) };
        let Role::Plain(place) = path::classify(target).map_err(|fault| fault_of(path, &fault))? else {
            return Err(missing());
        };
        let folder = self.tree.find(&place.parent)?.ok_or_else(missing)?;
        let stat =
            examine(&folder, &place.name, target)?.filter(|stat| !is_whiteout(stat)).ok_or_else(missing)?;
        if let Some(existing) = examine(parent, name, path)?
            && (existing.st_dev, existing.st_ino) == (stat.st_dev, stat.st_ino)
        {
            return Ok(());
        }
        self.in_free_place(parent, name, path, || node::hard_link(&folder, &place.name, parent, name))
    }

    /// Hide `place` of the lower layers. What this layer itself has there stays (OCI image specification: a whiteout
    /// only applies to lower layers), a folder without what is below it.
    fn whiteout(&mut self, place: &Place) -> Result<(), UnpackError> {
        let parent = self.tree.enter(&place.parent)?;
        let path = place.path();
        match node::whiteout(&parent, &place.name) {
            Ok(()) => {
                self.figures.inodes += 1;
                Ok(())
            }
            Err(Errno::EXIST) => {
                let stat = examine(&parent, &place.name, &path)?;
                match stat.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Some(FileType::Directory) => {
                        set_opaque(&open_folder(&parent, &place.name, &path)?, &path)
                    }
                    _ => Ok(()),
                }
            }
            Err(error) => Err(UnpackError::io("make whiteout", &path, error)),
        }
    }

    fn opaque(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if path.is_empty() {
            self.figures.opaque_root = true;
            return Ok(());
        }
        let folder = self.tree.enter(path)?;
        set_opaque(&open_folder(&folder, b".", path)?, path)
    }

    fn count(&mut self, stat: &Stat) {
        self.figures.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES;
        self.figures.inodes += 1;
    }

    /// Note in `kept` which folders no entry has described.
    pub(super) fn record_implied(&self, kept: BorrowedFd<'_>) -> Result<(), UnpackError> {
        implied::record(kept, &self.tree.folders)
    }

    /// Set the folders' times, which filling them has changed, and add them up.
    pub(super) fn finish(mut self) -> Result<Figures, UnpackError> {
        for folder in std::mem::take(&mut self.tree.folders) {
            // It may have been replaced since.
            let Some(found) = self.tree.find(&folder.path)? else { continue };
            let open = open_folder(&found, b".", &folder.path)?;
            if let Some(mtime) = folder.mtime {
                set_mtime(&open, mtime, &folder.path)?;
            }
            if folder.is_new {
                self.count(&examine_open(&open, &folder.path)?);
            }
        }
        if self.tree.replaced {
            (self.figures.bytes, self.figures.inodes) = (0, 0);
            self.figures.add(self.root.as_fd())?;
        }
        Ok(self.figures)
    }
}

fn fault_of(path: &[u8], fault: &PathFault) -> UnpackError {
    match fault {
        PathFault::Escape => UnpackError::Escape(lossless(path)),
        PathFault::Whiteout => UnpackError::Whiteout(lossless(path)),
    }
}

/// Give the file what its entry says of it, and tell what it was before. What it has already is not set again: that would
/// cost a tenth of the time that small files take.
///
/// Owner before attributes and mode: a change of owner takes away capabilities and the setuid bit. An attribute may be an
/// access list, which changes the mode.
fn describe(file: &OwnedFd, entry: &Entry, path: &[u8]) -> Result<Stat, UnpackError> {
    let stat = examine_open(file, path)?;
    let is_owner = (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid);
    if !is_owner {
        fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
            .map_err(|error| UnpackError::io("set the owner of", path, error))?;
    }
    xattr::apply(file.as_fd(), &entry.xattrs, path)?;
    if !is_owner || !entry.xattrs.is_empty() || stat.st_mode & PERMISSIONS != entry.mode {
        fchmod(file, Mode::from_raw_mode(entry.mode))
            .map_err(|error| UnpackError::io("set the mode of", path, error))?;
    }
    Ok(stat)
}

fn examine_open(file: &OwnedFd, path: &[u8]) -> Result<Stat, UnpackError> {
    fstat(file).map_err(|error| UnpackError::io("examine", path, error))
}

fn set_mtime(file: &OwnedFd, mtime: (i64, u32), path: &[u8]) -> Result<(), UnpackError> {
    futimens(file, &timestamps(mtime)).map_err(|error| UnpackError::io("set the time of", path, error))
}

/// Access and modification time, both the entry's: two unpackings are to be the same.
pub(super) fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
    Timestamps { last_access: time, last_modification: time }
}
