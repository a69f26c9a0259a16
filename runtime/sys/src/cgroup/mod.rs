//! Cgroups, as one path in every hierarchy of the host.
//!
//! ```text
//! Layout   which hierarchies the host has and where: unified (v2), legacy (v1), or both (hybrid)
//! Cgroup   one relative path in all of them: create, join, limit, read, kill, wait, remove
//! ```
//! A process joins the v1 hierarchies itself, by writing `0` to each `tasks` ([`Cgroup::join_self`]), and is born in the
//! cgroup2 hierarchy ([`Cgroup::v2_dir_fd`] with CLONE_INTO_CGROUP): moving another process takes a global lock and
//! waits for an RCU grace period, 5 to 17 ms on an idle host.

mod create;
mod folder;
mod freeze;
mod handle;
mod kill;
mod layout;
mod remove;
mod watch;

use std::io;
use std::path::PathBuf;

pub use folder::Folder;
pub use handle::Cgroup;
pub use layout::{Hierarchy, Layout, Mode};
pub use watch::OomWatch;

/// An operation on a cgroup that failed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The host's hierarchies could not be found out.
    #[error("look at cgroup hierarchies in {}", path.display())]
    Detect {
        /// The file or folder that was looked at.
        path: PathBuf,
        #[source]
        /// Why.
        source: io::Error,
    },
    /// The path of a cgroup is not absolute, or leaves its hierarchy.
    #[error("cgroup path {0:?} is not a plain absolute path")]
    Path(String),
    /// The cgroup exists already and has processes.
    #[error("cgroup {} already has processes", .0.display())]
    Populated(PathBuf),
    /// No hierarchy of the host has this controller.
    #[error("no cgroup hierarchy has the controller {0:?}")]
    NoController(String),
    /// A folder could not be made.
    #[error("create cgroup {}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A value could not be written.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The value.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A process could not be killed.
    #[error("kill process {pid} of cgroup {}", path.display())]
    Kill {
        /// The cgroup.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// New processes appeared faster than they could be killed, or one could not be frozen.
    #[error("processes of cgroup {} survive", .0.display())]
    Survivors(PathBuf),
    /// A folder could not be removed.
    #[error("remove cgroup {}", path.display())]
    Remove {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl CgroupError {
    /// Whether it says that the cgroup, or the file in it, does not exist (any more).
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Read { source, .. } | Self::Write { source, .. } if handle::is_gone(source))
    }
}
