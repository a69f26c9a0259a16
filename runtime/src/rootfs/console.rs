//! A terminal from the container's own devpts, and its place at /dev/console.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use cleat_sys::pty::{self, Pty};
use rustix::fs::Uid;

use super::{Tree, Wanted, attach};
use crate::Failure;
use crate::failure::Step;
use crate::spec::ProcessPlan;

/// Both sides of a process's terminal.
pub(crate) type Console = Pty;

/// Opens a terminal for the container's init and puts it at /dev/console.
pub(super) fn make(tree: &Tree, process: &ProcessPlan) -> Result<Console, Failure> {
    let console = open(tree, process)?;
    place(tree, &console.terminal).step(|| "place /dev/console")?;
    Ok(console)
}

/// Opens a terminal for a process, owned by its user.
pub(crate) fn open(tree: &Tree, process: &ProcessPlan) -> Result<Console, Failure> {
    let devpts = tree.find(Path::new("/dev/pts")).step(|| "find the container's /dev/pts")?;
    let console = pty::open(&devpts).step(|| "open a terminal in the container's /dev/pts")?;
    if process.uid != 0 {
        let owner = Some(Uid::from_raw(process.uid));
        rustix::fs::fchown(&console.terminal, owner, None)
            .step(|| "give the terminal to the process's user")?;
    }
    Ok(console)
}

/// By descriptors on both sides, so that no link at /dev/console leads anywhere (CVE-2025-52565).
fn place(tree: &Tree, terminal: &OwnedFd) -> io::Result<()> {
    let target = tree.find_or_create(Path::new("/dev/console"), Wanted::File)?;
    attach::attach(&attach::clone_descriptor(terminal, false)?, &target)
}
