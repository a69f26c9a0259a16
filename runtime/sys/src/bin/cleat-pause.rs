//! The process that holds a pod's namespaces: waits for signals, reaps what is orphaned in the pod, ends when told to.
//!
//! Every pod runs one, so it is as small as a program can be: no C library, no standard library, no heap. It uses no
//! symbol of either; where a panic would unwind (the development profile) the language insists on the standard library
//! being named, of which nothing is linked then.
#![cfg_attr(panic = "abort", no_std)]
#![no_main]
// A program without a library has nothing but system calls.
#![allow(unsafe_code)]

#[cfg(target_arch = "aarch64")]
#[path = "../pause/aarch64.rs"]
mod machine;
#[cfg(target_arch = "x86_64")]
#[path = "../pause/x86_64.rs"]
mod machine;

use machine::{number, system_call};

const SIGINT: isize = 2;
const SIGTERM: isize = 15;
const SIGCHLD: isize = 17;
const SIG_BLOCK: usize = 0;
/// wait4(2): any child.
const ANY_CHILD: usize = usize::MAX;
const WNOHANG: usize = 1;
/// The kernel's signal set: 64 bits, the lowest is signal 1.
const AWAITED: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
const SET_BYTES: usize = size_of::<u64>();

/// Entered by `_start`. Blocks the awaited signals, so that none is lost between two waits, then serves them one by one.
#[unsafe(no_mangle)]
extern "C" fn cleat_pause_main() -> ! {
    // On the stack: a constant elsewhere would cost a page of its own.
    let awaited = AWAITED;
    let set = &raw const awaited as usize;
    // SAFETY: the kernel reads the set, of the size given; the old mask is not asked for.
    unsafe { system_call(number::RT_SIGPROCMASK, SIG_BLOCK, set, 0, SET_BYTES) };
    reap_all();
    loop {
        // SAFETY: as above; neither the signal's details are asked for nor is there a timeout. An error (EINTR after a
        // stop and continue) is none of the numbers below.
        match unsafe { system_call(number::RT_SIGTIMEDWAIT, set, 0, 0, SET_BYTES) } {
            SIGCHLD => reap_all(),
            SIGTERM | SIGINT => exit(),
            _ => {}
        }
    }
}

/// Reaps every child that has ended: several may have sent one signal between them.
fn reap_all() {
    // SAFETY: neither a status nor the resources used are asked for, so that the kernel writes nothing.
    while unsafe { system_call(number::WAIT4, ANY_CHILD, 0, WNOHANG, 0) } > 0 {}
}

fn exit() -> ! {
    loop {
        // SAFETY: exit_group(2) takes a number and does not return.
        unsafe { system_call(number::EXIT_GROUP, 0, 0, 0, 0) };
    }
}

/// Nothing here panics; the language asks for a handler all the same.
#[cfg(panic = "abort")]
#[panic_handler]
fn on_panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit()
}
