//! Why images were not saved, loaded or imported.

use crate::reference::{Digest, DigestError, ReferenceError};
use crate::registry::ManifestError;
use crate::store::StoreError;
use crate::unpack::UnpackError;
use crate::unpack::tar::TarError;

/// Why images were not saved, loaded or imported. Paths are those inside the archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream could not even be begun.
    #[error("read the beginning of the archive")]
    Begin(#[source] std::io::Error),
    /// The archive is malformed, or its stream failed.
    #[error("read the archive")]
    Read(#[source] TarError),
    /// The receiver failed.
    #[error("write the archive")]
    Write(#[source] std::io::Error),
    /// A file whose name leads out of the archive.
    #[error("the archive's file {0:?} points outside it")]
    Escape(String),
    /// More files than an archive of images has.
    #[error("the archive has more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A description that cannot be read.
    #[error("{path} in the archive is not what it should be")]
    Document {
        /// Its path.
        path: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest that is refused.
    #[error("manifest {path} in the archive is refused")]
    Manifest {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A digest in a description.
    #[error("{path} in the archive has a bad digest")]
    BadDigest {
        /// Its path.
        path: String,
        /// What is wrong.
        #[source]
        source: DigestError,
    },
    /// A name in a description.
    #[error("the archive gives an image a bad name")]
    Name(#[source] ReferenceError),
    /// A file that a description names.
    #[error("{0:?} is not in the archive, or is no layer or description")]
    Missing(String),
    /// A file that is not what its name promises.
    #[error("{path} in the archive has the digest {actual}")]
    Digest {
        /// Its path.
        path: String,
        /// As computed.
        actual: Digest,
    },
    /// Neither `manifest.json` nor `index.json`, or nothing in them for this host.
    #[error("the archive holds no image for this host: it is neither a docker-archive nor an OCI layout")]
    Empty,
    /// A layer.
    #[error("layer {path} in the archive")]
    Layer {
        /// Its path.
        path: String,
        /// What is wrong.
        #[source]
        source: LayerFault,
    },
    /// Configuration and manifest tell different numbers of layers.
    #[error("configuration {path} lists {listed} layers, its manifest {layers}")]
    LayerCount {
        /// The configuration.
        path: String,
        /// What it lists.
        listed: usize,
        /// What the manifest lists.
        layers: usize,
    },
    /// The store failed.
    #[error("keep it in the image store")]
    Store(#[from] StoreError),
}

/// What is wrong with a layer in an archive.
#[derive(Debug, thiserror::Error)]
pub enum LayerFault {
    /// It could not be unpacked.
    #[error("unpack")]
    Unpack(#[from] UnpackError),
    /// It is another than the configuration says.
    #[error("it unpacks to {actual}, the image's configuration says {expected}")]
    DiffId {
        /// As configured.
        expected: Digest,
        /// As computed.
        actual: Digest,
    },
}
