//! Descriptor tables: marking everything close-on-exec, standard streams, descriptors handed over by number.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::checked;

/// Marks every descriptor from `first` on close-on-exec (Linux 5.11).
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: no pointer is passed; nothing is closed now, so no owned descriptor becomes dangling.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) })
        .map(|_| ())
}

/// Makes `source` the caller's standard stream `number` (0, 1 or 2), inherited by programs.
pub fn make_standard_stream(source: &impl AsFd, number: i32) -> io::Result<()> {
    if !(0..=2).contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    if source.as_fd().as_raw_fd() == number {
        // dup2 onto itself would leave close-on-exec as it is.
        return Ok(rustix::io::fcntl_setfd(source, rustix::io::FdFlags::empty())?);
    }
    // SAFETY: standard streams are owned by no OwnedFd; what was there is closed and replaced.
    checked(unsafe { libc::dup2(source.as_fd().as_raw_fd(), number) }.into()).map(|_| ())
}

/// Takes ownership of a descriptor that the parent process handed over by number, and marks it close-on-exec.
/// `EBADF` when it is not open. To be called at most once per number, before anything else opens descriptors.
pub fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer.
    checked(unsafe { libc::fcntl(number, libc::F_GETFD) }.into())?;
    // SAFETY: it is open, and by the contract above nobody in this process owns it yet.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC)?;
    Ok(fd)
}
