//! A mount namespace for work that nobody shall see: a copy of the caller's, which goes with all that was mounted in it.
//! What comes out of it is detached.

use std::io;
use std::path::Path;

use cleat_sys::namespace;
use rustix::fs::{Mode, OFlags};
use rustix::process::fchdir;

/// Where the calling thread's mount namespace is.
const OWN_NAMESPACE: &str = "/proc/self/ns/mnt";

/// Does `work` in there. Mount events still pass between the copy and its original.
pub(crate) fn inside<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let here = rustix::fs::open(Path::new("."), flags, Mode::empty())?;
    let outside = rustix::fs::open(OWN_NAMESPACE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    namespace::unshare(namespace::MOUNT)?;
    let made = work();
    namespace::join(&outside, namespace::MOUNT)?;
    fchdir(&here)?;
    Ok(made)
}
