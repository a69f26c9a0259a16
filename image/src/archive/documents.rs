//! The descriptions in an archive of images (OCI image layout 1.0; Docker's image specification 1.2). Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reference::{Digest, Reference};
use crate::registry::Descriptor;

pub(super) const LAYOUT: &str = "oci-layout";
pub(super) const LAYOUT_TEXT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
pub(super) const INDEX: &str = "index.json";
pub(super) const DOCKER: &str = "manifest.json";
/// containerd's and Docker's annotation of an index's entry: the full name.
pub(super) const FULL_NAME: &str = "io.containerd.image.name";
/// The layout's own: a tag, or whatever the archiver took for a name.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// One image of Docker's `manifest.json`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DockerImage {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciManifest {
    schema_version: u32,
    media_type: &'static str,
    config: OciDescriptor,
    layers: Vec<OciDescriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OciIndex {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<OciDescriptor>,
}

/// A descriptor as this crate writes it.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OciDescriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

impl OciDescriptor {
    pub(crate) fn new(media_type: &str, digest: &Digest, size: u64) -> Self {
        let annotations = BTreeMap::new();
        Self { media_type: media_type.to_owned(), digest: digest.to_string(), size, annotations }
    }
}

/// The manifest of an image of these plain layers: diff ids and sizes, the lowest first.
pub(crate) fn plain_manifest(config: &[u8], layers: &[(Digest, u64)]) -> Vec<u8> {
    let layers = layers.iter().map(|(digest, size)| plain_layer(digest, *size));
    manifest_of(config, layers.collect())
}

/// A layer that is not compressed.
pub(super) fn plain_layer(diff_id: &Digest, bytes: u64) -> OciDescriptor {
    OciDescriptor::new(OCI_LAYER, diff_id, bytes)
}

/// A layer of another manifest as one of ours.
pub(crate) fn kept_layer(layer: &Descriptor) -> OciDescriptor {
    OciDescriptor::new(oci_type(&layer.media_type), &layer.digest, layer.size)
}

/// Docker's types under OCI's names: they are the same thing.
fn oci_type(media_type: &str) -> &str {
    match media_type {
        "application/vnd.docker.image.rootfs.diff.tar" => OCI_LAYER,
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => "application/vnd.oci.image.layer.v1.tar+gzip",
        other => other,
    }
}

/// The manifest of an image of these layers.
pub(crate) fn manifest_of(config: &[u8], layers: Vec<OciDescriptor>) -> Vec<u8> {
    let config = OciDescriptor::new(OCI_CONFIG, &Digest::of(config), config.len() as u64);
    to_json(&OciManifest { schema_version: 2, media_type: OCI_MANIFEST, config, layers })
}

/// The index of manifests with their names; one entry for each name, one for an image without.
pub(super) fn index(images: &[(&[u8], &[Reference])]) -> Vec<u8> {
    let entry = |manifest: &[u8], name: Option<&Reference>| {
        let mut entry = OciDescriptor::new(OCI_MANIFEST, &Digest::of(manifest), manifest.len() as u64);
        if let Some(name) = name {
            entry.annotations.insert(FULL_NAME, name.to_string());
            entry.annotations.insert(REF_NAME, name.tag_or_digest());
        }
        entry
    };
    let entries = images.iter().flat_map(|(manifest, names)| {
        let nameless = names.is_empty().then(|| entry(manifest, None));
        names.iter().map(|name| entry(manifest, Some(name))).chain(nameless).collect::<Vec<_>>()
    });
    to_json(&OciIndex { schema_version: 2, media_type: OCI_INDEX, manifests: entries.collect() })
}

/// Docker's `manifest.json`.
pub(super) fn docker(images: &[DockerImage]) -> Vec<u8> {
    to_json(images)
}

fn to_json(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are JSON")
}

/// Where a blob is in an OCI layout.
pub(super) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

/// The digest that a path of an OCI layout promises.
pub(super) fn promised(path: &str) -> Option<Digest> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}
