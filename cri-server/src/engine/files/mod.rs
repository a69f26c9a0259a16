//! Files of containers for clients: a tree as an archive, an archive into a tree, and where a path leads.
//!
//! ```text
//!  place.rs   the root of a container (running: its own; resting: its layers, merged)  ──▶ a path in it
//!  pack.rs    tree ──▶ archive
//!  layer.rs   a container's own layer ──▶ archive, with whiteouts
//!  unpack.rs  archive ──▶ tree
//! ```
//!
//! A container and an archive are both hostile: every path is resolved beneath a descriptor of the root by openat2(2), as
//! the container itself would resolve it, and no link of theirs leads out of it. Nothing here knows a client's protocol.

mod layer;
mod pack;
mod place;
mod unpack;

use std::io;
use std::path::PathBuf;

pub(crate) use layer::{LayerError, write_layer};
pub(crate) use pack::{Crossing, Packer};
pub(crate) use place::{Found, Root};
pub(crate) use unpack::{Unpacking, unpack};

/// How deep folders are walked: each level holds a descriptor.
const MAX_DEPTH: usize = 256;

/// Files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// There is no such path.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// What archives are unpacked into is no folder.
    #[error("{} is no folder", .0.display())]
    NotAFolder(PathBuf),
    /// It may not be written to.
    #[error("{} is on a read-only filesystem", .0.display())]
    ReadOnly(PathBuf),
    /// A folder would replace something else, or the other way round.
    #[error("cannot overwrite {}: the one is a folder, the other is not", .0.display())]
    OtherKind(PathBuf),
    /// An entry's name climbs.
    #[error("the archive's entry {0:?} lies outside the folder it is unpacked into")]
    Climbs(PathBuf),
    /// The archive could not be read.
    #[error("read the archive")]
    Archive(#[source] io::Error),
    /// The archive could not be written: its reader may have gone.
    #[error("write the archive")]
    Write(#[source] io::Error),
    /// The kernel refused.
    #[error("{operation} {}", path.display())]
    Path {
        /// What was being done.
        operation: &'static str,
        /// To what, as the container names it.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FilesError {
    fn at<E: Into<io::Error>>(operation: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |error| {
            let source: io::Error = error.into();
            match source.kind() {
                io::ErrorKind::NotFound => Self::Missing(path),
                io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly(path),
                _ => Self::Path { operation, path, source },
            }
        }
    }
}
