//! The container's root folder by a descriptor: every path in it is resolved beneath that, by the kernel.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, makedev};
use rustix::io::Errno;

/// openat2 gives up with EAGAIN when something was renamed while it went through `..`; that many times it is tried again.
const RACE_RETRIES: u32 = 32;
/// As many symbolic links in a row as the kernel follows itself.
const MAX_LINKS: u32 = 40;
/// The most that is read of a file that an image brought.
const MAX_IMAGE_FILE_BYTES: u64 = 1 << 20;

/// The root folder of a container.
#[derive(Debug)]
pub(crate) struct Tree(OwnedFd);

/// What a mount needs to find at its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Folder,
    File,
}

impl Tree {
    /// The tree whose root folder is `root` (O_PATH is enough).
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    /// An O_PATH descriptor of `path`, symbolic links followed within the tree, links of procfs never.
    pub(crate) fn find(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH, ResolveFlags::empty())
    }

    /// As [`Tree::find`], but a symbolic link on the way is `ELOOP`.
    pub(crate) fn find_plain(&self, path: &Path) -> io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH, ResolveFlags::NO_SYMLINKS)
    }

    /// As [`Tree::find`] for a relative path, but a symbolic link that leads out of the tree is `EXDEV`.
    pub(crate) fn find_beneath(&self, path: &Path) -> io::Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::BENEATH)
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        self.open(path, flags, ResolveFlags::IN_ROOT | more)
    }

    fn open(&self, path: &Path, flags: OFlags, how: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = how | ResolveFlags::NO_MAGICLINKS;
        let mut attempt = 0;
        loop {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) if attempt < RACE_RETRIES => attempt += 1,
                other => return Ok(other?),
            }
        }
    }

    /// As [`Tree::find`]; what is missing is made: the parents as folders (mode 0755), the last as `wanted`.
    pub(crate) fn find_or_create(&self, path: &Path, wanted: Wanted) -> io::Result<OwnedFd> {
        self.create(path, wanted, MAX_LINKS)
    }

    fn create(&self, path: &Path, wanted: Wanted, links_left: u32) -> io::Result<OwnedFd> {
        match self.find(path) {
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
            other => return other,
        }
        let (Some(parent_path), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::NOENT.into());
        };
        let parent = self.create(parent_path, Wanted::Folder, links_left)?;
        let made = match wanted {
            Wanted::Folder => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
            Wanted::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map(drop)
            }
        };
        match made {
            Ok(()) => self.find(path),
            // A symbolic link whose target is missing (or somebody was quicker, then there is nothing to read).
            Err(Errno::EXIST) if links_left > 0 => match rustix::fs::readlinkat(&parent, name, Vec::new()) {
                Ok(link) => {
                    let target = parent_path.join(PathBuf::from(link.to_string_lossy().into_owned()));
                    self.create(&target, wanted, links_left - 1)
                }
                Err(_) => self.find(path),
            },
            Err(errno) => Err(errno.into()),
        }
    }

    /// The tree's `/dev/null`, opened as `stream` is, if that is a null device; none when it is not, or when the tree has
    /// none that works.
    pub(crate) fn null_like(&self, stream: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
        let is_null = |descriptor: BorrowedFd<'_>| -> io::Result<bool> {
            let stat = rustix::fs::fstat(descriptor)?;
            let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
            Ok(is_device && stat.st_rdev == makedev(1, 3))
        };
        if !is_null(stream)? {
            return Ok(None);
        }
        let path = Path::new("/dev/null");
        // Looked at before it is opened: opening what an image may have put there could have an effect.
        match self.find(path) {
            Ok(found) if is_null(found.as_fd())? => {}
            _ => return Ok(None),
        }
        let mode = rustix::fs::fcntl_getfl(stream)? & OFlags::RWMODE;
        // On a mount without devices it cannot be opened.
        let opened = self.resolve(path, mode | OFlags::NOCTTY, ResolveFlags::empty());
        Ok(opened.ok().filter(|own| is_null(own.as_fd()).unwrap_or(false)))
    }

    /// The content of a regular file of an image, bounded; none when there is none.
    pub(crate) fn read_image_file(&self, path: &Path) -> io::Result<Option<String>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match self.resolve(path, flags, ResolveFlags::empty()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        File::from(file).take(MAX_IMAGE_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a descriptor is of a folder.
pub(crate) fn is_folder(descriptor: &impl AsFd) -> io::Result<bool> {
    let stat = rustix::fs::statat(descriptor, "", AtFlags::EMPTY_PATH)?;
    Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Tree) {
        let folder = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(folder.path(), flags, Mode::empty()).unwrap();
        (folder, Tree::new(root))
    }

    #[test]
    fn links_lead_nowhere_but_into_the_tree() {
        let (folder, tree) = tree();
        symlink("/../../../etc", folder.path().join("out")).unwrap();
        tree.find_or_create(Path::new("/out/passwd"), Wanted::File).unwrap();
        assert!(folder.path().join("etc/passwd").is_file());
    }

    #[test]
    fn a_dangling_link_is_filled_in() {
        let (folder, tree) = tree();
        fs::create_dir(folder.path().join("var")).unwrap();
        symlink("../run", folder.path().join("var/run")).unwrap();
        let made = tree.find_or_create(Path::new("/var/run/secrets/x"), Wanted::Folder).unwrap();
        assert!(is_folder(&made).unwrap());
        assert!(folder.path().join("run/secrets/x").is_dir());
    }

    #[test]
    fn a_ring_of_links_is_an_error() {
        let (folder, tree) = tree();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(tree.find_or_create(Path::new("/a/x"), Wanted::Folder).is_err());
        assert!(tree.find_plain(Path::new("/a")).is_err());
    }

    #[test]
    fn only_regular_files_are_read_and_not_without_end() {
        let (folder, tree) = tree();
        fs::create_dir(folder.path().join("passwd")).unwrap();
        assert_eq!(tree.read_image_file(Path::new("/passwd")).unwrap(), None);
        assert_eq!(tree.read_image_file(Path::new("/absent")).unwrap(), None);
        fs::File::create(folder.path().join("big")).unwrap().set_len(1 << 30).unwrap();
        let read = tree.read_image_file(Path::new("/big")).unwrap().unwrap();
        assert_eq!(read.len() as u64, MAX_IMAGE_FILE_BYTES);
    }
}
