//! Signal state that a program inherits: the mask and what is ignored.

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
