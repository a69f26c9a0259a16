//! An image enters the store.

use std::sync::Arc;

use super::image::Image;
use super::layers::StagedLayer;
use super::{Store, StoreError, database};
use crate::reference::{Digest, Reference};

/// An image with everything verified: its digests are those of its bytes.
pub(crate) struct NewImage<'a> {
    pub(crate) id: Digest,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest_digest: Digest,
    pub(crate) manifest: Vec<u8>,
    /// The names and digest references it is to have, besides those it has.
    pub(crate) names: Vec<Reference>,
    /// Lowest first.
    pub(crate) layers: Vec<NewLayer<'a>>,
}

/// A layer of a [`NewImage`].
pub(crate) struct NewLayer<'a> {
    pub(crate) diff_id: Digest,
    /// The unpacked layer; none if it is in the store and leased by the caller.
    pub(crate) staged: Option<&'a StagedLayer>,
}

impl Store {
    /// Write to disk what there is so far: what is published later is then durable sooner.
    pub(crate) fn write_out(&self) -> Result<(), StoreError> {
        self.inner.folder.sync_files()
    }

    /// Make the image and its layers durable and visible: files to disk, folders into place, then one transaction.
    pub(crate) fn publish(&self, image: &NewImage<'_>) -> Result<Arc<Image>, StoreError> {
        let staged: Vec<_> = image.layers.iter().filter_map(|layer| layer.staged).collect();
        if !staged.is_empty() {
            self.inner.folder.sync_files()?;
        }
        let failed = |operation| self.inner.failed(operation);
        let mut database = self.inner.database();
        for NewLayer { diff_id, staged } in &image.layers {
            if staged.is_none() && self.inner.find_layer(&database, diff_id)?.is_none() {
                return Err(StoreError::LayerMissing { image: image.id.clone(), layer: diff_id.clone() });
            }
        }
        let leftovers = self.place(&database, &staged)?;
        let id = image.id.to_string();
        let names: Vec<_> = image.names.iter().map(ToString::to_string).collect();
        let mut changed = vec![id];
        let transaction = database.transaction().map_err(failed("begin to record an image"))?;
        for name in &names {
            changed.extend(owner_of(&transaction, name).map_err(failed("look up a name"))?);
        }
        database::insert_image(&transaction, image, &names).map_err(failed("record an image"))?;
        transaction.commit().map_err(failed("record an image"))?;
        self.inner.set_damaged(staged.iter().map(|layer| &layer.diff_id), false);
        self.inner.refresh(&database, &changed)?;
        drop(database);
        leftovers.iter().try_for_each(|name| self.inner.folder.discard(name))?;
        self.get(&image.id).ok_or_else(|| StoreError::NoImage(image.id.clone()))
    }

    /// Move staged layers to their places, except those another pull has published meanwhile. Returns names in `tmp/` to
    /// be removed.
    fn place(
        &self,
        database: &rusqlite::Connection,
        staged: &[&StagedLayer],
    ) -> Result<Vec<String>, StoreError> {
        let folder = &self.inner.folder;
        let mut leftovers = Vec::new();
        let mut placed = std::collections::BTreeSet::new();
        for layer in staged {
            let known =
                database::layer(database, &layer.diff_id).map_err(self.inner.failed("look up a layer"))?;
            // An image may have a layer twice.
            if (known.is_none() || self.inner.is_damaged(&layer.diff_id)) && placed.insert(&layer.diff_id) {
                let (algorithm, hex) = (layer.diff_id.algorithm(), layer.diff_id.hex());
                leftovers.extend(folder.publish(&layer.kept, folder.tars(algorithm), hex)?);
                leftovers.extend(folder.publish(&layer.name, folder.layers(algorithm), hex)?);
            }
        }
        if !placed.is_empty() {
            folder.sync_layers()?;
        }
        Ok(leftovers)
    }
}

/// What an image pulled as `reference` is called, `target` being the digest of the index or manifest that stood for: one
/// pulled by tag has the tag, and however it was pulled, it has the digest.
pub(crate) fn names_of(reference: &Reference, target: &Digest) -> Vec<Reference> {
    let by_digest = reference.at(target.clone());
    match reference.digest() {
        None => vec![reference.clone(), by_digest],
        Some(_) => vec![by_digest],
    }
}

/// The image that has the name now.
pub(super) fn owner_of(database: &rusqlite::Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    database::strings_of(database, "SELECT image FROM names WHERE reference = ?1", name)
}
