//! Keeping this program out of containers' reach (CVE-2019-5736): a process in a container may get hold of
//! `/proc/<pid>/exe` of a process of ours, and must not be able to write to the program by it.
//!
//! The program runs from a read-only mount that is attached nowhere, or where that cannot be had from a sealed copy in
//! memory. To the mount it moves as it runs, where the kernel allows that; else it executes itself once, unless it runs
//! from such a place already.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use cleat_sys::mount::{Attributes, READ_ONLY, set_attributes};
use rustix::fs::{CWD, MemfdFlags, SealFlags, StatVfsMountFlags, fcntl_add_seals, fcntl_get_seals};
use rustix::mount::{OpenTreeFlags, open_tree};

use super::CommandError;

const OWN_PROGRAM: &str = "/proc/self/exe";

/// Returns at once where the program cannot be written to through this process; else executes it from where that holds.
pub(super) fn protect_own_program() -> Result<(), CommandError> {
    let failed = |error| CommandError::System("protect the runtime's own program", error);
    let program = File::open(OWN_PROGRAM).map_err(failed)?;
    if is_protected(&program).map_err(failed)? {
        return Ok(());
    }
    let mount = read_only_mount();
    if mount.as_ref().is_ok_and(|mount| move_to(mount).is_ok()) {
        return Ok(());
    }
    let protected = mount.or_else(|_| sealed_copy(program)).map_err(failed)?;
    let text = |text: std::ffi::OsString| CString::new(text.into_vec()).map_err(io::Error::other);
    let arguments: Vec<_> = std::env::args_os().map(text).collect::<Result<_, _>>().map_err(failed)?;
    let variable = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut entry = name;
        entry.push("=");
        entry.push(value);
        text(entry)
    };
    let environment: Vec<_> = std::env::vars_os().map(variable).collect::<Result<_, _>>().map_err(failed)?;
    Err(failed(cleat_sys::process::execute_descriptor(protected.as_fd(), &arguments, &environment)))
}

fn is_protected(program: &File) -> io::Result<bool> {
    if rustix::fs::fstatvfs(program)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Only memory files have seals.
    Ok(fcntl_get_seals(program).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

fn read_only_mount() -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, OWN_PROGRAM, flags)?;
    set_attributes(&mount, &Attributes { set: READ_ONLY, ..Attributes::default() }, false)?;
    Ok(mount)
}

/// The mount is of the program alone.
fn move_to(mount: &OwnedFd) -> io::Result<()> {
    cleat_sys::own_program::run_from(&File::open(format!("/proc/self/fd/{}", mount.as_raw_fd()))?)
}

fn sealed_copy(mut program: File) -> io::Result<OwnedFd> {
    let mut copy = File::from(rustix::fs::memfd_create(
        "cleat-runtime",
        MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING,
    )?);
    io::copy(&mut program, &mut copy)?;
    fcntl_add_seals(&copy, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(copy.into())
}
