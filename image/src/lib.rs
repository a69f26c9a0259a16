//! Images: what they are called, where they come from, how they are pulled, kept, and given to containers.
//!
//! ```text
//!   reference ── registries (registries.conf) ── registry (HTTP) ──┐
//!                                                                  pull ── unpack ──▶ store ◀── snapshots
//!   async, on tokio: registry, pull                                blocking: unpack, store, snapshots
//! ```
//!
//! The crate owns one folder (see [`store`]) and nothing else on the host. It mounts nothing where anybody could see
//! it: a container's overlay is mounted by its runtime from the paths a [`Snapshot`] names.
//!
//! Everything out of a registry or an image is hostile. Sizes are bounded before memory or disk is spent, digests are
//! verified before a byte is used, and no path from an image is ever resolved outside a descriptor of its own tree.
#![forbid(unsafe_code)]

pub mod archive;
pub mod auth;
#[cfg(test)]
mod fuzz;
pub mod policy;
pub mod pull;
pub mod push;
pub mod reference;
pub mod registries;
pub mod registry;
pub mod snapshots;
pub mod store;
mod tree;
pub mod unpack;

pub use archive::{ArchiveError, Import, Loaded};
pub use auth::AuthError;
pub use policy::{Policy, PolicyError, PolicyFileError};
pub use pull::{
    Limits, LoginCause, LoginError, PullCause, PullError, PullFailure, PullFigures, PullHandle, PullProgress,
    PullWatch, Puller,
};
pub use push::{PushCause, PushError, PushReport, PushStep, Pushed};
pub use reference::{Digest, DigestError, Reference, ReferenceError};
pub use registries::{Registries, Source};
pub use registry::{Credentials, Secret};
pub use snapshots::{Overlay, Snapshot, SnapshotError, Snapshotter, Usage};
pub use store::{AdditionalFault, FsInfo, HistoryStep, Image, Removed, Rootfs, Store, StoreError, Volume};
pub use tree::{ChangeKind, UpperEntry, Walk};
