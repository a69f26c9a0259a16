//! Namespaces: the flags, and joining those of another process in one call.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::checked;

/// Mount namespace.
pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
/// Process id namespace.
pub const PID: u64 = libc::CLONE_NEWPID as u64;
/// Network namespace.
pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
/// System V and POSIX message queue namespace.
pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
/// Host name namespace.
pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
/// Cgroup namespace.
pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
/// User namespace.
pub const USER: u64 = libc::CLONE_NEWUSER as u64;

/// Namespace of the monotonic and the boot clock (Linux 5.6). The constant of `libc` is an `int` that clone3 alone takes.
pub const TIME: u64 = libc::CLONE_NEWTIME as u64;

/// Joins namespaces: of a namespace file, whose kind has to be `kinds` (0 for any), or of the process behind a pidfd,
/// all of `kinds` at once (Linux 5.8). A pid namespace holds for children only.
pub fn join(source: &impl AsFd, kinds: u64) -> io::Result<()> {
    let kinds = libc::c_int::try_from(kinds).map_err(io::Error::other)?;
    // SAFETY: the descriptor is borrowed for the call; no pointer is passed.
    checked(unsafe { libc::setns(source.as_fd().as_raw_fd(), kinds) }.into()).map(|_| ())
}

/// Puts the caller into new namespaces of `kinds`.
pub fn unshare(kinds: u64) -> io::Result<()> {
    let kinds = libc::c_int::try_from(kinds).map_err(io::Error::other)?;
    // SAFETY: no pointer is passed; the flags are namespaces only, no memory or descriptor table comes apart.
    checked(unsafe { libc::unshare(kinds) }.into()).map(|_| ())
}
