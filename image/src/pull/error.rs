//! Why a pull failed, and what a client can make of it.

use std::sync::Arc;

use rustix::io::Errno;

use crate::reference::{Digest, Reference};
use crate::registries::SourceError;
use crate::registry::{Platform, RegistryError};
use crate::store::StoreError;
use crate::unpack::UnpackError;

/// The kind of a failure, for the mapping to gRPC and HTTP codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullFailure {
    /// No such name, tag or digest at the registry, or nothing for this platform.
    NotFound,
    /// The registry wants credentials, or others.
    Unauthorized,
    /// The configuration forbids this registry, or the name is ambiguous by it.
    Blocked,
    /// The registry cannot be reached, broke off, or answered with its own failure; worth another try.
    Unreachable,
    /// What the registry sent is wrong: digest, size, form, or content that may not be unpacked.
    Invalid,
    /// The store's file system is full.
    NoSpace,
    /// The puller is shutting down.
    Cancelled,
    /// Something on this host failed.
    Local,
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The configuration names no source for it, or what was written is no name.
    #[error("find a source for the image")]
    Source(#[from] SourceError),
    /// The HTTP client could not be made.
    #[error("prepare connections to registries")]
    Client(#[source] Box<RegistryError>),
    /// The registry did not give the manifest or the configuration.
    #[error("pull {reference} from {host}")]
    Registry {
        /// The image.
        reference: Reference,
        /// The source tried last.
        host: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The registry did not give a layer.
    #[error("transfer layer {blob} from {host}")]
    Transfer {
        /// The layer's compressed blob.
        blob: Digest,
        /// The source tried last.
        host: String,
        /// Why.
        #[source]
        source: Box<RegistryError>,
    },
    /// The image has nothing for this host.
    #[error("image {reference} is not available for {}/{}", platform.os, platform.architecture)]
    NoPlatform {
        /// The image.
        reference: Reference,
        /// This host's platform.
        platform: Box<Platform>,
    },
    /// The image's configuration does not fit its manifest.
    #[error("the configuration of {reference} is wrong: {what}")]
    Config {
        /// The image.
        reference: Reference,
        /// What is wrong.
        what: String,
    },
    /// A layer was refused, or could not be written.
    #[error("unpack layer {blob}")]
    Unpack {
        /// The layer's compressed blob.
        blob: Digest,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// A layer does not unpack to what the configuration says.
    #[error("layer {blob} unpacks to {actual}, the image's configuration says {expected}")]
    DiffId {
        /// The layer's compressed blob.
        blob: Digest,
        /// As configured.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
    /// The store failed.
    #[error("keep what was pulled in the image store")]
    Store(#[from] StoreError),
    /// The pull's own task ended without a result; that is a defect of this program.
    #[error("pulling {0} ended without a result: please report this with the daemon's log")]
    Lost(String),
    /// The puller was shut down.
    #[error("the pull was cancelled: the daemon is stopping")]
    Cancelled,
}

/// A failure that every caller of one pull gets.
pub(super) type Shared = Arc<PullError>;

impl PullError {
    /// Its kind.
    #[must_use]
    pub fn failure(&self) -> PullFailure {
        match self {
            Self::Source(SourceError::Blocked { .. } | SourceError::Ambiguous(_)) => PullFailure::Blocked,
            Self::Source(SourceError::Reference(..)) | Self::Config { .. } | Self::DiffId { .. } => {
                PullFailure::Invalid
            }
            Self::Registry { source, .. } | Self::Transfer { source, .. } | Self::Client(source) => {
                of_registry(source)
            }
            Self::NoPlatform { .. } => PullFailure::NotFound,
            Self::Unpack { source: UnpackError::NoSpace(_), .. }
            | Self::Store(StoreError::NoSpace { .. }) => PullFailure::NoSpace,
            Self::Unpack { source: UnpackError::Io { source, .. }, .. } => of_kernel(*source),
            Self::Store(_) | Self::Lost(_) => PullFailure::Local,
            Self::Unpack { .. } => PullFailure::Invalid,
            Self::Cancelled => PullFailure::Cancelled,
        }
    }
}

fn of_registry(error: &RegistryError) -> PullFailure {
    match error {
        RegistryError::NotFound { .. } => PullFailure::NotFound,
        RegistryError::Unauthorized { .. } => PullFailure::Unauthorized,
        RegistryError::Tls(_) | RegistryError::Client(_) => PullFailure::Local,
        RegistryError::Unreachable { .. }
        | RegistryError::Timeout { .. }
        | RegistryError::Stalled { .. }
        | RegistryError::Range { .. }
        | RegistryError::Status { .. } => PullFailure::Unreachable,
        RegistryError::Redirect { .. }
        | RegistryError::Size { .. }
        | RegistryError::TooLarge { .. }
        | RegistryError::Digest { .. }
        | RegistryError::Malformed { .. }
        | RegistryError::Manifest { .. } => PullFailure::Invalid,
    }
}

/// Some refusals of the kernel are about what the layer asked for: names, sizes and links that cannot be.
fn of_kernel(error: Errno) -> PullFailure {
    match error {
        Errno::NAMETOOLONG
        | Errno::FBIG
        | Errno::LOOP
        | Errno::NOTDIR
        | Errno::ISDIR
        | Errno::MLINK
        | Errno::INVAL => PullFailure::Invalid,
        _ => PullFailure::Local,
    }
}
