//! What a container has changed of its image, as a list of paths.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use super::TreeError;
use super::upper::{UpperEntry, Walk, is_folder, walk};

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
    let mut found = Changes::new();
    walk::<TreeError>(parent, name, lower, |path, entry| {
        if hidden.contains(path) {
            return Ok(Walk::Past);
        }
        if let Some(kind) = judge(path, &entry, hidden) {
            report(&mut found, path, kind);
        }
        Ok(Walk::Into)
    })?;
    Ok(found)
}

/// What became of the path of `entry`, if anything did.
fn judge(path: &[u8], entry: &UpperEntry<'_>, hidden: &BTreeSet<Vec<u8>>) -> Option<ChangeKind> {
    match entry {
        UpperEntry::Removed => Some(ChangeKind::Deleted),
        // It is told by the folder that hides it.
        UpperEntry::Hidden => None,
        UpperEntry::Present { stat, below: None, .. } => {
            let on_the_way = is_folder(stat) && leads_to_one_of(hidden, path);
            (!on_the_way).then_some(ChangeKind::Added)
        }
        UpperEntry::Present { stat, below: Some(below), is_opaque, .. } => {
            let is_other = *is_opaque || !is_folder(stat) || is_other(stat, below);
            is_other.then_some(ChangeKind::Modified)
        }
    }
}

fn leads_to_one_of(hidden: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let inside = [path, b"/"].concat();
    hidden.range(inside.clone()..).next().is_some_and(|first| first.starts_with(&inside))
}

/// Notes a change, and that the folders on the way to it have changed by it.
fn report(found: &mut Changes, path: &[u8], kind: ChangeKind) {
    for (at, _) in path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/') {
        found.entry(path[..at].to_vec()).or_insert(ChangeKind::Modified);
    }
    found.insert(path.to_vec(), kind);
}

/// Whether a folder has other attributes than the one below. Its time changes with every entry and says nothing.
fn is_other(upper: &Stat, below: &Stat) -> bool {
    (upper.st_mode, upper.st_uid, upper.st_gid) != (below.st_mode, below.st_uid, below.st_gid)
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
