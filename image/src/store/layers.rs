//! Layers on their way into the store, and what keeps layers in it that no image names yet.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use rusqlite::Connection;
use rustix::fs::{Mode, OFlags, openat};

use super::additional::LayerPlace;
use super::{Inner, Store, StoreError, database};
use crate::reference::Digest;
use crate::unpack::{Destination, Unpacked};

/// What is recorded of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerStats {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) opaque_root: bool,
    /// Size of the layer's archive; none for a layer of before archives could be reproduced.
    pub(crate) tar_bytes: Option<u64>,
}

impl LayerStats {
    pub(crate) fn of(unpacked: &Unpacked) -> Self {
        let Unpacked { bytes, inodes, opaque_root, tar_bytes, .. } = *unpacked;
        Self { bytes, inodes, opaque_root, tar_bytes: Some(tar_bytes) }
    }
}

/// How often each layer is leased by running operations.
pub(super) type Leases = HashMap<Digest, usize>;

/// Keeps layers from being collected. Dropping it takes no disk access; what became unused meanwhile goes with the next
/// collection.
pub(crate) struct LayerLease {
    inner: Arc<Inner>,
    leased: Vec<Digest>,
    present: Vec<Digest>,
}

impl LayerLease {
    /// Whether the layer was in the store when the lease was taken, and so still is.
    pub(crate) fn holds(&self, diff_id: &Digest) -> bool {
        self.present.contains(diff_id)
    }
}

impl Drop for LayerLease {
    fn drop(&mut self) {
        let mut leases = self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner);
        for diff_id in &self.leased {
            if let Some(count) = leases.get_mut(diff_id) {
                *count -= 1;
                if *count == 0 {
                    leases.remove(diff_id);
                }
            }
        }
    }
}

/// An unpacked layer in `tmp/`, with what its tree does not hold of its archive. Removed when dropped unless it was published; so drop it on a blocking thread.
pub(crate) struct StagedLayer {
    inner: Arc<Inner>,
    /// Of its tree.
    pub(super) name: String,
    /// Of what was kept beside it.
    pub(super) kept: String,
    pub(crate) diff_id: Digest,
    pub(crate) stats: LayerStats,
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        // A published layer has left `tmp/`, and removing what is not there is no error.
        for name in [&self.name, &self.kept] {
            if let Err(error) = self.inner.folder.discard(name) {
                tracing::warn!(layer = %self.diff_id, %error, "an unpacked layer was not removed; the next start will");
            }
        }
    }
}

/// Folders in `tmp/` that a layer is being unpacked into. Removed when dropped before [`Staging::complete`].
pub(crate) struct Staging {
    inner: Arc<Inner>,
    names: Option<[String; 2]>,
    tree: OwnedFd,
    kept: OwnedFd,
}

impl Staging {
    /// Where the layer is to be unpacked.
    pub(crate) fn destination(&self) -> Destination<'_> {
        Destination { tree: self.tree.as_fd(), kept: Some(self.kept.as_fd()) }
    }

    /// A new file for the layer's compressed blob, if the store keeps those.
    pub(crate) fn blob_file(&self, blob: &Digest) -> Result<Option<File>, StoreError> {
        if !self.inner.keep_blobs.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.kept, blob.to_string(), flags, Mode::RUSR | Mode::WUSR)
            .map(|file| Some(file.into()))
            .map_err(|error| StoreError::io("create the file of a blob,", blob.to_string(), error))
    }

    /// The layer is all there and verified.
    pub(crate) fn complete(mut self, diff_id: Digest, stats: LayerStats) -> StagedLayer {
        let [name, kept] = self.names.take().unwrap_or_default();
        StagedLayer { inner: Arc::clone(&self.inner), name, kept, diff_id, stats }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        for name in self.names.iter().flatten() {
            if let Err(error) = self.inner.folder.discard(name) {
                tracing::warn!(%error, "a part of a layer was not removed; the next start will");
            }
        }
    }
}

/// A layer that is in the store, or in an additional one.
pub(super) struct FoundLayer {
    pub(super) stats: LayerStats,
    pub(super) place: LayerPlace,
}

impl Inner {
    /// The layer, wherever it is; the store's own is preferred.
    pub(super) fn find_layer(
        &self,
        database: &Connection,
        diff_id: &Digest,
    ) -> Result<Option<FoundLayer>, StoreError> {
        let own = database::layer(database, diff_id).map_err(self.failed("look up a layer"))?;
        let found = |stats, root| FoundLayer { stats, place: LayerPlace::new(root, diff_id) };
        let elsewhere = || {
            let mut stores = self.additional.iter();
            stores.find_map(|store| Some(found(store.layer(diff_id)?, store.root())))
        };
        Ok(own.map(|stats| found(stats, self.folder.root())).or_else(elsewhere))
    }
}

impl Store {
    /// Lease `diff_ids`: those that are in the store, and those that come into it while the lease lasts.
    pub(crate) fn lease(&self, diff_ids: &[Digest]) -> Result<LayerLease, StoreError> {
        let database = self.inner.database();
        let mut present = Vec::new();
        for diff_id in diff_ids {
            let found = self.inner.find_layer(&database, diff_id)?;
            present.extend(found.filter(|_| !self.inner.is_damaged(diff_id)).map(|_| diff_id.clone()));
        }
        let mut leases = self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner);
        diff_ids.iter().for_each(|diff_id| *leases.entry(diff_id.clone()).or_default() += 1);
        Ok(LayerLease { inner: Arc::clone(&self.inner), leased: diff_ids.to_vec(), present })
    }

    /// New folders to unpack a layer into.
    pub(crate) fn stage(&self) -> Result<Staging, StoreError> {
        let (name, tree) = self.inner.folder.make_tmp()?;
        match self.inner.folder.make_tmp() {
            Ok((kept_name, kept)) => {
                Ok(Staging { inner: Arc::clone(&self.inner), names: Some([name, kept_name]), tree, kept })
            }
            Err(error) => {
                if let Err(error) = self.inner.folder.discard(&name) {
                    tracing::warn!(%error, "an empty folder was not removed; the next start will");
                }
                Err(error)
            }
        }
    }
}
