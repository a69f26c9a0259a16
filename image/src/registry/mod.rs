//! The client side of the OCI distribution specification: manifests and blobs over HTTPS, both ways.
//!
//! A session is one repository at one source with one set of credentials. It learns what the registry speaks (HTTPS,
//! or HTTP where the source is insecure) and which token it wants, and keeps both for the blobs that follow.
//!
//! Credentials go to the registry and to the token service it names. Redirects are followed here and not by the HTTP
//! library, so that nothing secret travels to another host and nothing that began encrypted goes on in the clear.

mod answer;
mod blob;
mod challenge;
mod connections;
mod credentials;
mod error;
mod manifest;
mod session;
mod tls;
mod token;
mod upload;

pub(crate) use blob::BlobStream;
pub(crate) use connections::Connections;
pub use credentials::{Credentials, CredentialsError, Secret};
pub use error::RegistryError;
pub use manifest::{
    Descriptor, Document, ImageManifest, MAX_LAYERS, MAX_MANIFEST_BYTES, ManifestError, Platform, choose,
    parse_manifest,
};
pub(crate) use session::{Fetched, Session};
pub(crate) use upload::{Begun, Upload};
