//! The overlay of an image's layers and the container's own changes.
//!
//! Where the kernel takes one layer a call (Linux 6.7) it is made by the calls for new mounts. They cannot serve on older
//! ones: fsconfig(2) takes no string above 255 bytes, which is a dozen layers. There it is mounted by mount(2), in a mount
//! namespace that is left again at once, and comes out of it as a detached copy.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsOpenFlags, MountFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_string, fsopen,
    mount_change,
};

use super::{attach, workshop};

/// The folders of an overlay, `lower` with the topmost layer first, and the label of its files.
#[derive(Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) lower: &'a [PathBuf],
    pub(super) upper: &'a Path,
    pub(super) work: &'a Path,
    pub(super) label: Option<&'a str>,
}

/// An overlay that is mounted nowhere yet.
pub(super) fn mount(layers: Layers<'_>) -> io::Result<OwnedFd> {
    match by_layer(layers) {
        // Before Linux 6.5 the option is taken at first and refused at the creation, so that the step says nothing.
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => in_one_string(layers),
        made => made,
    }
}

/// One call per layer, of any number and with any character in its path (Linux 6.7).
fn by_layer(layers: Layers<'_>) -> io::Result<OwnedFd> {
    let Layers { lower, upper, work, label } = layers;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "overlay")?;
    lower.iter().try_for_each(|layer| fsconfig_set_string(&context, "lowerdir+", layer))?;
    fsconfig_set_string(&context, "upperdir", upper)?;
    fsconfig_set_string(&context, "workdir", work)?;
    if let Some(label) = label {
        fsconfig_set_string(&context, "context", label)?;
    }
    fsconfig_create(&context)?;
    attach::mount_context(&context, 0)
}

/// All options in one page, in which `/proc/self/fd/N` stands for each folder: short, and free of colons and commas.
fn in_one_string(layers: Layers<'_>) -> io::Result<OwnedFd> {
    // In a namespace of its own even here, in the container's: that one may share its mounts with the host.
    workshop::inside(|| mount_and_copy(layers))?
}

#[expect(
    clippy::disallowed_methods,
    reason = "the target is the host's own folder, in a namespace of nobody else"
)]
fn mount_and_copy(layers: Layers<'_>) -> io::Result<OwnedFd> {
    let Layers { lower, upper, work, label } = layers;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Opened here: an overlay takes no folder of a mount in another namespace.
    let folders = lower.iter().map(|layer| folder(layer)).collect::<io::Result<Vec<_>>>()?;
    let (upper_folder, work_folder) = (folder(upper)?, folder(work)?);
    let mut options = options(&folders, &upper_folder, &work_folder);
    // In quotes, since a label may have commas; it has no quote itself, that was checked.
    options.extend(label.map(|label| format!(",context=\"{label}\"")));
    let options = CString::new(options)?;
    rustix::mount::mount("overlay", upper, "overlay", MountFlags::empty(), &*options)?;
    attach::clone_path(upper, false)
}

fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn options(lower: &[impl AsRawFd], upper: &impl AsRawFd, work: &impl AsRawFd) -> String {
    let name = |folder: &dyn AsRawFd| format!("/proc/self/fd/{}", folder.as_raw_fd());
    let lower: Vec<_> = lower.iter().map(|layer| name(layer)).collect();
    format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), name(upper), name(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 127 layers are what images have at most; mount(2) reads one page.
    #[test]
    fn the_options_of_the_largest_image_fit_in_a_page() {
        let layers: Vec<i32> = (900..1027).collect();
        let options = options(&layers, &1027, &1028);
        assert!(options.starts_with("lowerdir=/proc/self/fd/900:/proc/self/fd/901:"), "{options}");
        assert!(options.ends_with(",upperdir=/proc/self/fd/1027,workdir=/proc/self/fd/1028"), "{options}");
        assert!(options.len() < 4096);
    }
}
