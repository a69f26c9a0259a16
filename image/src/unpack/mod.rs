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
//! - a hard link to a file of a lower layer is refused, as it is by Docker's and CRI-O's overlay drivers;
//! - a folder that the layer only implies is made root's, and noted: whoever sees the layers together knows whose it is.
//!
//! Whiteouts become what overlayfs expects: a character device 0:0, and the attribute `trusted.overlay.opaque`.

mod apply;
mod error;
mod file;
mod implied;
mod jail;
mod limits;
mod node;
mod path;
mod recipe;
mod stream;
pub mod tar;
mod tree;
mod xattr;

use std::io::BufRead;
use std::os::fd::BorrowedFd;

pub use error::{StreamError, UnpackError};
pub(crate) use implied::implied;
pub use jail::{Confinement, confinement, unpack_confined};
pub use limits::UnpackLimits;
pub use recipe::{RecipeError, reproduce};
pub use stream::LayerStream;
pub(crate) use xattr::is_kept;

use crate::reference::{Algorithm, Digest};
use apply::Layer;
use recipe::{Recipe, Recording};
use tar::Archive;

/// What a layer turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// The digest of the decompressed archive.
    pub diff_id: Digest,
    /// Disk space of the folder and all in it, and of what was kept beside it, in bytes.
    pub bytes: u64,
    /// Inodes, the folder's own included.
    pub inodes: u64,
    /// Whether the layer hides everything below it (`.wh..wh..opq` in its root), which overlayfs cannot express for a
    /// root: leave the lower layers out of the mount.
    pub opaque_root: bool,
    /// Size of the decompressed archive in bytes.
    pub tar_bytes: u64,
}

/// Where a layer goes: two empty folders of one file system, which nobody else may be writing to.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// For its tree.
    pub tree: BorrowedFd<'a>,
    /// For what the tree does not hold of the archive, so that [`reproduce`] can give the archive again.
    pub kept: Option<BorrowedFd<'a>>,
}

impl<'a> From<BorrowedFd<'a>> for Destination<'a> {
    fn from(tree: BorrowedFd<'a>) -> Self {
        Self { tree, kept: None }
    }
}

/// Unpack the layer `source` of `compressed_bytes` (gzip, zstd or plain, told by its first bytes). On failure the folders
/// hold a part of the layer: remove them.
pub fn unpack_layer<'a>(
    source: impl BufRead,
    compressed_bytes: u64,
    destination: impl Into<Destination<'a>>,
    algorithm: Algorithm,
    limits: &UnpackLimits,
) -> Result<Unpacked, UnpackError> {
    let Destination { tree, kept } = destination.into();
    let limit = limits.stream_bytes(compressed_bytes);
    let stream = LayerStream::new(source, algorithm, limit).map_err(UnpackError::Stream)?;
    let recipe = kept.map(Recipe::create).transpose()?;
    let (record, lost) = recipe.map_or((None, None), |recipe| (Some(recipe.record), Some(recipe.lost)));
    let mut archive = Archive::recording(stream, Recording(record));
    let mut layer = Layer::new(tree, lost)?;
    let mut entries = 0_u64;
    while let Some(entry) = archive.next_entry().map_err(UnpackError::tar)? {
        entries += 1;
        if entries > limits.max_entries {
            return Err(UnpackError::TooManyEntries(limits.max_entries));
        }
        layer.apply(&entry, entries, &mut archive)?;
    }
    archive.drain().map_err(UnpackError::tar)?;
    if let Some(kept) = kept {
        layer.record_implied(kept)?;
    }
    let mut figures = layer.finish()?;
    let (stream, record) = archive.into_inner();
    record.finish()?;
    if let Some(kept) = kept {
        figures.add(kept)?;
    }
    let (bytes, inodes, tar_bytes) = (figures.bytes, figures.inodes, stream.bytes());
    Ok(Unpacked { diff_id: stream.finish(), bytes, inodes, opaque_root: figures.opaque_root, tar_bytes })
}
