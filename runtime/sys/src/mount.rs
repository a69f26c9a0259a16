//! mount_setattr(2), which `rustix` lacks; the rest of the mount interface is `rustix::mount`.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::OpenTreeFlags;

use crate::checked;
use crate::holder::Holder;

/// Read-only.
pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Set-user-id bits and file capabilities are ignored.
pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Device nodes cannot be opened.
pub const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
/// Programs cannot be executed.
pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
/// The access time mode's bits; to change the mode, clear all of them.
pub const ACCESS_TIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
/// Access times are not updated.
pub const NO_ACCESS_TIME: u64 = libc::MOUNT_ATTR_NOATIME;
/// Access times are updated at every access.
pub const STRICT_ACCESS_TIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
/// Access times of folders are not updated.
pub const NO_FOLDER_ACCESS_TIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
/// Symbolic links are not followed (Linux 5.14).
pub const NO_SYMLINKS: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// What happens to mount events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Neither received nor sent.
    Private,
    /// Received only.
    Slave,
    /// Received and sent.
    Shared,
    /// Private, and may not be bind mounted.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Self::Private => libc::MS_PRIVATE,
            Self::Slave => libc::MS_SLAVE,
            Self::Shared => libc::MS_SHARED,
            Self::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A change of a mount's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Attributes that are set.
    pub set: u64,
    /// Attributes that are cleared.
    pub clear: u64,
    /// The new propagation, if it changes.
    pub propagation: Option<Propagation>,
}

impl Attributes {
    /// Whether applying it would change nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Changes the attributes of the mount that `mount` stands for; with `recursive`, of all mounts beneath it too, all or
/// none of them (Linux 5.12).
pub fn set_attributes(mount: &impl AsFd, attributes: &Attributes, recursive: bool) -> io::Result<()> {
    let request = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation.map_or(0, Propagation::bits),
        userns_fd: 0,
    };
    change(mount, &request, recursive)
}

/// Shows the owners of files on a mount that is attached nowhere yet as the user namespace `mapping` maps them (Linux
/// 5.12). `EINVAL` where the filesystem does not know that.
pub fn map_owners(mount: &impl AsFd, mapping: &impl AsFd, recursive: bool) -> io::Result<()> {
    let userns_fd = u64::try_from(mapping.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let request =
        libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    change(mount, &request, recursive)
}

/// Finds out by trying whether the file system of `folder` can show owners as another namespace has them
/// ([`map_owners`]). An error says what is missing.
pub fn try_to_map_owners(folder: &Path) -> io::Result<()> {
    let holder = Holder::new(crate::namespace::USER)?;
    let process = Path::new("/proc").join(holder.pid().to_string());
    for file in ["uid_map", "gid_map"] {
        std::fs::write(process.join(file), "0 1 1\n")?;
    }
    let mapping = std::fs::File::open(process.join("ns/user"))?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let copy = rustix::mount::open_tree(CWD, folder, flags)?;
    map_owners(&copy, &mapping, false)
}

fn change(mount: &impl AsFd, request: &libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty string, `request` is borrowed for the call and its size is passed.
    checked(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(request),
            std::mem::size_of::<libc::mount_attr>(),
        )
    })
    .map(|_| ())
}
