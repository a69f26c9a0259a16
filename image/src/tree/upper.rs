//! What is in an overlay's upper folder, entry for entry, and what it takes away of the folders below it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat};
use rustix::io::Errno;

use super::{Pending, TreeError, entries, is_opaque};

/// Something of an upper folder.
pub enum UpperEntry<'a> {
    /// It has this.
    Present {
        /// The folder that it is in. Who fills that may have replaced it since: it is to be opened beneath this descriptor,
        /// following no link.
        folder: BorrowedFd<'a>,
        /// Its name there.
        name: &'a [u8],
        /// What it is.
        stat: &'a Stat,
        /// What the folders below have at its path and would show there.
        below: Option<&'a Stat>,
        /// Whether it is a folder that shows nothing of what is below it.
        is_opaque: bool,
    },
    /// It marks as removed what the folders below have at this path.
    Removed,
    /// The folders below have something at this path, and a folder above it is a new one, which shows nothing of them.
    Hidden,
}

/// What to do behind an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// Go on, and into it if it is a folder.
    Into,
    /// Go on behind it.
    Past,
}

/// Goes through the folder `name` in `parent`, the upper one of an overlay over `lower`: calls `visit` with each entry and its
/// path, absolute inside, a folder before what is in it and names in order. The tree may be in use: what vanishes meanwhile
/// is left out.
pub(crate) fn walk<E: From<TreeError>>(
    parent: BorrowedFd<'_>,
    name: &[u8],
    lower: BorrowedFd<'_>,
    visit: impl FnMut(&[u8], UpperEntry<'_>) -> Result<Walk, E>,
) -> Result<(), E> {
    let root = Folder { at: Pending::new(parent, name)?, path: Vec::new(), shows_lower: true };
    let mut upper = Upper { lower, visit, folders: vec![root] };
    while let Some(folder) = upper.folders.pop() {
        upper.look_into(&folder)?;
    }
    Ok(())
}

/// A walk under way.
struct Upper<'a, V> {
    lower: BorrowedFd<'a>,
    visit: V,
    folders: Vec<Folder>,
}

/// A folder of the upper tree.
struct Folder {
    at: Pending,
    path: Vec<u8>,
    /// Whether what was below it is still seen through it.
    shows_lower: bool,
}

impl<E: From<TreeError>, V: FnMut(&[u8], UpperEntry<'_>) -> Result<Walk, E>> Upper<'_, V> {
    fn look_into(&mut self, folder: &Folder) -> Result<(), E> {
        let fd = match folder.at.open() {
            Ok(fd) => Rc::new(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(folder.at.failed("open folder", error).into()),
        };
        let names = entries(&*fd).map_err(|error| folder.at.failed("list folder", error))?;
        let names: BTreeSet<_> = names.into_iter().map(|(name, _)| name).collect();
        if !folder.shows_lower {
            for name in folder.lower_names(self.lower)?.difference(&names) {
                (self.visit)(&folder.path_of(name), UpperEntry::Hidden)?;
            }
        }
        names.iter().try_for_each(|name| self.entry(folder, &fd, name))
    }

    /// Have `name` in the folder, which is open as `fd`, visited.
    fn entry(&mut self, parent: &Folder, fd: &Rc<OwnedFd>, name: &[u8]) -> Result<(), E> {
        let (child, path) = (parent.at.child(fd, name), parent.path_of(name));
        let stat = match statat(&**fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(child.failed("examine", error).into()),
        };
        let below = if parent.shows_lower { below(self.lower, &path, &child)? } else { None };
        if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0 {
            if below.is_some() {
                (self.visit)(&path, UpperEntry::Removed)?;
            }
            return Ok(());
        }
        let is_opaque = is_folder(&stat) && below.is_some() && hides_lower(&child)?;
        let (stat, below) = (&stat, below.as_ref());
        let entry = UpperEntry::Present { folder: fd.as_fd(), name, stat, below, is_opaque };
        if (self.visit)(&path, entry)? == Walk::Into && is_folder(stat) {
            let shows_lower = below.is_some_and(is_folder) && !is_opaque;
            self.folders.push(Folder { at: child, path, shows_lower });
        }
        Ok(())
    }
}

impl Folder {
    fn path_of(&self, name: &[u8]) -> Vec<u8> {
        [&self.path[..], b"/", name].concat()
    }

    /// What the lower tree has in the folder of this path, if it has one.
    fn lower_names(&self, lower: BorrowedFd<'_>) -> Result<BTreeSet<Vec<u8>>, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let found = match openat2(lower, &self.path[1..], flags, Mode::empty(), resolve) {
            Ok(found) => found,
            Err(error) if is_absence(error) => return Ok(BTreeSet::new()),
            Err(error) => return Err(self.at.failed("look below", error)),
        };
        let names = entries(&found).map_err(|error| self.at.failed("list what is below", error))?;
        Ok(names.into_iter().map(|(name, _)| name).collect())
    }
}

/// What the lower tree has at `path`. What a link there leads to is not at this path.
fn below(lower: BorrowedFd<'_>, path: &[u8], child: &Pending) -> Result<Option<Stat>, TreeError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    match openat2(lower, &path[1..], flags, Mode::empty(), resolve) {
        Ok(found) => fstat(&found).map(Some).map_err(|error| child.failed("examine", error)),
        Err(error) if is_absence(error) => Ok(None),
        Err(error) => Err(child.failed("look below", error)),
    }
}

/// A link at the very path is found itself; one on the way is no way. No image has a path longer than the kernel resolves.
fn is_absence(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG)
}

pub(super) fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn hides_lower(folder: &Pending) -> Result<bool, TreeError> {
    let fd = match folder.open() {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(folder.failed("open folder", error)),
    };
    is_opaque(&fd).map_err(|error| folder.failed("read the overlay's mark of", error))
}
