//! The host's procfs by a descriptor that was checked, so that no mount and no link of a container ever comes between.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};

/// Filesystem type of procfs, as statfs(2) tells it.
pub(crate) const MAGIC: i64 = 0x9fa0;
/// Inode number of a procfs instance's root folder.
const ROOT_INODE: u64 = 1;

/// The root folder of a procfs. Files of `self` are the caller's, also in a new pid namespace.
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Opens `/proc` of the caller's mount namespace. `ENODEV` when that is no procfs.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open("/proc", flags, Mode::empty())?;
        let is_procfs = rustix::fs::fstatfs(&root)?.f_type == MAGIC;
        if !is_procfs || rustix::fs::fstat(&root)?.st_ino != ROOT_INODE {
            return Err(rustix::io::Errno::NODEV.into());
        }
        Ok(Self(root))
    }

    /// Writes `value` in one write(2) to the file at `path`, which no mount on top of procfs can replace.
    pub(crate) fn write(&self, path: &std::path::Path, value: &str) -> io::Result<()> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        File::from(file).write_all(value.as_bytes())
    }

    /// Reads the file at `path`, as [`Procfs::write`] finds it.
    pub(crate) fn read(&self, path: &str) -> io::Result<String> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)?;
        io::read_to_string(File::from(file))
    }

    /// Opens what a link of procfs stands for, a namespace of a process of ours.
    pub(crate) fn open_link(&self, path: &std::path::Path) -> io::Result<OwnedFd> {
        Ok(rustix::fs::openat(&self.0, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, path: &str) -> bool {
        rustix::fs::statat(&self.0, path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Opens anew, with other flags, what a descriptor of the caller stands for.
    pub(crate) fn reopen(&self, descriptor: &impl AsFd, flags: OFlags) -> io::Result<OwnedFd> {
        let path = format!("self/fd/{}", descriptor.as_fd().as_raw_fd());
        Ok(rustix::fs::openat(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty())?)
    }
}
