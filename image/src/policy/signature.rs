//! A cosign signature: what it says, and whether a key says it. Pure.

use base64::Engine as _;
use serde::Deserialize;

use super::key::PublicKey;
use crate::reference::{Digest, shorten};

/// The type of the blobs that are signed.
pub(crate) const SIGNATURE_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Where a manifest has the signature of a blob.
pub(crate) const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";
/// What the signed text calls itself.
const PAYLOAD_TYPE: &str = "cosign container image signature";

/// A signed text and its signature, as they came.
#[derive(Clone, Debug)]
pub(crate) struct Signature {
    /// The text.
    pub(crate) payload: Vec<u8>,
    /// Base64 of the signature over it.
    pub(crate) signature: String,
}

/// Why a signature does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// No key of the policy made it.
    #[error("it is not by any of the policy's keys")]
    Key,
    /// A key made it over something that is no statement about an image.
    #[error("what is signed is not a statement about an image")]
    Payload,
    /// It is about another image.
    #[error("it is for {0:?}")]
    Digest(String),
    /// It is for another name.
    #[error("it is for the name {0:?}")]
    Identity(String),
}

/// What a key has signed.
#[derive(Deserialize)]
pub(super) struct Statement {
    critical: Critical,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Identity {
    docker_reference: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Image {
    docker_manifest_digest: String,
}

impl Signature {
    /// What is signed, if one of `keys` did it. Nothing of the text is looked at before.
    pub(super) fn verify(&self, keys: &[PublicKey]) -> Result<Statement, SignatureError> {
        let signature = base64::engine::general_purpose::STANDARD.decode(&self.signature);
        let signature = signature.map_err(|_| SignatureError::Key)?;
        if !keys.iter().any(|key| key.verifies(&self.payload, &signature)) {
            return Err(SignatureError::Key);
        }
        let statement: Result<Statement, _> = serde_json::from_slice(&self.payload);
        statement.ok().filter(|said| said.critical.kind == PAYLOAD_TYPE).ok_or(SignatureError::Payload)
    }
}

impl Statement {
    /// Whether it is about one of `digests` and about a name that `accepts` takes.
    pub(super) fn judge(
        &self,
        digests: &[&Digest],
        accepts: impl Fn(&str) -> bool,
    ) -> Result<(), SignatureError> {
        let digest = &self.critical.image.docker_manifest_digest;
        if !Digest::parse(digest).is_ok_and(|signed| digests.contains(&&signed)) {
            return Err(SignatureError::Digest(shorten(digest)));
        }
        let name = &self.critical.identity.docker_reference;
        if accepts(name) { Ok(()) } else { Err(SignatureError::Identity(shorten(name))) }
    }
}
