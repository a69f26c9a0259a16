//! An image of an additional store becomes the store's own by its record; its layers stay where they are.

use super::{NewImage, NewLayer, Store, StoreError};
use crate::reference::Digest;

impl Store {
    /// See to it that the store has a record of the image `id`, if an additional store has it.
    pub(super) fn adopt(&self, id: &Digest) -> Result<(), StoreError> {
        let Some(image) = self.get(id).filter(|_| self.inner.catalog.load().own(id).is_none()) else {
            return Ok(());
        };
        let missing = || StoreError::NoImage(id.clone());
        let layers = image.layers.iter().map(|diff_id| NewLayer { diff_id: diff_id.clone(), staged: None });
        self.publish(&NewImage {
            id: id.clone(),
            config: self.config_json(id)?.ok_or_else(missing)?,
            manifest_digest: image.manifest.clone(),
            manifest: self.manifest_json(id)?.ok_or_else(missing)?,
            names: Vec::new(),
            layers: layers.collect(),
        })
        .map(drop)
    }
}
