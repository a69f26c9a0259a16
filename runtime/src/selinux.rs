//! SELinux labels, of processes and of what is mounted for them. A label that cannot be set is an error: nothing runs
//! without the protection that it was to have.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, XattrFlags};

use crate::Failure;
use crate::failure::Step;
use crate::procfs::Procfs;

/// The file system that a kernel has exactly when SELinux is on (selinux_enabled_boot).
const FILESYSTEM: &str = "selinuxfs";
/// Where a file's label is kept.
const ATTRIBUTE: &str = "security.selinux";

/// Fails when a label is wanted of a kernel that has none.
pub(crate) fn require(field: &str, label: Option<&String>, procfs: &Procfs) -> Result<(), Failure> {
    let Some(label) = label else { return Ok(()) };
    let step = || format!("set {field} to {label}");
    let known = procfs.read("filesystems").step(step)?;
    if known.lines().any(|line| line.split_whitespace().next_back() == Some(FILESYSTEM)) {
        return Ok(());
    }
    Err(Failure::because(step(), "this kernel has no SELinux, or it is turned off"))
}

/// Has the program that the caller executes next, and the keys that it makes until then, labelled.
pub(crate) fn label_program(label: Option<&String>, procfs: &Procfs) -> Result<(), Failure> {
    let Some(label) = label else { return Ok(()) };
    ["exec", "keycreate"].into_iter().try_for_each(|what| {
        let file = format!("thread-self/attr/{what}");
        procfs.write(Path::new(&file), label).step(|| format!("set process.selinuxLabel to {label} ({what})"))
    })
}

/// Labels the folder that a mount begins with.
pub(crate) fn label_folder(folder: &impl AsFd, label: &str) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    Ok(rustix::fs::fsetxattr(&folder, ATTRIBUTE, label.as_bytes(), XattrFlags::empty())?)
}
