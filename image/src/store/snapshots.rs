//! Records of snapshots, and the lower folders they stand on. [`crate::snapshots`] gives them their meaning.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};

use super::additional::LayerPlace;
use super::folder::Folder;
use super::{Store, StoreError, database};
use crate::reference::Digest;

/// A snapshot as recorded.
pub(crate) struct SnapshotRecord {
    pub(crate) image: String,
    pub(crate) layers: Vec<String>,
}

impl Store {
    pub(crate) fn folder(&self) -> &Folder {
        &self.inner.folder
    }

    /// The folders an image with these layers (lowest first) is mounted from, the topmost first; never empty.
    ///
    /// overlayfs refuses a folder that occurs twice. Only the topmost occurrence of a layer matters: whatever a lower
    /// one does, the upper one does again.
    pub(crate) fn lower_paths(&self, image: &Digest, layers: &[Digest]) -> Result<Vec<PathBuf>, StoreError> {
        let places = self.layer_places(image, layers)?;
        let mut lower: Vec<_> = self.cover(layers, &places)?.into_iter().collect();
        lower.extend(places.into_iter().map(|place| place.tree));
        if lower.is_empty() {
            lower.push(self.inner.folder.empty());
        }
        Ok(lower)
    }

    /// Where the layers are that an image is merged from, the topmost first.
    fn layer_places(&self, image: &Digest, layers: &[Digest]) -> Result<Vec<LayerPlace>, StoreError> {
        let database = self.inner.database();
        let mut seen = BTreeSet::new();
        let mut places = Vec::new();
        for layer in layers.iter().rev() {
            let missing = || StoreError::LayerMissing { image: image.clone(), layer: layer.clone() };
            let found = self.inner.find_layer(&database, layer)?.ok_or_else(missing)?;
            if seen.insert(layer) {
                places.push(found.place);
            }
            if found.stats.opaque_root {
                break;
            }
        }
        Ok(places)
    }

    /// Record a snapshot and put its folder, prepared in `tmp/`, into its place. False, and nothing is done, if there is
    /// one with this key. The caller leases the layers.
    pub(crate) fn insert_snapshot(
        &self,
        key: &str,
        image: &Digest,
        layers: &[Digest],
        tmp: &str,
    ) -> Result<bool, StoreError> {
        let folder = &self.inner.folder;
        let mut database = self.inner.database();
        if !database::strings_of(&database, "SELECT key FROM snapshots WHERE key = ?1", key)
            .map_err(self.inner.failed("look up a snapshot"))?
            .is_empty()
        {
            return Ok(false);
        }
        let leftover = folder.publish(tmp, folder.snapshots(), key)?;
        let result = record(&mut database, key, image, layers);
        drop(database);
        leftover.map_or(Ok(()), |name| folder.discard(&name))?;
        result.map(|()| true).map_err(self.inner.failed("record a snapshot"))
    }

    /// Keep `layers` in the store as long as the snapshot; false if there is no such snapshot.
    pub(crate) fn hold(&self, key: &str, image: &Digest, layers: &[Digest]) -> Result<bool, StoreError> {
        let mut database = self.inner.database();
        let failed = |error| self.inner.failed("hold the layers of a volume")(error);
        let known = database::strings_of(&database, "SELECT key FROM snapshots WHERE key = ?1", key);
        if known.map_err(failed)?.is_empty() {
            return Ok(false);
        }
        let transaction = database.transaction().map_err(failed)?;
        for layer in layers {
            let missing = || StoreError::LayerMissing { image: image.clone(), layer: layer.clone() };
            self.inner.find_layer(&transaction, layer)?.ok_or_else(missing)?;
            let insert = "INSERT OR IGNORE INTO snapshot_holds VALUES (?1, ?2)";
            transaction.execute(insert, params![key, layer.to_string()]).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(true)
    }

    pub(crate) fn snapshot(&self, key: &str) -> Result<Option<SnapshotRecord>, StoreError> {
        let database = self.inner.database();
        let failed = |error| self.inner.failed("look up a snapshot")(error);
        let image = database
            .query_row("SELECT image FROM snapshots WHERE key = ?1", [key], |row| row.get(0))
            .optional()
            .map_err(failed)?;
        let Some(image) = image else { return Ok(None) };
        let query = "SELECT diff_id FROM snapshot_layers WHERE key = ?1 ORDER BY position";
        let layers = database::strings_of(&database, query, key).map_err(failed)?;
        Ok(Some(SnapshotRecord { image, layers }))
    }

    pub(crate) fn snapshot_keys(&self) -> Result<Vec<String>, StoreError> {
        database::strings(&self.inner.database(), "SELECT key FROM snapshots ORDER BY key")
            .map_err(self.inner.failed("list snapshots"))
    }

    /// Take the snapshot out of the database and out of its place, then remove its files and the layers that only it used.
    pub(crate) fn remove_snapshot(&self, key: &str) -> Result<(), StoreError> {
        let folder = &self.inner.folder;
        let database = self.inner.database();
        database
            .execute("DELETE FROM snapshots WHERE key = ?1", [key])
            .map_err(self.inner.failed("remove a snapshot"))?;
        let mut doomed: Vec<_> = folder.retract(folder.snapshots(), key)?.into_iter().collect();
        let layers = self.inner.collect(&database)?;
        if !layers.is_empty() {
            self.inner.refresh(&database, &[])?;
        }
        drop(database);
        doomed.extend(layers);
        self.discard_all(&doomed)
    }
}

fn record(database: &mut Connection, key: &str, image: &Digest, layers: &[Digest]) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    transaction.execute("INSERT INTO snapshots VALUES (?1, ?2)", params![key, image.to_string()])?;
    let mut insert = transaction.prepare_cached("INSERT INTO snapshot_layers VALUES (?1, ?2, ?3)")?;
    for (position, layer) in layers.iter().enumerate() {
        insert.execute(params![key, database::signed(position as u64), layer.to_string()])?;
    }
    drop(insert);
    transaction.commit()
}
