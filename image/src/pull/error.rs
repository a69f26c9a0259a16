//! Why a pull failed, and what a client can make of it.

use std::sync::Arc;

use rustix::io::Errno;

use super::refusal::Refusals;
use crate::auth::AuthError;
use crate::policy::PolicyError;
use crate::reference::Digest;
use crate::registries::{HostsError, SourceError};
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
    /// The signature policy does not accept the image.
    Signature,
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

/// A pull that failed: of which image, and why. With its chain of causes it names the image, the object it failed at and
/// every source that was asked, each once; whoever prints it has nothing to add.
#[derive(Debug, thiserror::Error)]
#[error("pull {image}")]
pub struct PullError {
    /// The image's reference, or the name as it was written where that is none.
    pub image: String,
    /// Why.
    #[source]
    pub cause: Box<PullCause>,
}

/// Why a pull failed.
#[derive(Debug, thiserror::Error)]
pub enum PullCause {
    /// The configuration names no source for it, or what was written is no name.
    #[error("find a source")]
    Source(#[from] SourceError),
    /// What this host says about a registry cannot be read.
    #[error("find a source")]
    Hosts(#[from] HostsError),
    /// This host's credentials cannot be had.
    #[error("find credentials")]
    Auth(#[from] AuthError),
    /// No source gave a manifest for this host.
    #[error("manifest: {0}")]
    Manifest(Refusals),
    /// The signature policy does not let it in.
    #[error("check its signatures")]
    Policy(#[from] PolicyError),
    /// No source said which signatures it has.
    #[error("look for its signatures: {0}")]
    Signatures(Refusals),
    /// No source gave the configuration.
    #[error("configuration {blob}: {refusals}")]
    Config {
        /// The configuration's digest.
        blob: Digest,
        /// What they said.
        refusals: Refusals,
    },
    /// The configuration does not fit its manifest.
    #[error("configuration {blob} is wrong: {what}")]
    WrongConfig {
        /// The configuration's digest.
        blob: Digest,
        /// What is wrong.
        what: String,
    },
    /// A layer was not given, was refused, or could not be written.
    #[error("layer {blob}")]
    Layer {
        /// The layer's compressed blob.
        blob: Digest,
        /// Why; shared by all pulls that wanted it.
        source: Arc<LayerError>,
    },
    /// The store failed.
    #[error("keep it in the image store")]
    Store(#[from] StoreError),
    /// The pull's own task ended without a result; that is a defect of this program.
    #[error("it ended without a result: please report this with the daemon's log")]
    Lost,
    /// The puller was shut down.
    #[error("cancelled: the daemon is stopping")]
    Cancelled,
}

/// Why a layer was not pulled. Which one that is, and for which image, is said by [`PullCause::Layer`].
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// No source gave it as the image describes it.
    #[error("{0}")]
    Refused(Refusals),
    /// It could not be written.
    #[error("unpack")]
    Unpack(#[source] UnpackError),
    /// The store failed.
    #[error("keep it in the image store")]
    Store(#[from] StoreError),
    /// Its task ended without a result; that is a defect of this program.
    #[error("it ended without a result: please report this with the daemon's log")]
    Lost,
    /// The puller was shut down.
    #[error("cancelled: the daemon is stopping")]
    Cancelled,
}

/// A failure that every caller of one pull gets.
pub(super) type Shared = Arc<PullError>;

impl PullError {
    pub(super) fn new(image: String, cause: impl Into<PullCause>) -> Self {
        Self { image, cause: Box::new(cause.into()) }
    }

    /// Its kind.
    #[must_use]
    pub fn failure(&self) -> PullFailure {
        match self.cause.as_ref() {
            PullCause::Source(SourceError::Blocked { .. } | SourceError::Ambiguous) => PullFailure::Blocked,
            PullCause::Source(SourceError::Name(_) | SourceError::Reference(..))
            | PullCause::WrongConfig { .. } => PullFailure::Invalid,
            PullCause::Policy(_) => PullFailure::Signature,
            PullCause::Manifest(refusals)
            | PullCause::Signatures(refusals)
            | PullCause::Config { refusals, .. } => refusals.failure(),
            PullCause::Layer { source, .. } => source.failure(),
            PullCause::Store(error) => of_store(error),
            PullCause::Lost | PullCause::Hosts(_) | PullCause::Auth(_) => PullFailure::Local,
            PullCause::Cancelled => PullFailure::Cancelled,
        }
    }
}

impl LayerError {
    fn failure(&self) -> PullFailure {
        match self {
            Self::Refused(refusals) => refusals.failure(),
            Self::Unpack(error) => of_unpack(error),
            Self::Store(error) => of_store(error),
            Self::Lost => PullFailure::Local,
            Self::Cancelled => PullFailure::Cancelled,
        }
    }
}

fn of_store(error: &StoreError) -> PullFailure {
    match error {
        StoreError::NoSpace { .. } => PullFailure::NoSpace,
        _ => PullFailure::Local,
    }
}

/// Whose fault a layer is that was not unpacked: its own, unless it is this host's.
pub(super) fn of_unpack(error: &UnpackError) -> PullFailure {
    match error {
        UnpackError::NoSpace(_) => PullFailure::NoSpace,
        UnpackError::Confine(_) | UnpackError::Lost => PullFailure::Local,
        UnpackError::Io { source, .. } => of_kernel(*source),
        _ => PullFailure::Invalid,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::DigestError;

    fn layer(error: LayerError) -> PullCause {
        PullCause::Layer { blob: Digest::of(b"layer"), source: Arc::new(error) }
    }

    fn io(source: Errno) -> PullCause {
        layer(LayerError::Unpack(UnpackError::Io { operation: "make the folder", path: "a".into(), source }))
    }

    #[test]
    fn a_failure_has_a_kind_and_names_image_object_and_cause_once() {
        let blob = Digest::of(b"layer");
        let full = || StoreError::NoSpace { operation: "write", path: "/store".into() };
        let table = [
            (
                layer(LayerError::Unpack(UnpackError::NoSpace("data/file".into()))),
                PullFailure::NoSpace,
                format!(
                    "layer {blob}: unpack: no space left on the image store's file system for \"data/file\": \
                     remove images or make room"
                ),
            ),
            (
                io(Errno::IO),
                PullFailure::Local,
                format!("layer {blob}: unpack: make the folder \"a\" in the layer: {}", Errno::IO),
            ),
            (
                io(Errno::NAMETOOLONG),
                PullFailure::Invalid,
                format!("layer {blob}: unpack: make the folder \"a\" in the layer: {}", Errno::NAMETOOLONG),
            ),
            (
                layer(LayerError::Store(full())),
                PullFailure::NoSpace,
                format!("layer {blob}: keep it in the image store: {}", full()),
            ),
            (full().into(), PullFailure::NoSpace, format!("keep it in the image store: {}", full())),
            (
                StoreError::NoImage(blob.clone()).into(),
                PullFailure::Local,
                format!("keep it in the image store: there is no image {blob} in the store"),
            ),
            (
                PullCause::WrongConfig {
                    blob: blob.clone(),
                    what: DigestError::NoAlgorithm("x".into()).to_string(),
                },
                PullFailure::Invalid,
                format!(
                    "configuration {blob} is wrong: digest \"x\" has no algorithm: \
                     expected sha256:<64 hexadecimal digits>"
                ),
            ),
            (
                layer(LayerError::Cancelled),
                PullFailure::Cancelled,
                format!("layer {blob}: cancelled: the daemon is stopping"),
            ),
        ];
        for (cause, failure, text) in table {
            let error = PullError::new("r.example/app:1".into(), cause);
            let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
            let told = causes.fold(error.to_string(), |told, cause| format!("{told}: {cause}"));
            assert_eq!(told, format!("pull r.example/app:1: {text}"));
            assert_eq!(error.failure(), failure, "{text}");
        }
    }
}
