//! The signatures of an image, from the registry it is in: cosign keeps them as an image whose tag is the digest.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::engine::Engine;
use super::refusal::{Refusal, Refusals};
use crate::policy::{SIGNATURE_ANNOTATION, SIGNATURE_TYPE, Signature};
use crate::reference::Digest;
use crate::registry::{Descriptor, ManifestError, RegistryError, Session};

/// Largest signed text in bytes: cosign's has a few hundred.
const MAX_PAYLOAD_BYTES: u64 = 64 << 10;
/// Most signatures of one digest that are looked at.
const MAX_SIGNATURES: usize = 64;

#[derive(Deserialize)]
struct SignatureManifest {
    layers: Vec<SignatureLayer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SignatureLayer {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// All signatures of `digests` that the first of `sessions` has that answers; none where there are none.
pub(super) async fn signatures(
    engine: &Engine,
    sessions: &[Session],
    digests: &[&Digest],
) -> Result<Vec<Signature>, Refusals> {
    let mut refusals = Refusals::default();
    for session in sessions {
        match at(engine, session, digests).await {
            Ok(found) => return Ok(found),
            Err(error) => {
                let source = session.source().clone();
                refusals.record(Refusal { source, entry: None, fault: error.into() });
            }
        }
    }
    Err(refusals)
}

async fn at(
    engine: &Engine,
    session: &Session,
    digests: &[&Digest],
) -> Result<Vec<Signature>, RegistryError> {
    let mut found = Vec::new();
    for digest in digests {
        let tag = format!("{}-{}.sig", digest.algorithm().name(), digest.hex());
        let fetched = match engine.retry(session, || session.manifest(&tag, None)).await {
            Ok(fetched) => fetched,
            Err(RegistryError::NotFound) => continue,
            Err(error) => return Err(error),
        };
        for layer in layers(&fetched.bytes)? {
            let Some(signature) = layer.annotations.get(SIGNATURE_ANNOTATION).cloned() else { continue };
            let blob = Descriptor {
                media_type: layer.media_type,
                digest: Digest::parse(&layer.digest).map_err(ManifestError::from)?,
                size: layer.size,
                platform: None,
            };
            let payload = engine.retry(session, || session.small_blob(&blob, MAX_PAYLOAD_BYTES)).await?;
            found.push(Signature { payload, signature });
        }
    }
    Ok(found)
}

fn layers(manifest: &[u8]) -> Result<Vec<SignatureLayer>, ManifestError> {
    let manifest: SignatureManifest = serde_json::from_slice(manifest)?;
    let layers = manifest.layers.into_iter().filter(|layer| layer.media_type == SIGNATURE_TYPE);
    Ok(layers.take(MAX_SIGNATURES).collect())
}
