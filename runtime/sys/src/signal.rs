//! Signal state that a program inherits: the mask and what is ignored; waiting for signals of any number, which `nix` has no
//! names for from 32 on.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

use crate::checked;

/// The kernel's signal numbers, all of them (`_NSIG`).
const LAST_SIGNAL: libc::c_int = 64;
/// Bytes of the kernel's signal mask.
const MASK_BYTES: usize = 8;

/// Gives every signal its default action and unblocks all of them, as a new program expects it.
///
/// The C library's wrapper refuses the two numbers below SIGRTMIN that it uses itself; a caller that ignored them would
/// pass that on, so the kernel is asked directly.
pub fn reset() -> io::Result<()> {
    // The kernel's struct sigaction: handler, flags, restorer, mask, eight bytes each. All zeroes are SIG_DFL without
    // flags.
    let default = [0_u64; 4];
    for number in (1..=LAST_SIGNAL).filter(|number| ![libc::SIGKILL, libc::SIGSTOP].contains(number)) {
        // SAFETY: `default` is as long as the kernel's structure, outlives the call and installs no handler.
        checked(unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                MASK_BYTES,
            )
        })?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(io::Error::from)
}

/// Waits until any blocked signal is there and takes it; its number. `EINTR` where one that is not blocked came.
pub fn wait_for_any() -> io::Result<i32> {
    let all = u64::MAX;
    // SAFETY: `all` is as long as the kernel's mask and outlives the call; nothing is written, since no place for the
    // signal's details or a time limit is passed.
    let number = checked(unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            std::ptr::from_ref(&all),
            std::ptr::null_mut::<libc::siginfo_t>(),
            std::ptr::null::<libc::timespec>(),
            MASK_BYTES,
        )
    })?;
    i32::try_from(number).map_err(io::Error::other)
}
