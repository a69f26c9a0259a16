//! Containers in a mount namespace that others live in, too: the runtime's own, where the specification names none, or one
//! by its file (config-linux.md, "Namespaces").
//!
//! Nothing there may change for the others. So the root filesystem is put on the folder that it is, everything else on
//! top of that, and the container is confined by chroot(2) instead of pivot_root(2). What is mounted stays when the
//! container ends: it is taken away afterwards, by the number of the root's mount.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cleat_sys::mount::{Attributes, Propagation, set_attributes};
use cleat_sys::namespace;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::fchdir;
use serde::{Deserialize, Serialize};

use super::{Materials, Tree, attach};
use crate::Failure;
use crate::failure::Step;
use crate::spec::{MountNamespace, Plan};

/// The root filesystem of a container without a mount namespace of its own. It stays mounted after the container's end,
/// until [`crate::release_root`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedRoot {
    /// The mount namespace, where it is not the runtime's.
    namespace: Option<PathBuf>,
    path: PathBuf,
    /// The number of the mount, which tells it from what else may be mounted there.
    mount: u64,
}

impl SharedRoot {
    /// Where the plan puts the root filesystem; none in a namespace of the container's own.
    pub(crate) fn of(plan: &Plan, materials: &Materials) -> Result<Option<Self>, Failure> {
        let namespace = match &plan.namespaces.mounts {
            MountNamespace::New => return Ok(None),
            MountNamespace::Runtimes => None,
            MountNamespace::At(path) => Some(path.clone()),
        };
        let path = plan.root.path.clone();
        let mount = mount_number(&materials.root).step(|| format!("look at {}", path.display()))?;
        Ok(Some(Self { namespace, path, mount }))
    }

    /// Takes it away, with all that is mounted in it. Absent is fine. Changes the caller's mount namespace.
    pub(crate) fn take_away(&self) -> Result<(), Failure> {
        if let Some(path) = &self.namespace {
            let step = || format!("join namespace {}", path.display());
            match rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                // It has gone with its last process, and its mounts with it.
                Err(Errno::NOENT) => return Ok(()),
                other => namespace::join(&other.step(step)?, namespace::MOUNT).step(step)?,
            }
        }
        let step = || format!("unmount {}", self.path.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = match rustix::fs::open(&self.path, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.step(step)?,
        };
        if mount_number(&root).step(step)? != self.mount {
            return Ok(());
        }
        // By the descriptor: the path may mean something else by now.
        fchdir(&root).and_then(|()| unmount(".", UnmountFlags::DETACH)).step(step)
    }
}

/// The number of the mount that a descriptor is on (Linux 5.8).
fn mount_number(descriptor: &impl AsFd) -> io::Result<u64> {
    let found = statx(descriptor, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?;
    if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 {
        Err(Errno::NOSYS.into())
    } else {
        Ok(found.stx_mnt_id)
    }
}

/// Mounts the root filesystem on the folder that it is, in the namespace, which becomes the caller's, or in the caller's.
pub(super) fn place(root: OwnedFd, path: &Path, namespace: Option<&OwnedFd>) -> Result<Tree, Failure> {
    if let Some(file) = namespace {
        cleat_sys::namespace::join(file, namespace::MOUNT).step(|| "join the mount namespace")?;
    }
    let step = || format!("mount the root filesystem on {}", path.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::openat(CWD, path, flags, Mode::empty()).step(step)?;
    attach::attach(&root, &target).step(step)?;
    // What is mounted on a shared mount is shared as well: what follows would be seen everywhere.
    let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
    set_attributes(&root, &private, true).step(step)?;
    Ok(Tree::new(root))
}
