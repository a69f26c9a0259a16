//! Where everything of a pod or container lies.
//!
//! | folder | lives | holds |
//! |---|---|---|
//! | `root` | through reboots | records, images, bundles, the files mounted into containers |
//! | `state` | until reboot | sockets, exit records, network and user namespaces, each pod's /dev/shm |
//!
//! Every name is made of an [`Id`], so that undoing an operation needs nothing but the id.

use std::path::{Path, PathBuf};

use super::model::{Id, PodConfig};

/// The daemon's two folders.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
    state: PathBuf,
}

/// What a pod has on disk.
#[derive(Clone, Debug)]
pub(crate) struct PodPaths {
    /// Persistent folder: the pause process's bundle and the three files below.
    pub dir: PathBuf,
    /// Volatile folder of the pause process's monitor, mode 0700.
    pub state: PathBuf,
    /// Its /etc/hosts.
    pub hosts: PathBuf,
    /// Its /etc/hostname.
    pub hostname: PathBuf,
    /// Its /etc/resolv.conf.
    pub resolv_conf: PathBuf,
    /// Where its network namespace is pinned.
    pub netns: PathBuf,
    /// Where its user namespace is pinned, if it has one of its own.
    pub userns: PathBuf,
    /// Where its /dev/shm is mounted.
    pub shm: PathBuf,
}

/// What a container has on disk, its snapshot apart.
#[derive(Clone, Debug)]
pub(crate) struct ContainerPaths {
    /// Persistent folder, the OCI bundle: `config.json` and the mount point `rootfs`.
    pub bundle: PathBuf,
    /// Volatile folder of its monitor, mode 0700.
    pub state: PathBuf,
}

impl Paths {
    /// The layout below these two folders.
    pub(crate) fn new(root: &Path, state: &Path) -> Self {
        Self { root: root.to_owned(), state: state.to_owned() }
    }

    /// The records.
    pub(crate) fn database(&self) -> PathBuf {
        self.root.join("cleat.db")
    }

    /// The image store.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("image")
    }

    /// The pause process's root filesystem, shared by all pods and never written to.
    pub(crate) fn pause_rootfs(&self) -> PathBuf {
        self.root.join("pause")
    }

    /// The volumes.
    pub(crate) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// The init of containers that ask for one.
    pub(crate) fn init(&self) -> PathBuf {
        self.root.join("init")
    }

    /// The default AppArmor profile, and what it was compiled to.
    pub(crate) fn apparmor(&self) -> PathBuf {
        self.root.join("apparmor")
    }

    /// Persistent folders of all pods.
    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Persistent folders of all containers.
    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// Volatile folders of all pods.
    pub(crate) fn pods_state(&self) -> PathBuf {
        self.state.join("pods")
    }

    /// Volatile folders of all containers.
    pub(crate) fn containers_state(&self) -> PathBuf {
        self.state.join("containers")
    }

    /// What the pod `id` has.
    pub(crate) fn pod(&self, id: &Id) -> PodPaths {
        let dir = self.pods().join(id.as_str());
        let state = self.pods_state().join(id.as_str());
        PodPaths {
            hosts: dir.join("hosts"),
            hostname: dir.join("hostname"),
            resolv_conf: dir.join("resolv.conf"),
            netns: state.join("netns"),
            userns: state.join("userns"),
            shm: state.join("shm"),
            dir,
            state,
        }
    }

    /// What the group `id` has and uses: with the IPC namespace of another group comes its /dev/shm, with the network the
    /// files that tell of it.
    pub(crate) fn of_group(&self, id: &Id, config: &PodConfig) -> PodPaths {
        let shm = self.pod(config.ipc_of.as_ref().unwrap_or(id)).shm;
        let own = PodPaths { shm, ..self.pod(id) };
        let Some(other) = &config.network_of else { return own };
        let PodPaths { hosts, hostname, resolv_conf, netns, .. } = self.pod(other);
        PodPaths { hosts, hostname, resolv_conf, netns, ..own }
    }

    /// What the container `id` has.
    pub(crate) fn container(&self, id: &Id) -> ContainerPaths {
        ContainerPaths {
            bundle: self.containers().join(id.as_str()),
            state: self.containers_state().join(id.as_str()),
        }
    }
}

impl ContainerPaths {
    /// The container's OCI specification.
    pub(crate) fn config(&self) -> PathBuf {
        self.bundle.join("config.json")
    }

    /// Volumes that its image wants, by their numbers.
    pub(crate) fn own_volumes(&self) -> PathBuf {
        self.bundle.join("volumes")
    }

    /// What a checkpoint is made of while it is taken.
    pub(crate) fn checkpoint(&self) -> PathBuf {
        self.bundle.join("checkpoint")
    }

    /// The mount point its overlay is mounted on, inside its own mount namespace.
    pub(crate) fn rootfs(&self) -> PathBuf {
        self.bundle.join("rootfs")
    }
}

impl PodPaths {
    /// Where the output of a container without a pod is kept.
    pub(crate) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The pause process's OCI specification.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir.join("config.json")
    }
}
