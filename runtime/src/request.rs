//! What a caller asks for.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

/// A container to create.
#[derive(Debug)]
pub struct Create<'a> {
    /// The container's id: 1 to 255 characters of `[A-Za-z0-9_+.-]`, neither `.` nor `..`.
    pub id: &'a str,
    /// Folder with the container's `config.json`.
    pub bundle: &'a Path,
    /// Where the root filesystem comes from.
    pub rootfs: Rootfs,
    /// The standard streams of the container's init.
    pub stdio: Stdio<'a>,
    /// Who lets init execute its program.
    pub gate: Gate<'a>,
    /// What a command line can ask for.
    pub options: CreateOptions,
}

/// What is not in the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CreateOptions {
    /// systemd makes the cgroup: `linux.cgroupsPath` has to be `slice:prefix:name`, or absent. Without this, the form of
    /// the path decides.
    pub systemd_cgroup: bool,
    /// The root is entered by chroot(2) on top of the host's instead of pivot_root(2), which the initial filesystem
    /// does not allow. The host's mounts stay within reach of who may leave a chroot.
    pub no_pivot: bool,
    /// The container shares the caller's session keyring.
    pub keep_keyring: bool,
    /// How many descriptors the container's program inherits from the caller, from 3 on or after the listening ones.
    pub preserve_fds: u32,
    /// How many descriptors from 3 on are sockets that the program is told of as sd_listen_fds(3) looks for them.
    pub listen_fds: u32,
    /// Whether the container does without a cgroup that may not be made. When it is not said, that of somebody who is not
    /// the host's root does.
    pub rootless: Option<bool>,
}

impl CreateOptions {
    /// How many descriptors from 3 on are inherited.
    #[must_use]
    pub(crate) fn inherited(&self) -> u32 {
        self.listen_fds.saturating_add(self.preserve_fds)
    }
}

/// Where a container's root filesystem comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rootfs {
    /// `root.path` of the specification, a folder that is ready to use.
    Ready,
    /// An overlay that is mounted inside the container's mount namespace only.
    Overlay {
        /// Read-only layers, the topmost first.
        lower: Vec<PathBuf>,
        /// The container's own changes.
        upper: PathBuf,
        /// The kernel's scratch folder, on the filesystem of `upper`.
        work: PathBuf,
    },
}

/// A process's standard streams.
#[derive(Clone, Copy, Debug)]
pub enum Stdio<'a> {
    /// Standard input, output and error. The caller keeps its own copies.
    Descriptors([BorrowedFd<'a>; 3]),
    /// A terminal made inside the container; its master side is handed back as `console`.
    Terminal {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
}

/// Who lets a created container's init execute its program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate<'a> {
    /// The caller, by [`crate::StartGate::release`].
    Caller,
    /// Whoever opens this FIFO for reading: the gate outlives the caller. The opener reads the byte `0`, then nothing
    /// more if the program was executed, else a [`crate::Failure`] as JSON.
    Fifo(&'a Path),
}

/// One more process in a running container.
#[derive(Debug)]
pub struct Exec<'a> {
    /// Unique among the execs of this container, at most 64 characters of `[A-Za-z0-9_-]`: names its cgroup.
    pub id: &'a str,
    /// `process` of the OCI specification as JSON text.
    pub process_json: &'a str,
    /// Its standard streams.
    pub stdio: Stdio<'a>,
    /// How many descriptors from 3 on it inherits from the caller.
    pub preserve_fds: u32,
    /// Cgroups that the container has made, to be in instead of the container's own.
    pub cgroups: &'a [SubCgroup],
}

/// A cgroup beneath a container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubCgroup {
    /// Controllers (or names) of the v1 hierarchies that it is meant for; all hierarchies when empty.
    pub controllers: Vec<String>,
    /// Its path from the container's cgroup; without `..`.
    pub path: String,
}
