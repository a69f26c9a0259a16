//! The folder a layer is unpacked into, reached only through one descriptor.
//!
//! Every path is resolved by `openat2(2)` (Linux 5.6) with RESOLVE_IN_ROOT: links, absolute ones and `..` included, end
//! inside the layer, and the kernel checks it while it resolves, so there is nothing to race.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags, fchmod, fsetxattr, mkdirat, openat,
    openat2, readlinkat, statat, unlinkat,
};
use rustix::io::Errno;

use super::error::{UnpackError, lossless};
use super::implied::MAX_IMPLIED_BYTES;
use super::path;
use super::recipe::Lost;
use super::xattr::OVERLAY_OPAQUE;

/// Mode of a folder that entries lie in but no entry describes.
const IMPLIED_MODE: u32 = 0o755;
/// Links followed while folders are made, as many as the kernel follows in one path.
const MAX_LINKS: u32 = 40;
/// Attempts at a resolution the kernel gave up because something was renamed somewhere meanwhile (EAGAIN).
const MAX_RESOLUTIONS: u32 = 128;

/// The folder, and what is known about it while it is filled.
pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// The folder of the last entry: archives list a folder's entries together.
    current: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Folders made, for their times and sizes at the end.
    pub(super) folders: Vec<Folder>,
    /// Whether something was taken away again, so that counting along is not exact.
    pub(super) replaced: bool,
    /// The number of the entry being carried out.
    pub(super) entry: u64,
    /// Bytes of the paths of folders that were made without an entry.
    implied_bytes: usize,
    /// Where what is taken away goes, if the archive is to be reproduced.
    lost: Option<Lost>,
}

/// A folder that was made or described.
pub(super) struct Folder {
    pub(super) path: Vec<u8>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) is_new: bool,
}

impl<'a> Tree<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, lost: Option<Lost>) -> Self {
        Self { root, current: None, folders: Vec::new(), replaced: false, entry: 0, implied_bytes: 0, lost }
    }

    /// The folder at `path`, made with all above it where it is missing.
    pub(super) fn enter(&mut self, path: &[u8]) -> Result<Rc<OwnedFd>, UnpackError> {
        if let Some((known, folder)) = &self.current
            && known == path
        {
            return Ok(Rc::clone(folder));
        }
        let folder = Rc::new(self.ensure(path, MAX_LINKS)?);
        self.current = Some((path.to_vec(), Rc::clone(&folder)));
        Ok(folder)
    }

    /// The folder at `path`, if there is one.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<OwnedFd>, UnpackError> {
        match self.open(path) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(UnpackError::io("open folder", path, error)),
        }
    }

    fn open(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path: &[u8] = if path.is_empty() { b"." } else { path };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        for _ in 1..MAX_RESOLUTIONS {
            match openat2(self.root, path, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                result => return result,
            }
        }
        openat2(self.root, path, flags, Mode::empty(), resolve)
    }

    /// Open `path`; where that fails, find the longest part that exists and make the rest of it.
    fn ensure(&mut self, path: &[u8], links_left: u32) -> Result<OwnedFd, UnpackError> {
        let ends: Vec<_> = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]).collect();
        let mut missing = Vec::new();
        let mut folder = None;
        for end in ends.into_iter().rev() {
            match self.open(&path[..end]) {
                Ok(found) => {
                    folder = Some(found);
                    break;
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => missing.push(end),
                Err(error) => return Err(UnpackError::io("open folder", &path[..end], error)),
            }
        }
        let mut folder = match folder {
            Some(folder) => folder,
            None => self.open(b"").map_err(|error| UnpackError::io("open folder", b"", error))?,
        };
        for end in missing.into_iter().rev() {
            folder = self.make(&folder, &path[..end], links_left)?;
        }
        Ok(folder)
    }

    /// Make the folder `path`, whose own folder is `parent`.
    fn make(&mut self, parent: &OwnedFd, path: &[u8], links_left: u32) -> Result<OwnedFd, UnpackError> {
        let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let name = &path[start..];
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) => self.finish_implied(parent, name, path, false),
            Err(Errno::EXIST) => self.make_over(parent, path, start, links_left),
            Err(error) => Err(UnpackError::io("make folder", path, error)),
        }
    }

    /// Something that is no folder stands where one has to be.
    fn make_over(
        &mut self,
        parent: &OwnedFd,
        path: &[u8],
        start: usize,
        links_left: u32,
    ) -> Result<OwnedFd, UnpackError> {
        let name = &path[start..];
        let stat = examine(parent, name, path)?;
        if stat.as_ref().is_some_and(is_whiteout) {
            self.take_away(parent, name, path)?;
            mkdirat(parent, name, Mode::RWXU).map_err(|error| UnpackError::io("make folder", path, error))?;
            return self.finish_implied(parent, name, path, true);
        }
        let is_link = stat.is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink);
        if !is_link || links_left == 0 {
            return Err(UnpackError::NotADirectory(lossless(path)));
        }
        // A link whose target is not there yet: make the target inside the layer, then let the kernel resolve the link.
        let target = readlinkat(parent, name, Vec::new())
            .map_err(|error| UnpackError::io("read link", path, error))?;
        let above = &path[..start.saturating_sub(1)];
        self.ensure(&path::follow(above, target.to_bytes()), links_left - 1)?;
        self.open(path).map_err(|_| UnpackError::NotADirectory(lossless(path)))
    }

    fn finish_implied(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
        opaque: bool,
    ) -> Result<OwnedFd, UnpackError> {
        self.implied_bytes += path.len() + 1;
        if self.implied_bytes >= MAX_IMPLIED_BYTES {
            return Err(UnpackError::TooManyImplied);
        }
        let folder = open_folder(parent, name, path)?;
        fchmod(&folder, Mode::from_raw_mode(IMPLIED_MODE))
            .map_err(|error| UnpackError::io("set the mode of folder", path, error))?;
        if opaque {
            set_opaque(&folder, path)?;
        }
        self.folders.push(Folder { path: path.to_vec(), mtime: None, is_new: true });
        Ok(folder)
    }

    /// Remove what is at `name` in `parent`, so that something else can take the place.
    pub(super) fn take_away(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<(), UnpackError> {
        self.replaced = true;
        // What is removed may be, or lead to, the folder of the last entry.
        self.current = None;
        if let Some(lost) = &mut self.lost
            && lost.take(self.entry, parent, name, path)?
        {
            return Ok(());
        }
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => crate::tree::remove(parent.as_fd(), name)
                .map_err(|error| UnpackError::io(error.operation, path, error.source)),
            Err(error) => Err(UnpackError::io("replace", path, error)),
        }
    }
}

/// What is at `name` in `parent`, a link itself and not its target.
pub(super) fn examine(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<Option<Stat>, UnpackError> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(UnpackError::io("examine", path, error)),
    }
}

/// Whether overlayfs takes this for a whiteout.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The folder `name` in `parent`, for changing its attributes.
pub(super) fn open_folder(parent: &OwnedFd, name: &[u8], path: &[u8]) -> Result<OwnedFd, UnpackError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).map_err(|error| UnpackError::io("open folder", path, error))
}

/// Let `folder` hide everything the lower layers have at its path.
pub(super) fn set_opaque(folder: &OwnedFd, path: &[u8]) -> Result<(), UnpackError> {
    fsetxattr(folder, OVERLAY_OPAQUE, b"y", XattrFlags::empty())
        .map_err(|error| UnpackError::io("mark as opaque the folder", path, error))
}
