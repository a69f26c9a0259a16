//! Images, names and layers leave the store.

use std::sync::{Arc, PoisonError};

use rusqlite::Connection;

use super::additional::Additional;
use super::image::Image;
use super::{Inner, Store, StoreError, database};
use crate::reference::{Digest, Reference};

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// There was nothing of that name or id.
    Nothing,
    /// The image lost this name and has others.
    Untagged(Reference),
    /// The image is gone, with these names.
    Deleted {
        /// Its id.
        id: Digest,
        /// The names and digest references it had.
        names: Vec<Reference>,
    },
}

impl Store {
    pub(super) fn take_name(&self, reference: &Reference) -> Result<Removed, StoreError> {
        let database = self.inner.database();
        let Some(image) = self.find(reference) else { return Ok(Removed::Nothing) };
        let image = self.own(&image)?;
        // `name:tag@digest` means the digest.
        let name =
            reference.digest().map_or_else(|| reference.clone(), |digest| reference.at(digest.clone()));
        if !image.names.iter().chain(&image.digests).any(|own| *own == name) {
            return Err(self.read_only(&image));
        }
        let siblings = if name.digest().is_some() { &image.digests } else { &image.names };
        let is_last = siblings.len() == 1 && (name.digest().is_none() || image.names.is_empty());
        if is_last {
            return self.delete(database, &image);
        }
        database
            .execute("DELETE FROM names WHERE reference = ?1", [name.to_string()])
            .map_err(self.inner.failed("remove a name"))?;
        self.inner.refresh(&database, &[image.id.to_string()])?;
        Ok(Removed::Untagged(name))
    }

    pub(super) fn take_image(&self, id: &Digest) -> Result<Removed, StoreError> {
        let database = self.inner.database();
        match self.get(id) {
            Some(image) => {
                let own = self.own(&image)?;
                self.delete(database, &own)
            }
            None => Ok(Removed::Nothing),
        }
    }

    /// The store's own record of `image`, without what additional stores say of it.
    fn own(&self, image: &Image) -> Result<Arc<Image>, StoreError> {
        self.inner.catalog.load().own(&image.id).ok_or_else(|| self.read_only(image))
    }

    /// What is asked for concerns what an additional store says of `image`.
    fn read_only(&self, image: &Image) -> StoreError {
        let has_it = |store: &&Additional| store.images().iter().any(|other| other.id == image.id);
        match self.inner.additional.iter().find(has_it) {
            Some(store) => StoreError::ReadOnly { image: image.id.clone(), root: store.root().to_owned() },
            None => StoreError::NoImage(image.id.clone()),
        }
    }

    /// The catalog changes with the database locked only, so `image` is what the database says.
    fn delete(
        &self,
        database: std::sync::MutexGuard<'_, Connection>,
        image: &Image,
    ) -> Result<Removed, StoreError> {
        if image.pinned {
            return Err(StoreError::Pinned(image.id.clone()));
        }
        let id = image.id.to_string();
        database
            .execute("DELETE FROM images WHERE id = ?1", [&id])
            .map_err(self.inner.failed("remove an image"))?;
        let doomed = self.inner.collect(&database)?;
        self.inner.refresh(&database, &[id])?;
        drop(database);
        self.discard_all(&doomed)?;
        let names = image.names.iter().chain(&image.digests).cloned().collect();
        Ok(Removed::Deleted { id: image.id.clone(), names })
    }

    /// Collect layers that nobody uses.
    pub(crate) fn collect_unused(&self) -> Result<(), StoreError> {
        let database = self.inner.database();
        let doomed = self.inner.collect(&database)?;
        if doomed.is_empty() {
            return Ok(());
        }
        self.inner.refresh(&database, &[])?;
        drop(database);
        self.discard_all(&doomed)
    }

    /// Remove all of `names` in `tmp/`, going on after a failure; the first one is reported.
    pub(crate) fn discard_all(&self, names: &[String]) -> Result<(), StoreError> {
        let results = names.iter().map(|name| self.inner.folder.discard(name)).collect::<Vec<_>>();
        results.into_iter().collect()
    }
}

impl Inner {
    /// Take the layers that no image, snapshot or lease uses out of the database and out of their places. Returns their
    /// names in `tmp/`, to be removed when the database is free again.
    pub(super) fn collect(self: &Arc<Self>, database: &Connection) -> Result<Vec<String>, StoreError> {
        let failed = |operation| self.failed(operation);
        let unused = database::unused_layers(database).map_err(failed("look for unused layers"))?;
        let mut doomed = Vec::new();
        for text in unused {
            let Ok(diff_id) = Digest::parse(&text) else { continue };
            let leased = self.leases.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&diff_id);
            if leased {
                continue;
            }
            database
                .execute("DELETE FROM layers WHERE diff_id = ?1", [&text])
                .map_err(failed("remove a layer"))?;
            let (algorithm, hex) = (diff_id.algorithm(), diff_id.hex());
            doomed.extend(self.collect_covers(database, &text)?);
            doomed.extend(self.folder.retract(self.folder.layers(algorithm), hex)?);
            doomed.extend(self.folder.retract(self.folder.tars(algorithm), hex)?);
        }
        Ok(doomed)
    }
}
