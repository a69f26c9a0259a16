//! Why a push failed.

use crate::auth::AuthError;
use crate::reference::Digest;
use crate::registries::{HostsError, SourceError};
use crate::registry::RegistryError;
use crate::store::StoreError;

/// A push that failed: as which name, and why.
#[derive(Debug, thiserror::Error)]
#[error("push {image}")]
pub struct PushError {
    /// The name it was to get.
    pub image: String,
    /// Why.
    #[source]
    pub cause: PushCause,
}

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushCause {
    /// The configuration names no place for it.
    #[error("find the registry")]
    Source(#[source] SourceError),
    /// What this host says about the registry cannot be read.
    #[error("find the registry")]
    Hosts(#[source] HostsError),
    /// This host's credentials cannot be had.
    #[error("find credentials")]
    Auth(#[source] AuthError),
    /// The configuration has nothing but mirrors for it.
    #[error("registries.conf has mirrors for it and no registry")]
    NoRegistry,
    /// The store has an index where a manifest should be.
    #[error("the store's record of its manifest is no manifest")]
    NoManifest,
    /// A layer.
    #[error("layer {layer}")]
    Layer {
        /// Its diff id.
        layer: Digest,
        /// Why.
        #[source]
        source: RegistryError,
    },
    /// The configuration.
    #[error("configuration")]
    Config(#[source] RegistryError),
    /// The manifest.
    #[error("manifest")]
    Manifest(#[source] RegistryError),
    /// The store failed.
    #[error("read it from the image store")]
    Store(#[from] StoreError),
    /// The push's own task ended without a result; that is a defect of this program.
    #[error("it ended without a result: please report this with the daemon's log")]
    Lost,
}
