//! Importing: a root filesystem becomes an image of one layer.

use std::io::{BufReader, Read};
use std::sync::Arc;

use serde_json::json;

use super::documents::plain_manifest;
use super::{ArchiveError, LayerFault};
use crate::reference::{Algorithm, Digest, Reference};
use crate::registry::Platform;
use crate::store::{Image, LayerStats, NewImage, NewLayer, Store};
use crate::unpack::{UnpackError, UnpackLimits, unpack_confined};

/// What an imported root filesystem is to be.
#[derive(Clone, Debug, Default)]
pub struct Import {
    /// Its tag, if it is to have one.
    pub name: Option<Reference>,
    /// The `config` of its configuration: command, environment, user and so on, in the words of the image specification;
    /// Docker has some more.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// When it was made, in the form of RFC 3339.
    pub created: Option<String>,
    /// A remark for its history.
    pub comment: String,
}

impl Store {
    /// Make an image of the root filesystem that is the archive `input`, compressed or not.
    pub fn import(
        &self,
        input: impl Read + Send,
        import: &Import,
        limits: &UnpackLimits,
    ) -> Result<Arc<Image>, ArchiveError> {
        let input = BufReader::with_capacity(256 << 10, input);
        let staging = self.stage()?;
        // How much was compressed is not known in front: only the limit of all layers holds.
        let unpacked =
            unpack_confined(input, limits.max_bytes, staging.destination(), Algorithm::Sha256, limits);
        let of_layer = |error: UnpackError| ArchiveError::Layer {
            path: "of the root filesystem".into(),
            source: LayerFault::Unpack(error),
        };
        let unpacked = unpacked.map_err(of_layer)?;
        let (diff_id, tar_bytes) = (unpacked.diff_id.clone(), unpacked.tar_bytes);
        let config = configuration(import, &diff_id);
        let manifest = plain_manifest(&config, &[(diff_id.clone(), tar_bytes)]);
        let _lease = self.lease(std::slice::from_ref(&diff_id))?;
        let staged = staging.complete(diff_id.clone(), LayerStats::of(&unpacked));
        let image = NewImage {
            id: Digest::of(&config),
            config,
            manifest_digest: Digest::of(&manifest),
            manifest,
            names: import.name.iter().cloned().collect(),
            layers: vec![NewLayer { diff_id, staged: Some(&staged) }],
        };
        Ok(self.publish(&image)?)
    }
}

fn configuration(import: &Import, diff_id: &Digest) -> Vec<u8> {
    let Platform { os, architecture, variant } = Platform::host();
    let mut config = json!({
        "os": os, "architecture": architecture, "config": import.config,
        "rootfs": {"type": "layers", "diff_ids": [diff_id.to_string()]},
        "history": [{"comment": import.comment}],
    });
    if let Some(variant) = variant {
        config["variant"] = variant.into();
    }
    if let Some(created) = &import.created {
        config["created"] = created.clone().into();
        config["history"][0]["created"] = created.clone().into();
    }
    config.to_string().into_bytes()
}
