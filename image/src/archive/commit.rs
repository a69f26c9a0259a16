//! Committing: an image, what a container has changed of it, and another configuration become a new image.

use std::io::{BufReader, Read};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::documents::{OciDescriptor, kept_layer, manifest_of, plain_layer};
use super::{ArchiveError, LayerFault};
use crate::reference::{Algorithm, Digest, Reference};
use crate::registry::{Document, parse_manifest};
use crate::store::{Image, LayerStats, NewImage, NewLayer, Store, StoreError};
use crate::unpack::{UnpackLimits, unpack_confined};

/// What an archive without entries is: two empty blocks. It becomes no layer.
const EMPTY_ARCHIVE: [u8; 1024] = [0; 1024];

/// What a committed image is to be.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Its tag, if it is to have one.
    pub name: Option<Reference>,
    /// The whole `config` of its configuration, in the words of the image specification; Docker has some more.
    pub config: Map<String, Value>,
    /// When it was made, in the form of RFC 3339.
    pub created: String,
    /// The command that made it, for its history.
    pub created_by: String,
    /// Who made it; may be empty.
    pub author: String,
    /// A remark for its history; may be empty.
    pub comment: String,
}

impl Store {
    /// Make an image of `parent` and the layer that is the archive `input`, plain, with whiteouts as OCI has them. Where
    /// that has no entries the new image has the layers of its parent.
    pub fn commit(
        &self,
        parent: &Image,
        input: impl Read + Send,
        commit: &Commit,
        limits: &UnpackLimits,
    ) -> Result<Arc<Image>, ArchiveError> {
        let _parents = self.lease(&parent.layers)?;
        let missing = || StoreError::NoImage(parent.id.clone());
        let config = self.config_json(&parent.id)?.ok_or_else(missing)?;
        let manifest = self.manifest_json(&parent.id)?.ok_or_else(missing)?;
        let input = BufReader::with_capacity(256 << 10, input);
        let staging = self.stage()?;
        let unpacked =
            unpack_confined(input, limits.max_bytes, staging.destination(), Algorithm::Sha256, limits);
        let unpacked = unpacked.map_err(|error| ArchiveError::Layer {
            path: "of the container".into(),
            source: LayerFault::Unpack(error),
        })?;
        let added = (unpacked.diff_id != Digest::of(&EMPTY_ARCHIVE))
            .then(|| (unpacked.diff_id.clone(), unpacked.tar_bytes));
        let config = configuration(&config, parent, commit, added.as_ref())?;
        let manifest = manifest_above(&manifest, &config, added.as_ref())?;
        let _lease = self.lease(std::slice::from_ref(&unpacked.diff_id))?;
        let staged = staging.complete(unpacked.diff_id.clone(), LayerStats::of(&unpacked));
        let below = parent.layers.iter().map(|diff_id| NewLayer { diff_id: diff_id.clone(), staged: None });
        let own = added.map(|(diff_id, _)| NewLayer { diff_id, staged: Some(&staged) });
        let image = NewImage {
            id: Digest::of(&config),
            config,
            manifest_digest: Digest::of(&manifest),
            manifest,
            names: commit.name.iter().cloned().collect(),
            layers: below.chain(own).collect(),
        };
        Ok(self.publish(&image)?)
    }
}

/// The parent's configuration with what is new: its `config`, one more step of its history, one more layer.
fn configuration(
    parent: &[u8],
    image: &Image,
    commit: &Commit,
    added: Option<&(Digest, u64)>,
) -> Result<Vec<u8>, ArchiveError> {
    let path = || format!("the configuration of image {}", image.id);
    let failed = |source| ArchiveError::Document { path: path(), source };
    let mut config: Map<String, Value> = serde_json::from_slice(parent).map_err(failed)?;
    // What Docker used to keep of the container that the parent was made from.
    for stale in ["container", "container_config", "docker_version", "id", "parent", "comment"] {
        config.remove(stale);
    }
    config.insert("config".into(), Value::Object(commit.config.clone()));
    config.insert("created".into(), commit.created.clone().into());
    config.insert("author".into(), commit.author.clone().into());
    let mut history = match config.remove("history") {
        Some(Value::Array(history)) => history,
        _ => Vec::new(),
    };
    // Not every builder writes one: the step that is added is not to be taken for that of another layer.
    let told = history.iter().filter(|step| step["empty_layer"] != true).count();
    history.extend(std::iter::repeat_n(json!({}), image.layers.len().saturating_sub(told)));
    history.push(step(commit, added.is_none()));
    config.insert("history".into(), Value::Array(history));
    let layers = image.layers.iter().chain(added.map(|(diff_id, _)| diff_id));
    let layers: Vec<String> = layers.map(ToString::to_string).collect();
    config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": layers}));
    serde_json::to_vec(&config).map_err(failed)
}

/// The step of its history that made it.
fn step(commit: &Commit, is_empty: bool) -> Value {
    let mut step = json!({"created": commit.created, "created_by": commit.created_by});
    for (key, text) in [("author", &commit.author), ("comment", &commit.comment)] {
        if !text.is_empty() {
            step[key] = text.as_str().into();
        }
    }
    if is_empty {
        step["empty_layer"] = true.into();
    }
    step
}

/// A manifest of the parent's layers, as blobs that registries may have, and the one that is added.
fn manifest_above(
    parent: &[u8],
    config: &[u8],
    added: Option<&(Digest, u64)>,
) -> Result<Vec<u8>, ArchiveError> {
    let refused = |source| ArchiveError::Manifest { path: "of the parent".into(), source };
    let layers = match parse_manifest(parent, None).map_err(refused)? {
        Document::Image(manifest) => manifest.layers,
        Document::Index(_) => Vec::new(),
    };
    let kept = layers.iter().map(kept_layer);
    let own = added.map(|(diff_id, bytes)| plain_layer(diff_id, *bytes));
    let layers: Vec<OciDescriptor> = kept.chain(own).collect();
    Ok(manifest_of(config, layers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::ImageManifest;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn commit() -> Commit {
        let config = json!({"Cmd": ["new"]}).as_object().cloned().unwrap();
        Commit {
            config,
            created: "now".into(),
            created_by: "sh".into(),
            author: "me".into(),
            ..Commit::default()
        }
    }

    fn changed(parent: &Value, layers: &[Digest], added: Option<&(Digest, u64)>) -> Value {
        let text = json!({
            "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "history": []
        });
        let image = Image {
            id: digest("parent"),
            names: Vec::new(),
            digests: Vec::new(),
            manifest: digest("manifest"),
            layers: layers.to_vec(),
            size_bytes: 0,
            pinned: false,
            config: serde_json::from_value(text).unwrap(),
        };
        let config = configuration(parent.to_string().as_bytes(), &image, &commit(), added).unwrap();
        serde_json::from_slice(&config).unwrap()
    }

    #[test]
    fn what_is_new_replaces_and_is_added() {
        let parent = json!({
            "os": "linux", "architecture": "amd64", "config": {"Cmd": ["old"], "User": "1"}, "container": "x",
            "history": [{"created_by": "a"}, {"created_by": "b", "empty_layer": true}],
        });
        let told = changed(&parent, &[digest("a")], Some(&(digest("c"), 5)));
        assert_eq!((&told["config"], &told["author"]), (&json!({"Cmd": ["new"]}), &json!("me")));
        assert_eq!((&told["os"], told.get("container")), (&json!("linux"), None));
        assert_eq!(told["rootfs"]["diff_ids"], json!([digest("a").to_string(), digest("c").to_string()]));
        assert_eq!(told["history"].as_array().map(Vec::len), Some(3));
        assert_eq!(told["history"][2], json!({"created": "now", "created_by": "sh", "author": "me"}));
    }

    #[test]
    fn layers_without_a_step_of_their_own_get_none_of_the_new_one() {
        let told = changed(&json!({}), &[digest("a"), digest("b")], None);
        assert_eq!(told["history"].as_array().map(Vec::len), Some(3));
        assert_eq!(told["history"][2]["empty_layer"], true);
        assert_eq!(told["rootfs"]["diff_ids"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn the_parents_blobs_stay_what_registries_have() {
        let blob = |media_type: &str, digest: &Digest| json!({"mediaType": media_type, "digest": digest.to_string(), "size": 3});
        let parent = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": blob("application/vnd.docker.container.image.v1+json", &digest("config")),
            "layers": [blob("application/vnd.docker.image.rootfs.diff.tar.gzip", &digest("blob"))],
        });
        let made = manifest_above(parent.to_string().as_bytes(), b"{}", Some(&(digest("own"), 7))).unwrap();
        let Document::Image(ImageManifest { config, layers }) = parse_manifest(&made, None).unwrap() else {
            panic!("an index");
        };
        assert_eq!((config.digest, layers.len()), (Digest::of(b"{}"), 2));
        assert_eq!(
            (&layers[0].digest, layers[0].media_type.as_str()),
            (&digest("blob"), "application/vnd.oci.image.layer.v1.tar+gzip")
        );
        assert_eq!((&layers[1].digest, layers[1].size), (&digest("own"), 7));
    }
}
