//! Signal state that a program inherits: the mask and what is ignored.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Gives every signal its default action and unblocks all of them, as a new program expects it.
pub fn reset() -> io::Result<()> {
    // SAFETY: sigaction is plain data for which all zeroes means SIG_DFL with no flags and an empty mask.
    let default: libc::sigaction = unsafe { std::mem::zeroed() };
    for number in 1..=libc::SIGRTMAX() {
        // SAFETY: `default` outlives the call and installs no handler. SIGKILL, SIGSTOP and the two numbers the C
        // library keeps to itself are refused with EINVAL, which changes nothing.
        unsafe { libc::sigaction(number, &raw const default, std::ptr::null_mut()) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).map_err(io::Error::from)
}
