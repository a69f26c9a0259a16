//! Why a layer was not unpacked.

use std::path::PathBuf;

use rustix::io::Errno;

use super::tar::TarError;

/// Why a layer was not unpacked. Paths are those inside the layer.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The stream could not even be begun.
    #[error("read the beginning of the layer")]
    Stream(#[source] std::io::Error),
    /// The archive is malformed, or its stream failed.
    #[error("read the layer's archive")]
    Tar(#[source] TarError),
    /// A path that leads out of the layer.
    #[error("entry {0:?} points outside the layer")]
    Escape(PathBuf),
    /// A whiteout that names nothing, or stands where only a folder can.
    #[error("entry {0:?} is no valid whiteout")]
    Whiteout(PathBuf),
    /// A root folder that is not a folder.
    #[error("the layer's root is described as something other than a folder")]
    Root,
    /// Something below a path that is not a folder.
    #[error("entry {0:?} lies below something that is not a folder")]
    NotADirectory(PathBuf),
    /// A hard link to nothing in this layer.
    #[error("hard link {path:?} leads to {target:?}, which is not in the same layer")]
    LinkTarget {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// The thread that unpacks could not be started or confined.
    #[error("confine the thread that unpacks the layer")]
    Confine(#[source] std::io::Error),
    /// The thread that unpacks ended without a result; that is a defect of this program.
    #[error("unpacking ended without a result: please report this with the daemon's log")]
    Lost,
    /// More entries than are accepted.
    #[error("the layer has more than {0} entries")]
    TooManyEntries(u64),
    /// Entries in more folders than are made without entries of their own.
    #[error("the layer implies more folders than are accepted: their paths would fill 16 MiB")]
    TooManyImplied,
    /// The file system is full.
    #[error("no space left on the image store's file system for {0:?}: remove images or make room")]
    NoSpace(PathBuf),
    /// A file operation failed.
    #[error("{operation} {path:?} in the layer")]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: Errno,
    },
}

impl UnpackError {
    /// A failed archive, a full disk told apart.
    pub(super) fn tar(error: TarError) -> Self {
        match error {
            TarError::Record(error) => Self::kept(&error),
            // The stream's own copy of what comes through could not be written.
            TarError::Read(error) if error.kind() == std::io::ErrorKind::StorageFull => Self::kept(&error),
            error => Self::Tar(error),
        }
    }

    /// What the tree does not hold could not be written.
    pub(super) fn kept(error: &std::io::Error) -> Self {
        Self::io("record the archive of", b".", rustix::io::Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// A failed file operation, a full disk told apart.
    pub(super) fn io(operation: &'static str, path: &[u8], source: Errno) -> Self {
        let path = lossless(path);
        match source {
            Errno::NOSPC | Errno::DQUOT => Self::NoSpace(path),
            source => Self::Io { operation, path, source },
        }
    }
}

/// The bytes as a path.
pub(super) fn lossless(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(path).into()
}

/// What a layer's decompressed stream is cut off for; the inner error of an [`std::io::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It decompresses to more than allowed.
    #[error("the layer decompresses to more than {0} bytes, more than its compressed size allows")]
    Bomb(u64),
}
