//! What a container's file system is made of and only the host has: copies of the mounts that will be bound, the root,
//! device nodes. Where init takes them it makes the new filesystems along with them: the mounts of a namespace are listed
//! by age (Linux 6.8), and so in the order of the specification.
//!
//! In a mount namespace of its own and without a user namespace init takes them itself. With the latter it may not: root of that namespace can neither look into
//! the host's private folders nor map owners, mount an image's overlay or make device nodes. Then the builder takes them
//! before init is born, in a mount namespace that goes again, and init finds them as detached trees.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cleat_sys::mount::{Attributes, Propagation, map_owners, set_attributes};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, mount_change, move_mount};

use super::{attach, devices, overlay, tree, workshop};
use crate::failure::Step;
use crate::request::Rootfs;
use crate::spec::{IdMaps, Mount, MountKind, Plan};
use crate::{Failure, process};

/// Detached trees.
#[derive(Debug)]
pub(crate) struct Materials {
    /// By the mounts' positions; none where a mount is made when its turn comes.
    pub(super) trees: Vec<Option<OwnedFd>>,
    pub(super) root: OwnedFd,
    /// By the devices' positions; empty where the container can make them itself.
    pub(super) nodes: Vec<OwnedFd>,
}

/// A container's user namespace, for what is made for it outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tenant<'a> {
    pub(crate) namespace: &'a OwnedFd,
    pub(crate) maps: &'a IdMaps,
}

impl Tenant<'_> {
    /// An overlay works with the identity of whoever mounts it, and on layers with mapped owners only one that is mapped
    /// can make files.
    fn take_root(&self, plan: &Plan, rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
        let (user, group) = (self.maps.users.outside(0), self.maps.groups.outside(0));
        match (rootfs, user, group) {
            (Rootfs::Overlay { .. }, Some(user), Some(group)) => {
                process::work_as(user, group, || take_root(plan, rootfs))
            }
            _ => take_root(plan, rootfs),
        }
    }
}

impl Materials {
    /// Takes everything, in the caller's mount namespace.
    pub(crate) fn take(plan: &Plan, rootfs: &Rootfs, owners: &[Option<OwnedFd>]) -> Result<Self, Failure> {
        let root = take_root(plan, rootfs)?;
        Ok(Self { trees: copy_sources(&plan.mounts, owners, None)?, root, nodes: Vec::new() })
    }

    /// Takes everything and makes the new filesystems, in init's own namespaces.
    pub(super) fn make(plan: &Plan, rootfs: &Rootfs, owners: &[Option<OwnedFd>]) -> Result<Self, Failure> {
        let root = take_root(plan, rootfs)?;
        let make = |(mount, mapping): (&Mount, &Option<OwnedFd>)| match &mount.kind {
            MountKind::Bind { .. } => copy_source(mount, mapping.as_ref()),
            MountKind::Filesystem { .. } => attach::filesystem(mount).map(Some).step(|| naming(mount)),
            MountKind::Cgroup => Ok(None),
        };
        let trees = plan.mounts.iter().zip(owners).map(make).collect::<Result<_, _>>()?;
        Ok(Self { trees, root, nodes: Vec::new() })
    }

    /// Takes everything for a container with a user namespace.
    pub(crate) fn take_for(
        tenant: Tenant<'_>,
        plan: &Plan,
        rootfs: &Rootfs,
        owners: &[Option<OwnedFd>],
    ) -> Result<Self, Failure> {
        let take = || {
            cut_tie(plan)?;
            let trees = copy_sources(&plan.mounts, owners, Some(tenant.namespace))?;
            // Some of the host's mounts may be shared still, and mounts come on top of them now.
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", private).step(|| "make the host's mounts private")?;
            map_layers(rootfs, tenant.namespace)?;
            let root = tenant.take_root(plan, rootfs)?;
            Ok(Self { trees, root, nodes: devices::make_outside(&plan.devices, tenant.maps)? })
        };
        workshop::inside(take).step(|| "work in a mount namespace of its own")?
    }
}

/// Has mount events of the host reach us and ours not reach the host, unless the container's shall.
pub(super) fn cut_tie(plan: &Plan) -> Result<(), Failure> {
    if plan.root.propagation.kind == Propagation::Shared {
        return Ok(());
    }
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).step(|| "make the host's mounts slaves")
}

/// Copies of the mounts that will be bound, with their owners mapped, by position.
fn copy_sources(
    mounts: &[Mount],
    owners: &[Option<OwnedFd>],
    tenant: Option<&OwnedFd>,
) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let copy = |(mount, mapping): (&Mount, &Option<OwnedFd>)| copy_source(mount, mapping.as_ref().or(tenant));
    mounts.iter().zip(owners).map(copy).collect()
}

/// A copy of the mount that will be bound, with its owners mapped; none where nothing is bound.
fn copy_source(mount: &Mount, mapping: Option<&OwnedFd>) -> Result<Option<OwnedFd>, Failure> {
    let MountKind::Bind { source, recursive, beneath } = &mount.kind else { return Ok(None) };
    let copy = attach::clone_source(source, beneath.as_deref(), *recursive)?;
    if let (Some(owners), Some(mapping)) = (&mount.owners, mapping) {
        map_owners(&copy, mapping, owners.recursive)
            .step(|| format!("map the owners of mount {}", mount.target.display()))?;
    }
    Ok(Some(copy))
}

/// The step of a mount, for messages.
pub(super) fn naming(mount: &Mount) -> String {
    format!("mount {}", mount.target.display())
}

pub(super) fn take_root(plan: &Plan, rootfs: &Rootfs) -> Result<OwnedFd, Failure> {
    let path = &plan.root.path;
    let root = match rootfs {
        Rootfs::Ready => {
            let root = attach::clone_path(path, true).step(|| format!("open {}", path.display()))?;
            if !tree::is_folder(&root).step(|| format!("look at {}", path.display()))? {
                return Err(Failure::because(format!("open {}", path.display()), "is not a folder"));
            }
            root
        }
        Rootfs::Overlay { lower, upper, work } => {
            let layers = overlay::Layers { lower, upper, work, label: plan.mount_label.as_deref() };
            overlay::mount(layers).step(|| format!("mount overlay on {}", upper.display()))?
        }
    };
    let private = Attributes { propagation: Some(Propagation::Private), ..Attributes::default() };
    set_attributes(&root, &private, true).step(|| "make the root filesystem private")?;
    Ok(root)
}

/// Puts a copy with mapped owners on top of every folder of an overlay, which takes the folders from there (Linux 5.19).
/// On the disk all belongs to the ids that the image says, whoever runs it.
fn map_layers(rootfs: &Rootfs, namespace: &OwnedFd) -> Result<(), Failure> {
    let Rootfs::Overlay { lower, upper, work } = rootfs else { return Ok(()) };
    let map = |folder: &Path| {
        map_in_place(folder, namespace).step(|| format!("map the owners of layer {}", folder.display()))
    };
    lower.iter().try_for_each(|layer| map(layer))?;
    // The kernel wants both on one mount.
    match (upper.parent(), work.parent()) {
        (Some(parent), Some(other)) if parent == other => map(parent),
        _ => Err(Failure::because(
            format!("map the owners of layer {}", upper.display()),
            format!("{} does not lie beside it", work.display()),
        )),
    }
}

fn map_in_place(folder: &Path, namespace: &OwnedFd) -> io::Result<()> {
    let copy = attach::clone_path(folder, false)?;
    map_owners(&copy, namespace, false)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::openat2(CWD, folder, flags, Mode::empty(), ResolveFlags::empty())?;
    attach::attach(&copy, &target)
}

/// Mounts a detached tree on top of the caller's root. Paths from "/" go on meaning what they meant, since a process's
/// own root is not affected by what is mounted on it.
pub(super) fn put_on_root(tree: &impl AsFd) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}
