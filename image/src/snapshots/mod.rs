//! Snapshots: the writable layer of one container above an image's layers.
//!
//! A snapshot is two folders and a list of paths; nothing is mounted here. It leases its layers: they outlive their
//! image for as long as a snapshot needs them.

mod overlay;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, open};

use crate::reference::Digest;
use crate::store::{Image, StoreError, merge};
use crate::tree::{self, TreeError, UpperEntry, Walk};
pub use overlay::Overlay;

/// Longest key in characters.
pub const MAX_KEY_CHARS: usize = 128;

/// What a container's overlay is mounted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Who it was prepared for.
    pub key: String,
    /// The image it was prepared from; it may be gone by now.
    pub image: Digest,
    /// Read-only layers, the topmost first; never empty.
    pub lower: Vec<PathBuf>,
    /// What the container writes; its own mode and owner are those of the container's `/`.
    pub upper: PathBuf,
    /// Overlay's own scratch folder, on the same file system as `upper`.
    pub work: PathBuf,
}

impl Snapshot {
    /// Show `visit` everything in the container's own layer, and what it takes away of the image; see [`UpperEntry`]. The
    /// container may be running.
    pub fn walk(
        &self,
        mut visit: impl FnMut(&Path, UpperEntry<'_>) -> io::Result<Walk>,
    ) -> Result<(), SnapshotError> {
        let lower = merge(&self.lower).map_err(|source| self.unseen(source))?;
        let root = open(&self.upper, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let root = root.map_err(|source| SnapshotError::Io {
            operation: "open the folder",
            path: self.upper.clone(),
            source,
        })?;
        tree::walk::<WalkError>(root.as_fd(), b".", lower.as_fd(), |path, entry| {
            let path = Path::new(OsStr::from_bytes(path));
            visit(path, entry).map_err(|source| WalkError::Visitor { path: path.to_owned(), source })
        })
        .map_err(|error| match error {
            WalkError::Visitor { path, source } => SnapshotError::Visitor { path, source },
            WalkError::Tree(TreeError { operation, path, source }) => {
                SnapshotError::Io { operation, path: self.upper.join(path), source }
            }
        })
    }

    fn unseen(&self, source: StoreError) -> SnapshotError {
        SnapshotError::Store { key: self.key.clone(), source: source.into() }
    }
}

/// How a walk ends early.
#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error("walk through a container's layer")]
    Tree(#[from] TreeError),
    #[error("show {path}")]
    Visitor { path: PathBuf, source: io::Error },
}

/// Space a snapshot takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}

/// Why a snapshot could not be had, measured or removed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A key that is no plain file name of at most 128 letters, digits, `_`, `.`, `-`.
    #[error(
        "snapshot key {0:?} must be 1 to {MAX_KEY_CHARS} letters, digits, '_', '.' or '-', not starting with a dot"
    )]
    Key(String),
    /// There is a snapshot with this key, of another image.
    #[error("snapshot {key} exists already and is of image {image}")]
    Exists {
        /// The key.
        key: String,
        /// The image it is of.
        image: Digest,
    },
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NotFound(String),
    /// The image's layers are not in the store (any more).
    #[error("layer {layer} of image {image} is not in the store: pull the image again")]
    LayerMissing {
        /// The image.
        image: Digest,
        /// The layer's diff id.
        layer: Digest,
    },
    /// A file operation on the snapshot's folder failed.
    #[error("{operation} {path}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: rustix::io::Errno,
    },
    /// Whoever was shown a change could not take it.
    #[error("take over {path}, which a container has changed")]
    Visitor {
        /// The path, absolute inside.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store's records failed.
    #[error("find or record snapshot {key:?}")]
    Store {
        /// The snapshot's key.
        key: String,
        /// Why it failed.
        #[source]
        source: Box<StoreError>,
    },
}

/// Makes, finds, measures and removes snapshots. All methods block on disk, may be called from several threads at once, and
/// refuse a key that is no plain name ([`SnapshotError::Key`]).
///
/// What each implementation has to do is also a suite of tests, `tests/privileged_image/snapshotter.rs`: one line there runs it
/// for another one. What they share, the store's records that keep layers for snapshots and find them after a restart, is
/// [`Store`](crate::Store)'s.
pub trait Snapshotter: Send + Sync {
    /// Make the snapshot `key` of `image`; the one that is there already if it is of the same image. Its layers stay in the
    /// store from now on, whatever becomes of the image. Mounted, it shows the image merged, its root with the image's owner
    /// and mode, and takes changes that no other snapshot sees.
    fn prepare(&self, key: &str, image: &Image) -> Result<Snapshot, SnapshotError>;

    /// Keep the layers of one more image, which is a volume of the container's, for as long as the snapshot `key` is there.
    /// Holding it again is no error; a snapshot that is not there is ([`SnapshotError::NotFound`]).
    fn hold(&self, key: &str, image: &Image) -> Result<(), SnapshotError>;

    /// The snapshot with this key, if there is one, as it was prepared: also after a restart.
    fn get(&self, key: &str) -> Result<Option<Snapshot>, SnapshotError>;

    /// Remove the snapshot with everything in it, whatever its modes and flags, and release its layers. No snapshot
    /// with this key is no error. Its overlay must not be mounted any more.
    fn remove(&self, key: &str) -> Result<(), SnapshotError>;

    /// All keys, sorted.
    fn list(&self) -> Result<Vec<String>, SnapshotError>;

    /// What the container wrote, a file with several names once: the folder is walked, so ask from a blocking thread and keep the answer a while.
    fn usage(&self, key: &str) -> Result<Usage, SnapshotError>;
}
