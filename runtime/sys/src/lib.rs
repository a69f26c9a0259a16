//! Kernel facilities that neither `nix` nor `rustix` wraps safely, one file each and without policy.
//!
//! This is the only crate of the workspace with `unsafe` code. What `nix` or `rustix` offers as a safe function is used
//! from there directly and not wrapped again. Every descriptor made here is close-on-exec.

#![allow(unsafe_code)]

pub mod bpf;
pub mod capability;
pub mod cgroup;
pub mod descriptors;
pub mod heap;
pub mod holder;
pub mod keyring;
pub mod memory_policy;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod own_program;
pub mod passing;
pub mod priority;
pub mod process;
pub mod pty;
pub mod seccomp;
pub mod signal;
pub mod socket;

/// The result of a raw system call: its value, or the error number it left behind.
fn checked(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
