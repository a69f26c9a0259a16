//! Images as files: saved to one archive, loaded from one, imported from a root filesystem; and committed from a
//! container's layer. Blocking.
//!
//! ```text
//!   save ──▶ oci-layout, index.json, manifest.json, blobs/…   a docker-archive and an OCI layout in one
//!   load ◀── any docker-archive or OCI layout                 read once, from a stream, layers unpacked as they pass
//! ```
//!
//! What is written depends on the images and their names alone, so the same image is the same bytes. Layers are written
//! plain: their digests are their diff ids.

mod commit;
mod documents;
mod error;
mod import;
mod load;
mod plan;
mod save;
mod writer;

pub use commit::Commit;
pub(crate) use documents::{OciDescriptor, kept_layer, manifest_of};
pub use error::{ArchiveError, LayerFault};
pub use import::Import;
pub use load::Loaded;
