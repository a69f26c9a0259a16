//! How an image came to be, as its configuration tells it.

use super::image::Image;
use super::{Store, StoreError};
use crate::reference::Digest;

/// One step of an image's making, the first one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryStep {
    /// When, as the image's author wrote it; may be empty.
    pub created: String,
    /// By which command; may be empty.
    pub created_by: String,
    /// A remark; may be empty.
    pub comment: String,
    /// The layer it made, unless it changed the configuration only.
    pub layer: Option<Digest>,
    /// The layer's disk space.
    pub bytes: u64,
}

impl Store {
    /// The image's history, one step for each of its configuration's. Layers that the history does not account for, which
    /// not every builder writes, follow as steps of their own; whatever it tells beyond its layers has none.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryStep>, StoreError> {
        let database = self.inner.database();
        let mut layers = Vec::new();
        for layer in &image.layers {
            let found = self.inner.find_layer(&database, layer)?;
            layers.push((layer.clone(), found.map_or(0, |found| found.stats.bytes)));
        }
        let mut layers = layers.into_iter();
        let mut steps = Vec::new();
        for told in image.config.history().iter().flatten() {
            let layer = if told.empty_layer().unwrap_or(false) { None } else { layers.next() };
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            steps.push(HistoryStep {
                created: text(told.created()),
                created_by: text(told.created_by()),
                comment: text(told.comment()),
                bytes: layer.as_ref().map_or(0, |(_, bytes)| *bytes),
                layer: layer.map(|(digest, _)| digest),
            });
        }
        steps.extend(layers.map(|(digest, bytes)| HistoryStep {
            created: String::new(),
            created_by: String::new(),
            comment: String::new(),
            layer: Some(digest),
            bytes,
        }));
        Ok(steps)
    }
}
