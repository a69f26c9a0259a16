//! What a tree takes on disk.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};
use rustix::io::Errno;

use super::{Pending, TreeError, entries};

/// Unit of `st_blocks` in bytes, whatever the file system's own block size.
pub(crate) const STAT_BLOCK_BYTES: u64 = 512;

/// Space a tree takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Measured {
    fn add(&mut self, stat: &Stat) {
        self.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * STAT_BLOCK_BYTES;
        self.inodes += 1;
    }
}

/// Measure the folder `name` in `parent` and all below it; a file with several names counts once. The tree may be in
/// use: what vanishes meanwhile is left out.
pub(crate) fn measure(parent: BorrowedFd<'_>, name: &[u8]) -> Result<Measured, TreeError> {
    let mut total = Measured::default();
    let mut linked = HashSet::new();
    let mut folders = vec![Pending::new(parent, name)?];
    while let Some(folder) = folders.pop() {
        let fd = match folder.open() {
            Ok(fd) => Rc::new(fd),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
            Err(error) => return Err(folder.failed("open folder", error)),
        };
        total.add(&fstat(&*fd).map_err(|error| folder.failed("examine folder", error))?);
        for (name, _) in entries(&*fd).map_err(|error| folder.failed("list folder", error))? {
            let stat = match statat(fd.as_fd(), &name[..], AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(folder.child(&fd, &name).failed("examine", error)),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(folder.child(&fd, &name));
            } else if stat.st_nlink == 1 || linked.insert((stat.st_dev, stat.st_ino)) {
                total.add(&stat);
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("tree/a")).unwrap();
        fs::write(base.path().join("tree/a/file"), vec![1; 9000]).unwrap();
        let parent = fs::File::open(base.path()).unwrap();
        let before = measure(parent.as_fd(), b"tree").unwrap();
        fs::hard_link(base.path().join("tree/a/file"), base.path().join("tree/second")).unwrap();
        assert_eq!(measure(parent.as_fd(), b"tree").unwrap(), before);
        assert_eq!(before.inodes, 3);
        assert!(before.bytes >= 9000);
    }
}
