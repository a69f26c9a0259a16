//! Making the container's root the caller's, and letting go of the host's.

use std::io;

use cleat_sys::mount::{Attributes, Propagation, set_attributes};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use super::Tree;

/// Makes `tree`, which is mounted on top of the caller's root, the caller's root.
pub(super) fn enter(tree: &Tree) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let old = rustix::fs::open("/", flags, Mode::empty())?;
    fchdir(tree)?;
    // The same folder twice puts the old root on top of the new one (pivot_root(2), "Notes"), from where it is taken
    // off without a folder to hold it in between.
    pivot_root(".", ".")?;
    // Otherwise the host would see what is about to be unmounted go.
    let slave = Attributes { propagation: Some(Propagation::Slave), ..Attributes::default() };
    set_attributes(&old, &slave, true)?;
    fchdir(&old)?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// The same where the caller's root is the initial filesystem, which cannot be moved away (pivot_root(2), EINVAL): the
/// host's tree stays beneath.
pub(super) fn enter_without_pivot(tree: &Tree) -> io::Result<()> {
    fchdir(tree)?;
    chroot(".")?;
    Ok(chdir("/")?)
}
