//! Why the store failed.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::reference::{Digest, DigestError};
use crate::unpack::RecipeError;

/// Why an operation on the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the store open.
    #[error(
        "the image store {0} is in use by another process: stop it, or give each daemon a store of its own"
    )]
    InUse(PathBuf),
    /// The store was written by a later version.
    #[error(
        "the image store {root} has version {found}, this program knows versions up to {known}: upgrade it"
    )]
    Version {
        /// The store's folder.
        root: PathBuf,
        /// Its version.
        found: i64,
        /// The latest version known here.
        known: i64,
    },
    /// The file system is full.
    #[error(
        "no space left on the file system of {path} while trying to {operation}: remove images or make room"
    )]
    NoSpace {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("{operation} {path}")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Errno,
    },
    /// The database failed.
    #[error("{operation} in the image store's database")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// Why it failed.
        #[source]
        source: rusqlite::Error,
    },
    /// A record in the database is not what this program writes there.
    #[error("record of image {id} in the image store is damaged: {what}")]
    Damaged {
        /// The image's id as recorded.
        id: String,
        /// What is wrong with it.
        what: &'static str,
        /// Details.
        #[source]
        source: RecordError,
    },
    /// An additional store cannot be used.
    #[error("use the additional image store {root}")]
    Additional {
        /// Its folder.
        root: PathBuf,
        /// What is wrong with it.
        #[source]
        source: super::AdditionalFault,
    },
    /// The image, or the name, is an additional store's.
    #[error("image {image} is in the additional store {root}, where nothing is changed")]
    ReadOnly {
        /// The image.
        image: Digest,
        /// The store's folder.
        root: PathBuf,
    },
    /// The image is pinned.
    #[error("image {0} is pinned and cannot be removed")]
    Pinned(Digest),
    /// There is no such image.
    #[error("there is no image {0} in the store")]
    NoImage(Digest),
    /// A layer is not in the store (any more).
    #[error("layer {layer} of image {image} is not in the store: pull the image again")]
    LayerMissing {
        /// The image.
        image: Digest,
        /// The layer's diff id.
        layer: Digest,
    },
    /// A layer of before archives could be reproduced.
    #[error(
        "layer {0} was unpacked by an earlier version, which kept too little of its archive: pull the image again"
    )]
    NoArchive(Digest),
    /// A layer's archive could not be reproduced.
    #[error("reproduce the archive of layer {layer}")]
    Archive {
        /// The layer's diff id.
        layer: Digest,
        /// Why.
        #[source]
        source: RecipeError,
    },
    /// A layer's archive could not be passed on.
    #[error("pass on the archive of layer {layer}")]
    Send {
        /// The layer's diff id.
        layer: Digest,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A layer's archive came out other than it went in.
    #[error(
        "layer {layer} is damaged: its archive has the digest {actual}: remove the image and pull it again"
    )]
    DamagedLayer {
        /// The layer's diff id.
        layer: Digest,
        /// The digest of what was reproduced.
        actual: Digest,
    },
    /// A name without a tag, or a digest reference without a digest, was to be recorded.
    #[error("{0} has no tag to give an image")]
    NoTag(crate::reference::Reference),
    /// A path inside an image names no regular file.
    #[error("{path} in image {image} is not a regular file")]
    NotAFile {
        /// The image.
        image: Digest,
        /// The path inside it.
        path: String,
    },
    /// A file inside an image is larger than the caller wants to read.
    #[error("{path} in image {image} is larger than {max_bytes} bytes")]
    FileTooLarge {
        /// The image.
        image: Digest,
        /// The path inside it.
        path: String,
        /// The limit.
        max_bytes: u64,
    },
}

/// What is wrong with a record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A reference.
    #[error(transparent)]
    Reference(#[from] crate::reference::ReferenceError),
    /// A configuration.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl StoreError {
    /// A failed file operation, a full disk told apart.
    pub(crate) fn io(operation: &'static str, path: impl AsRef<Path>, source: Errno) -> Self {
        let path = path.as_ref().to_owned();
        match source {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace { operation, path },
            source => Self::Io { operation, path, source },
        }
    }

    /// A failed database operation, a full disk told apart.
    pub(crate) fn database(operation: &'static str, root: &Path, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::NoSpace { operation, path: root.to_owned() },
            _ => Self::Database { operation, source },
        }
    }
}
