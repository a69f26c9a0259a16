//! Layers on their way into the store, and what keeps layers in it that no image names yet.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use super::{Inner, Store, StoreError, database};
use crate::reference::Digest;

/// What is recorded of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LayerStats {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
    pub(crate) opaque_root: bool,
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

/// An unpacked layer in `tmp/`. Removed when dropped unless it was published; so drop it on a blocking thread.
pub(crate) struct StagedLayer {
    inner: Arc<Inner>,
    pub(super) name: String,
    pub(crate) diff_id: Digest,
    pub(crate) stats: LayerStats,
}

impl Drop for StagedLayer {
    fn drop(&mut self) {
        // A published layer has left `tmp/`, and removing what is not there is no error.
        if let Err(error) = self.inner.folder.discard(&self.name) {
            tracing::warn!(layer = %self.diff_id, %error, "an unpacked layer was not removed; the next start will");
        }
    }
}

/// A folder in `tmp/` that a layer is being unpacked into. Removed when dropped before [`Staging::complete`].
pub(crate) struct Staging {
    inner: Arc<Inner>,
    name: Option<String>,
    pub(crate) folder: std::os::fd::OwnedFd,
}

impl Staging {
    /// The layer is all there and verified.
    pub(crate) fn complete(mut self, diff_id: Digest, stats: LayerStats) -> StagedLayer {
        let name = self.name.take().unwrap_or_default();
        StagedLayer { inner: Arc::clone(&self.inner), name, diff_id, stats }
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && let Err(error) = self.inner.folder.discard(name)
        {
            tracing::warn!(%error, "a part of a layer was not removed; the next start will");
        }
    }
}

impl Store {
    /// Lease `diff_ids`: those that are in the store, and those that come into it while the lease lasts.
    pub(crate) fn lease(&self, diff_ids: &[Digest]) -> Result<LayerLease, StoreError> {
        let database = self.inner.database();
        let mut present = Vec::new();
        for diff_id in diff_ids {
            let found = database::layer(&database, diff_id).map_err(self.inner.failed("look up a layer"))?;
            present.extend(found.map(|_| diff_id.clone()));
        }
        let mut leases = self.inner.leases.lock().unwrap_or_else(PoisonError::into_inner);
        diff_ids.iter().for_each(|diff_id| *leases.entry(diff_id.clone()).or_default() += 1);
        Ok(LayerLease { inner: Arc::clone(&self.inner), leased: diff_ids.to_vec(), present })
    }

    /// A new folder to unpack a layer into.
    pub(crate) fn stage(&self) -> Result<Staging, StoreError> {
        let (name, folder) = self.inner.folder.make_tmp()?;
        Ok(Staging { inner: Arc::clone(&self.inner), name: Some(name), folder })
    }
}
