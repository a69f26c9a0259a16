//! A network namespace pinned at a path: it lives until the path is removed, whatever processes come and go.
//!
//! A namespace is made and entered only on threads that end right afterwards. The caller's thread, which may be one of
//! a pool, never changes its own.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::netlink::{NetlinkError, Protocol, Socket, set_up};

/// The calling thread's own namespace, whatever thread of the process it is.
const OWN_NETNS: &str = "/proc/thread-self/ns/net";

/// The number of `lo` in every namespace (`LOOPBACK_IFINDEX` of the kernel).
const LOOPBACK_INDEX: u32 = 1;

/// A network namespace that is pinned at a path.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
}

/// A network namespace could not be made, opened, entered or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The file that the namespace is to be pinned at could not be made.
    #[error("create {path} to pin a network namespace at")]
    CreateFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel gave no new namespace.
    #[error("create a network namespace for {path}")]
    Unshare {
        /// Where it was to be pinned.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The namespace could not be pinned.
    #[error("pin a network namespace at {path}")]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// `lo` could not be set up.
    #[error("set up the loopback interface of {path}")]
    Loopback {
        /// The namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// There is no namespace at the path.
    #[error("open network namespace {path}")]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("start a thread for network namespace {path}")]
    Thread {
        /// The namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The namespace could not be entered.
    #[error("enter network namespace {path}")]
    Enter {
        /// The namespace.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The pin could not be taken off.
    #[error("unpin network namespace {path}")]
    Unpin {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The file that the namespace was pinned at could not be removed.
    #[error("remove {path}, where a network namespace was pinned")]
    RemoveFile {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Netns {
    /// Makes a namespace, pins it at `path`, which must not exist yet, and sets its `lo` up. Nothing is left of it
    /// after a failure.
    pub fn create(path: &Path) -> Result<Self, NetnsError> {
        make_file(path)?;
        let made = on_thread(path, || make(path)).and_then(|made| made).and_then(|()| Self::open(path));
        undone_on_failure(path, made)
    }

    /// Pins the namespace of the file `source` (`/proc/<pid>/ns/net`) at `path`, which must not exist yet, and sets its `lo`
    /// up. Nothing is left of it after a failure.
    pub fn adopt(source: &Path, path: &Path) -> Result<Self, NetnsError> {
        let adopt = || -> Result<Self, NetnsError> {
            pin(source, path)?;
            let adopted = Self::open(path)?;
            adopted.run(|| set_up_loopback(path))??;
            Ok(adopted)
        };
        make_file(path)?;
        undone_on_failure(path, adopt())
    }

    /// Opens the namespace pinned at `path`.
    pub fn open(path: &Path) -> Result<Self, NetnsError> {
        let file = File::open(path).map_err(|source| NetnsError::Open { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Where it is pinned.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` inside the namespace, on a thread of its own. What `work` opens there (a socket) goes on belonging
    /// to the namespace when it is used elsewhere.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        on_thread(&self.path, || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)
                .map_err(|source| NetnsError::Enter { path: self.path.clone(), source })?;
            Ok(work())
        })?
    }

    /// Unpins what is pinned at `path` and removes the file. Done where the path is absent, and where a plain file was
    /// left behind by a creation that did not come to its end.
    pub fn remove(path: &Path) -> Result<(), NetnsError> {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // EINVAL: no mount is there.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(Errno::ENOENT) => return Ok(()),
            Err(source) => return Err(NetnsError::Unpin { path: path.to_owned(), source }),
        }
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(NetnsError::RemoveFile { path: path.to_owned(), source })
            }
            _ => Ok(()),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Turns the calling thread's namespace into a new one and pins it.
fn make(path: &Path) -> Result<(), NetnsError> {
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|source| NetnsError::Unshare { path: path.to_owned(), source })?;
    set_up_loopback(path)?;
    pin(Path::new(OWN_NETNS), path)
}

/// In the calling thread's namespace.
fn set_up_loopback(path: &Path) -> Result<(), NetnsError> {
    Socket::open(Protocol::Route)
        .and_then(|socket| socket.ask(set_up(LOOPBACK_INDEX, "lo")))
        .map(drop)
        .map_err(|source| NetnsError::Loopback { path: path.to_owned(), source })
}

fn make_file(path: &Path) -> Result<(), NetnsError> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o400).open(path);
    made.map(drop).map_err(|source| NetnsError::CreateFile { path: path.to_owned(), source })
}

fn pin(namespace: &Path, path: &Path) -> Result<(), NetnsError> {
    mount(Some(namespace), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|source| NetnsError::Pin { path: path.to_owned(), source })
}

fn undone_on_failure(path: &Path, made: Result<Netns, NetnsError>) -> Result<Netns, NetnsError> {
    made.inspect_err(|_| {
        if let Err(error) = Netns::remove(path) {
            tracing::warn!(path = %path.display(), error = &error as &dyn std::error::Error, "undo a network namespace");
        }
    })
}

/// Runs `work` on a thread that ends with it, and goes on with its panic where it has one.
fn on_thread<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|source| NetnsError::Thread { path: path.to_owned(), source })?;
        Ok(handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}
