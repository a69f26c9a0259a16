//! What an overlay's upper folder says was changed of the folders below it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, openat2, statat};
use rustix::io::Errno;

use super::{Pending, TreeError, entries};

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one, or has other attributes, or something in it has changed.
    Modified,
    /// There was none.
    Added,
    /// There is none any more.
    Deleted,
}

/// Paths, absolute inside, with what became of them.
type Changes = BTreeMap<Vec<u8>, ChangeKind>;

/// Reads the folder `name` in `parent` as the upper one of an overlay over `lower`. The paths in `hidden` are left out, and
/// the folders on the way to them where nothing else in them has changed. The tree may be in use.
pub(crate) fn changes(
    parent: BorrowedFd<'_>,
    name: &[u8],
    lower: BorrowedFd<'_>,
    hidden: &BTreeSet<Vec<u8>>,
) -> Result<Changes, TreeError> {
    let mut walk = Walk { lower, hidden, found: Changes::new(), folders: Vec::new() };
    walk.folders.push(Folder { at: Pending::new(parent, name)?, path: Vec::new(), is_in_lower: true });
    while let Some(folder) = walk.folders.pop() {
        walk.look_into(&folder)?;
    }
    Ok(walk.found)
}

/// A folder of the upper tree.
struct Folder {
    at: Pending,
    path: Vec<u8>,
    /// Whether what was below it is still seen through it.
    is_in_lower: bool,
}

struct Walk<'a> {
    lower: BorrowedFd<'a>,
    hidden: &'a BTreeSet<Vec<u8>>,
    found: Changes,
    folders: Vec<Folder>,
}

impl Walk<'_> {
    fn look_into(&mut self, folder: &Folder) -> Result<(), TreeError> {
        let fd = match folder.at.open() {
            Ok(fd) => Rc::new(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(folder.at.failed("open folder", error)),
        };
        for (name, _) in entries(&*fd).map_err(|error| folder.at.failed("list folder", error))? {
            let child = folder.at.child(&fd, &name);
            let path = [&folder.path[..], b"/", &name].concat();
            if self.hidden.contains(&path) {
                continue;
            }
            let stat = match statat(&*fd, &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(child.failed("examine", error)),
            };
            let below = if folder.is_in_lower { self.below(&path, &child)? } else { None };
            self.judge(child, path, &stat, below.as_ref())?;
        }
        Ok(())
    }

    /// What the lower tree has at `path`. What a link there leads to is not at this path.
    fn below(&self, path: &[u8], child: &Pending) -> Result<Option<Stat>, TreeError> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match openat2(self.lower, &path[1..], flags, Mode::empty(), resolve) {
            Ok(found) => fstat(&found).map(Some).map_err(|error| child.failed("examine", error)),
            // A link at the very path is found itself; one on the way is no way.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(child.failed("look below", error)),
        }
    }

    fn judge(
        &mut self,
        child: Pending,
        path: Vec<u8>,
        stat: &Stat,
        below: Option<&Stat>,
    ) -> Result<(), TreeError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::CharacterDevice && stat.st_rdev == 0 {
            if below.is_some() {
                self.report(&path, ChangeKind::Deleted);
            }
            return Ok(());
        }
        let on_the_way = kind == FileType::Directory && self.leads_to_hidden(&path);
        match below {
            None if on_the_way => {}
            None => self.report(&path, ChangeKind::Added),
            Some(below) if kind != FileType::Directory || is_other(stat, below) => {
                self.report(&path, ChangeKind::Modified);
            }
            Some(_) => {}
        }
        if kind == FileType::Directory {
            let is_opaque = below.is_some() && is_opaque(&child)?;
            if is_opaque {
                self.report(&path, ChangeKind::Modified);
            }
            let is_folder = below.is_some_and(is_folder);
            self.folders.push(Folder { at: child, path, is_in_lower: is_folder && !is_opaque });
        }
        Ok(())
    }

    fn leads_to_hidden(&self, path: &[u8]) -> bool {
        let inside = [path, b"/"].concat();
        self.hidden.range(inside.clone()..).next().is_some_and(|first| first.starts_with(&inside))
    }

    /// Notes a change, and that the folders on the way to it have changed by it.
    fn report(&mut self, path: &[u8], kind: ChangeKind) {
        for (at, _) in path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
            self.found.entry(path[..at].to_vec()).or_insert(ChangeKind::Modified);
        }
        self.found.insert(path.to_vec(), kind);
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether a folder has other attributes than the one below. Its time changes with every entry and says nothing.
fn is_other(upper: &Stat, below: &Stat) -> bool {
    (upper.st_mode, upper.st_uid, upper.st_gid) != (below.st_mode, below.st_uid, below.st_gid)
}

fn is_opaque(folder: &Pending) -> Result<bool, TreeError> {
    let fd = match folder.open() {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(folder.failed("open folder", error)),
    };
    super::is_opaque(&fd).map_err(|error| folder.failed("read the overlay's mark of", error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn read(base: &Path, hidden: &[&str]) -> Vec<(String, ChangeKind)> {
        let (parent, lower) = (fs::File::open(base).unwrap(), fs::File::open(base.join("lower")).unwrap());
        let hidden = hidden.iter().map(|path| path.as_bytes().to_vec()).collect();
        let found = changes(parent.as_fd(), b"upper", lower.as_fd(), &hidden).unwrap();
        found.into_iter().map(|(path, kind)| (String::from_utf8(path).unwrap(), kind)).collect()
    }

    #[test]
    fn what_is_new_and_what_is_other_is_told_with_its_folders() {
        use ChangeKind::{Added, Modified};
        let base = tempfile::tempdir().unwrap();
        for folder in ["lower/etc", "lower/same", "upper/etc/new", "upper/same", "upper/link", "upper/to"] {
            fs::create_dir_all(base.path().join(folder)).unwrap();
        }
        for file in ["lower/etc/passwd", "upper/etc/passwd", "upper/etc/new/file", "upper/link/passwd"] {
            fs::write(base.path().join(file), "x").unwrap();
        }
        // What a link of the lower tree leads to is not at its path.
        symlink("etc", base.path().join("lower/link")).unwrap();
        symlink("/etc", base.path().join("upper/to/l")).unwrap();
        let told = |text: &str, kind| (text.to_owned(), kind);
        let expected = [
            told("/etc", Modified),
            told("/etc/new", Added),
            told("/etc/new/file", Added),
            told("/etc/passwd", Modified),
            told("/link", Modified),
            told("/link/passwd", Added),
            told("/to", Added),
            told("/to/l", Added),
        ];
        assert_eq!(read(base.path(), &[]), expected);
    }

    #[test]
    fn mount_points_and_the_way_to_them_are_no_changes() {
        let base = tempfile::tempdir().unwrap();
        for folder in ["lower/etc", "upper/etc", "upper/run/x", "upper/proc"] {
            fs::create_dir_all(base.path().join(folder)).unwrap();
        }
        for file in ["upper/etc/hosts", "upper/run/x/secret"] {
            fs::write(base.path().join(file), "").unwrap();
        }
        let hidden = ["/etc/hosts", "/run/x/secret", "/proc"];
        assert_eq!(read(base.path(), &hidden), []);
        fs::write(base.path().join("upper/run/x/own"), "").unwrap();
        assert_eq!(read(base.path(), &hidden).len(), 3);
    }
}
