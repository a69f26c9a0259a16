//! From a layer's compressed stream to a folder in overlay form. Blocking; the folder is the caller's.
//!
//! ```text
//! compressed bytes ─▶ stream: decompress, bound, diff id ─▶ tar: entries ─▶ apply: files below one descriptor
//! ```
//!
//! A layer is unpacked without its parents, so that all layers of an image can be unpacked at once and one folder serves
//! every image that has the layer. It follows that
//! - a symbolic link of a lower layer is not seen: an entry `lib/x` above a layer where `lib` is a link makes a folder
//!   `lib` (layers made by comparing trees never hold such an entry, because the comparison does not follow links);
//! - a hard link to a file of a lower layer is refused, as it is by Docker's and CRI-O's overlay drivers.
//!
//! Whiteouts become what overlayfs expects: a character device 0:0, and the attribute `trusted.overlay.opaque`.

mod apply;
mod error;
mod file;
mod limits;
mod node;
mod path;
mod stream;
pub mod tar;
mod tree;
mod xattr;

use std::io::BufRead;
use std::os::fd::BorrowedFd;

pub use error::{StreamError, UnpackError};
pub use limits::UnpackLimits;
pub use stream::LayerStream;

use crate::reference::{Algorithm, Digest};
use apply::Layer;
use tar::Archive;

/// What a layer turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the decompressed archive.
    pub diff_id: Digest,
    /// Disk space of the folder and all in it, in bytes.
    pub bytes: u64,
    /// Inodes, the folder's own included.
    pub inodes: u64,
    /// Whether the layer hides everything below it (`.wh..wh..opq` in its root), which overlayfs cannot express for a
    /// root: leave the lower layers out of the mount.
    pub opaque_root: bool,
}

/// Unpack the layer `source` of `compressed_bytes` (gzip, zstd or plain, told by its first bytes) into the empty folder
/// `directory`, which nobody else may be writing to. On failure the folder holds a part of the layer: remove it.
pub fn unpack_layer(
    source: impl BufRead,
    compressed_bytes: u64,
    directory: BorrowedFd<'_>,
    algorithm: Algorithm,
    limits: &UnpackLimits,
) -> Result<Unpacked, UnpackError> {
    let limit = limits.stream_bytes(compressed_bytes);
    let stream = LayerStream::new(source, algorithm, limit).map_err(UnpackError::Stream)?;
    let mut archive = Archive::new(stream);
    let mut layer = Layer::new(directory)?;
    let mut entries = 0_u64;
    while let Some(entry) = archive.next_entry().map_err(UnpackError::Tar)? {
        entries += 1;
        if entries > limits.max_entries {
            return Err(UnpackError::TooManyEntries(limits.max_entries));
        }
        layer.apply(&entry, &mut archive)?;
    }
    archive.drain().map_err(UnpackError::Tar)?;
    let figures = layer.finish()?;
    let diff_id = archive.into_inner().finish();
    let (bytes, inodes) = (figures.bytes, figures.inodes);
    Ok(Unpacked { diff_id, bytes, inodes, opaque_root: figures.opaque_root })
}
