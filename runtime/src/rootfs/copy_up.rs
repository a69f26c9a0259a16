//! `tmpcopyup`: a new memory filesystem begins with what the image has at its place.
//!
//! What an image brings is copied by descriptors, no link is followed, and no more than the filesystem's own size allows.
//! Devices and sockets, which no image needs there, are left out.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

/// Folders within folders that are copied: far beyond any image, and within the stack.
const MAX_DEPTH: u32 = 200;

/// Copies what is in the folder `from` (O_PATH is enough), its own owner and mode included.
pub(super) fn copy(from: &impl AsFd, to: &impl AsFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty())?;
    let to = rustix::fs::openat(to, ".", flags, Mode::empty())?;
    let found = rustix::fs::fstat(&from)?;
    copy_folder(&from, &to, MAX_DEPTH)?;
    like(&to, &found)
}

fn copy_folder(from: &OwnedFd, to: &OwnedFd, depth_left: u32) -> io::Result<()> {
    if depth_left == 0 {
        return Err(Errno::LOOP.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY;
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let source = rustix::fs::openat(from, name, flags, Mode::empty())?;
                let copy = rustix::fs::openat(to, name, flags, Mode::empty())?;
                copy_folder(&source, &copy, depth_left - 1)?;
                like(&copy, &found)?;
            }
            FileType::RegularFile => {
                let source = rustix::fs::openat(from, name, flags | OFlags::RDONLY, Mode::empty())?;
                let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let copy = rustix::fs::openat(to, name, new, Mode::RWXU)?;
                io::copy(&mut File::from(source), &mut File::from(copy.try_clone()?))?;
                like(&copy, &found)?;
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
                let (uid, gid) = owner(&found);
                rustix::fs::chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Gives a copy owner, mode and time of its original. The owner first: changing it clears set-user-id bits.
fn like(copy: &OwnedFd, original: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(original);
    rustix::fs::fchown(copy, Some(uid), Some(gid))?;
    rustix::fs::fchmod(copy, Mode::from_raw_mode(original.st_mode & 0o7777))?;
    let modified =
        Timespec { tv_sec: original.st_mtime, tv_nsec: i64::try_from(original.st_mtime_nsec).unwrap_or(0) };
    Ok(rustix::fs::futimens(copy, &Timestamps { last_access: modified, last_modification: modified })?)
}

fn owner(of: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(of.st_uid), Gid::from_raw(of.st_gid))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn folders_files_and_links_are_copied_as_they_are() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(from.path().join("a/b")).unwrap();
        fs::write(from.path().join("a/b/file"), "content").unwrap();
        fs::set_permissions(from.path().join("a/b/file"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(from.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        // Nothing outside is looked at, and nothing waits.
        symlink("/etc/passwd", from.path().join("link")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, from.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0)
            .unwrap();
        copy(&File::open(from.path()).unwrap(), &File::open(to.path()).unwrap()).unwrap();
        assert_eq!(fs::read_to_string(to.path().join("a/b/file")).unwrap(), "content");
        let mode = |path: &str| fs::metadata(to.path().join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("a/b/file"), mode("")), (0o4751, 0o1777));
        assert_eq!(fs::read_link(to.path().join("link")).unwrap().to_str(), Some("/etc/passwd"));
        assert!(!to.path().join("pipe").exists());
    }
}
