//! The overlay of an image's layers and the container's own changes.

use std::fmt::Write;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsOpenFlags, fsconfig_create, fsconfig_set_string, fsopen};

use super::attach;

/// An overlay that is mounted nowhere yet; `lower` is the topmost layer first.
pub(super) fn mount(lower: &[PathBuf], upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "overlay")?;
    // Held until the overlay exists: on an older kernel the layers are named by these descriptors.
    let mut held = Vec::new();
    match append_layers(&context, lower) {
        Err(Errno::INVAL) => join_layers(&context, lower, &mut held)?,
        other => other?,
    }
    fsconfig_set_string(&context, "upperdir", upper)?;
    fsconfig_set_string(&context, "workdir", work)?;
    fsconfig_create(&context)?;
    attach::mount_context(&context, 0)
}

/// One call per layer, of any number and with any character in its path (Linux 6.7).
fn append_layers(context: &OwnedFd, lower: &[PathBuf]) -> Result<(), Errno> {
    lower.iter().try_for_each(|layer| fsconfig_set_string(context, "lowerdir+", layer))
}

/// All layers in one string, in which `/proc/self/fd/N` stands for each: short, and free of colons and commas.
fn join_layers(context: &OwnedFd, lower: &[PathBuf], held: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut joined = String::new();
    for layer in lower {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let layer = rustix::fs::open(layer, flags, Mode::empty())?;
        let separator = if joined.is_empty() { "" } else { ":" };
        write!(joined, "{separator}/proc/self/fd/{}", layer.as_raw_fd()).map_err(io::Error::other)?;
        held.push(layer);
    }
    Ok(fsconfig_set_string(context, "lowerdir", joined)?)
}
