//! Loading a seccomp filter (seccomp(2), Linux 3.17).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::checked;

/// Bytes of one instruction (`struct sock_filter`).
pub const INSTRUCTION_BYTES: usize = 8;

/// Loads `program` (an array of `struct sock_filter` as bytes) for the calling thread, with `SECCOMP_FILTER_FLAG_*` in
/// `flags`. Needs no_new_privs or CAP_SYS_ADMIN. The descriptor is there with `SECCOMP_FILTER_FLAG_NEW_LISTENER` only.
pub fn load(program: &[u8], flags: u32) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len() / INSTRUCTION_BYTES);
    let (Ok(len), 0) = (length, program.len() % INSTRUCTION_BYTES) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    // The kernel copies the program byte by byte (copy_from_user): it needs no alignment.
    let request = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `request` names `len` instructions that lie within `program`; the kernel only reads them.
    let result = checked(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const request)
    })?;
    if u64::from(flags) & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER == 0 {
        return Ok(None);
    }
    let raw = i32::try_from(result).map_err(io::Error::other)?;
    // SAFETY: with NEW_LISTENER the result is a new descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) }))
}
