//! An image's merged root filesystem for reading single files, mounted nowhere.
//!
//! Several layers are merged by an overlay that is made with `fsopen(2)` and never attached to a tree: no other process
//! can see it, and it is gone when its descriptor is closed. Kernels before 6.5 lack the `lowerdir+` option that this
//! needs; there the overlay is mounted in a mount namespace of its own, which ends with the thread that made it, while
//! the descriptor keeps the mount itself alive.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, mount, mount_change,
};

use super::image::Image;
use super::layers::LayerLease;
use super::{Store, StoreError};
use crate::reference::Digest;

/// A limit for text files such as `/etc/passwd`, in bytes: 1 MiB.
pub const DEFAULT_READ_LIMIT_BYTES: u64 = 1 << 20;
/// Attempts at a resolution the kernel gave up because something was renamed somewhere meanwhile (EAGAIN).
const MAX_RESOLUTIONS: u32 = 128;

/// An image's merged root filesystem, open for reading. Its layers stay in the store as long as it lives.
pub struct Rootfs {
    folder: OwnedFd,
    image: Digest,
    _lease: LayerLease,
}

impl AsFd for Rootfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Rootfs {
    pub(super) fn open(store: &Store, image: &Image) -> Result<Self, StoreError> {
        let lease = store.lease(&image.layers)?;
        let lower = store.lower_paths(&image.id, &image.layers)?;
        Ok(Self { folder: merge(&lower)?, image: image.id.clone(), _lease: lease })
    }

    /// A file, `path` being absolute inside the image and links being followed inside it. `None` if there is no such
    /// path; anything but a regular file, and more than `max_bytes`, is an error.
    pub fn read(&self, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let failed = |operation: &'static str| move |error| StoreError::io(operation, path, error);
        // Looked at before it is opened: opening a device has effects.
        let found = match self.resolve(path, OFlags::PATH) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(failed("find in the image")(error)),
        };
        let stat = fstat(&found).map_err(failed("examine in the image"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(StoreError::NotAFile { image: self.image.clone(), path: path.to_owned() });
        }
        let file =
            self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(failed("open in the image"))?;
        let bytes = read_bounded(&file, max_bytes).map_err(failed("read from the image"))?;
        let too_large =
            || StoreError::FileTooLarge { image: self.image.clone(), path: path.to_owned(), max_bytes };
        bytes.map(Some).ok_or_else(too_large)
    }

    pub(super) fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let mut last = Errno::AGAIN;
        for _ in 0..MAX_RESOLUTIONS {
            match openat2(&self.folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => last = Errno::AGAIN,
                result => return result,
            }
        }
        Err(last)
    }
}

/// The whole file, or none if it has more than `max_bytes`; what it says about its size is not believed.
fn read_bounded(file: &OwnedFd, max_bytes: u64) -> Result<Option<Vec<u8>>, Errno> {
    const CHUNK_BYTES: usize = 64 << 10;
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = rustix::io::retry_on_intr(|| rustix::io::read(file, &mut chunk))?;
        if count == 0 {
            return Ok(Some(bytes));
        }
        bytes.extend_from_slice(&chunk[..count]);
        if bytes.len() as u64 > max_bytes {
            return Ok(None);
        }
    }
}

/// One read-only tree of `lower`, the topmost first. A single layer is its own tree.
pub(crate) fn merge(lower: &[PathBuf]) -> Result<OwnedFd, StoreError> {
    if let [only] = lower {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        return open(only, flags, Mode::empty())
            .map_err(|error| StoreError::io("open the layer", only, error));
    }
    mount_layers(Layers { lower, changes: None })
}

/// One tree of `lower`, the topmost first, that keeps what is written to it in `changes`: the upper and the work folder of
/// an overlay that is mounted nowhere else.
pub(crate) fn merge_for_writing(lower: &[PathBuf], changes: (&Path, &Path)) -> Result<OwnedFd, StoreError> {
    mount_layers(Layers { lower, changes: Some(changes) })
}

/// What an overlay is made of.
#[derive(Clone, Copy)]
struct Layers<'a> {
    lower: &'a [PathBuf],
    /// The upper and the work folder; without them it is read-only.
    changes: Option<(&'a Path, &'a Path)>,
}

fn mount_layers(layers: Layers<'_>) -> Result<OwnedFd, StoreError> {
    let bottom = &layers.lower[layers.lower.len() - 1];
    match detached_overlay(layers) {
        Err(Errno::INVAL | Errno::NOSYS) => overlay_in_own_namespace(layers),
        result => result.map_err(|error| StoreError::io("merge the layers above", bottom, error)),
    }
}

fn detached_overlay(layers: Layers<'_>) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for layer in layers.lower {
        fsconfig_set_string(&context, "lowerdir+", layer)?;
    }
    let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if let Some((upper, work)) = layers.changes {
        fsconfig_set_string(&context, "upperdir", upper)?;
        fsconfig_set_string(&context, "workdir", work)?;
    } else {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

fn overlay_in_own_namespace(layers: Layers<'_>) -> Result<OwnedFd, StoreError> {
    let bottom = &layers.lower[layers.lower.len() - 1];
    let failed =
        |error| StoreError::io("merge in a mount namespace of its own the layers above", bottom, error);
    let thread = std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("image-rootfs".into());
        worker.spawn_scoped(scope, || private_overlay(layers)).map(std::thread::ScopedJoinHandle::join)
    });
    let spawned = thread.map_err(|error| failed(Errno::from_io_error(&error).unwrap_or(Errno::AGAIN)))?;
    spawned.unwrap_or(Err(Errno::FAULT)).map_err(failed)
}

/// Runs on a thread of its own, which must end afterwards: its mount namespace is no longer that of the process. Layers are
/// named by their descriptors, since all their names have to fit in one page, and they may be in several stores.
fn private_overlay(layers: Layers<'_>) -> Result<OwnedFd, Errno> {
    let bottom = &layers.lower[layers.lower.len() - 1];
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)
        .map_err(|error| Errno::from_raw_os_error(error as i32))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened =
        layers.lower.iter().map(|layer| open(layer, flags, Mode::empty())).collect::<Result<Vec<_>, _>>()?;
    let name = |folder: &OwnedFd| format!("/proc/self/fd/{}", folder.as_raw_fd());
    let mut options = format!("lowerdir={}", opened.iter().map(name).collect::<Vec<_>>().join(":"));
    let mut mode = MountFlags::NOSUID | MountFlags::NODEV;
    let changes = layers.changes.map(|(upper, work)| {
        Ok::<_, Errno>((open(upper, flags, Mode::empty())?, open(work, flags, Mode::empty())?))
    });
    let changes = changes.transpose()?;
    match &changes {
        Some((upper, work)) => options += &format!(",upperdir={},workdir={}", name(upper), name(work)),
        None => mode |= MountFlags::RDONLY,
    }
    let options = std::ffi::CString::new(options).map_err(|_| Errno::INVAL)?;
    mount("overlay", bottom, "overlay", mode, &*options)?;
    openat2(
        CWD,
        bottom,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::empty(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs root, and no kernel older than 6.5: both ways have to give the same tree.
    #[test]
    fn privileged_both_ways_of_merging_agree() {
        let base = tempfile::tempdir().unwrap();
        let mut lower = Vec::new();
        for (name, text) in [("top", "new"), ("bottom", "old")] {
            let layer = base.path().join("sha256").join(name);
            std::fs::create_dir_all(&layer).unwrap();
            std::fs::write(layer.join("both"), text).unwrap();
            std::fs::write(layer.join(name), text).unwrap();
            lower.push(layer);
        }
        let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let before = mounts();
        let layers = Layers { lower: &lower, changes: None };
        for merged in [detached_overlay(layers).unwrap(), overlay_in_own_namespace(layers).unwrap()] {
            for (path, expected) in [("both", "new"), ("top", "new"), ("bottom", "old")] {
                let file =
                    openat2(&merged, path, OFlags::RDONLY, Mode::empty(), ResolveFlags::IN_ROOT).unwrap();
                assert_eq!(read_bounded(&file, 100).unwrap().unwrap(), expected.as_bytes());
                let refused = openat2(&merged, path, OFlags::WRONLY, Mode::empty(), ResolveFlags::IN_ROOT);
                assert_eq!(refused.unwrap_err(), Errno::ROFS);
            }
        }
        assert_eq!(mounts(), before);
    }
    /// Needs root: what is written is in the upper folder, by both ways.
    #[test]
    fn privileged_a_merged_tree_can_be_written_to() {
        let base = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let path = base.path().join(name);
            std::fs::create_dir(&path).unwrap();
            path
        };
        let (lower, upper, work) = ([folder("lower")], folder("upper"), folder("work"));
        let layers = Layers { lower: &lower, changes: Some((&upper, &work)) };
        for (name, make) in [
            ("one", merge_for_writing(&lower, (&upper, &work)).map_err(|error| error.to_string())),
            ("two", overlay_in_own_namespace(layers).map_err(|error| error.to_string())),
        ] {
            let flags = OFlags::WRONLY | OFlags::CREATE;
            drop(openat2(make.unwrap(), name, flags, Mode::RUSR, ResolveFlags::IN_ROOT).unwrap());
            assert!(upper.join(name).exists() && !lower[0].join(name).exists());
        }
    }
}
