//! Saving: one archive that Docker, Podman, containerd and skopeo load, whichever form they look for.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use super::ArchiveError;
use super::documents::{self, DockerImage, blob_path, plain_manifest};
use super::writer::Writer;
use crate::reference::{Digest, Reference};
use crate::registry::{Document, parse_manifest};
use crate::store::{Image, LayerTar, Store, StoreError};

/// An image with everything that will be written.
struct Saved {
    config: Vec<u8>,
    manifest: Vec<u8>,
    names: Vec<Reference>,
    layers: Vec<Digest>,
}

impl Store {
    /// Write `images` under the given names (tags; may be none) to `out`, layer by layer from their trees: nothing is
    /// copied on the way. A layer that is damaged is an error, after a part of the archive was written.
    pub fn save(&self, images: &[(Arc<Image>, Vec<Reference>)], out: impl Write) -> Result<(), ArchiveError> {
        let mut layers = BTreeMap::new();
        let mut saved = Vec::new();
        for (image, names) in images {
            saved.push(self.saved(image, names, &mut layers)?);
        }
        let mut writer = Writer::new(out);
        self.write_documents(&saved, &mut writer).map_err(ArchiveError::Write)?;
        for tar in layers.into_values() {
            writer.begin(&blob_path(&tar.diff_id), tar.bytes).map_err(ArchiveError::Write)?;
            tar.write(writer.data())?;
            writer.end(tar.bytes).map_err(ArchiveError::Write)?;
        }
        writer.finish().map_err(ArchiveError::Write)
    }

    fn saved(
        &self,
        image: &Image,
        names: &[Reference],
        layers: &mut BTreeMap<Digest, LayerTar>,
    ) -> Result<Saved, ArchiveError> {
        let missing = || StoreError::NoImage(image.id.clone());
        let config = self.config_json(&image.id)?.ok_or_else(missing)?;
        let manifest = self.manifest_json(&image.id)?.ok_or_else(missing)?;
        let mut sizes = Vec::new();
        for diff_id in &image.layers {
            let tar = self.layer_tar(&image.id, diff_id)?;
            sizes.push((diff_id.clone(), tar.bytes));
            layers.entry(diff_id.clone()).or_insert(tar);
        }
        let manifest =
            if is_plain(&manifest, &image.layers) { manifest } else { plain_manifest(&config, &sizes) };
        Ok(Saved { config, manifest, names: names.to_vec(), layers: image.layers.clone() })
    }

    fn write_documents(&self, images: &[Saved], writer: &mut Writer<impl Write>) -> std::io::Result<()> {
        let named: Vec<_> = images.iter().map(|image| (&image.manifest[..], &image.names[..])).collect();
        let docker: Vec<_> = images.iter().map(Saved::for_docker).collect();
        writer.file(documents::LAYOUT, documents::LAYOUT_TEXT)?;
        writer.file(documents::INDEX, &documents::index(&named))?;
        writer.file(documents::DOCKER, &documents::docker(&docker))?;
        let blobs = images.iter().flat_map(|image| [&image.manifest, &image.config]);
        let unique: BTreeMap<_, _> = blobs.map(|blob| (blob_path(&Digest::of(blob)), blob)).collect();
        unique.iter().try_for_each(|(path, blob)| writer.file(path, blob))
    }
}

impl Saved {
    fn for_docker(&self) -> DockerImage {
        DockerImage {
            config: blob_path(&Digest::of(&self.config)),
            repo_tags: Some(self.names.iter().map(ToString::to_string).collect()),
            layers: Some(self.layers.iter().map(blob_path).collect()),
        }
    }
}

/// Whether the manifest's layers are plain archives, so that it is right for an archive with plain layers.
fn is_plain(manifest: &[u8], diff_ids: &[Digest]) -> bool {
    match parse_manifest(manifest, None) {
        Ok(Document::Image(manifest)) => manifest.layers.iter().map(|layer| &layer.digest).eq(diff_ids),
        _ => false,
    }
}
