//! A layer's archive again, from its tree and what was kept beside it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::PoisonError;

use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::Errno;

use super::layers::LayerLease;
use super::{Inner, Store, StoreError};
use crate::reference::{Digest, Hasher};
use crate::unpack::reproduce;

/// A layer whose archive can be had; it stays in the store as long as this lives.
pub(crate) struct LayerTar {
    pub(crate) diff_id: Digest,
    /// Size of the archive.
    pub(crate) bytes: u64,
    tree: OwnedFd,
    kept: OwnedFd,
    _lease: LayerLease,
}

impl Store {
    /// The layer `diff_id` of `image`, for its archive.
    pub(crate) fn layer_tar(&self, image: &Digest, diff_id: &Digest) -> Result<LayerTar, StoreError> {
        let lease = self.lease(std::slice::from_ref(diff_id))?;
        let missing = || StoreError::LayerMissing { image: image.clone(), layer: diff_id.clone() };
        let found = self.inner.find_layer(&self.inner.database(), diff_id)?.ok_or_else(missing)?;
        let bytes = found.stats.tar_bytes.ok_or_else(|| StoreError::NoArchive(diff_id.clone()))?;
        let open = |folder: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            open(folder, flags, Mode::empty())
                .map_err(|error| StoreError::io("open the folder of layer", diff_id.to_string(), error))
        };
        let (tree, kept) = (open(&found.place.tree)?, open(&found.place.kept)?);
        Ok(LayerTar { diff_id: diff_id.clone(), bytes, tree, kept, _lease: lease })
    }

    /// Check that everything of the image is as it was when it came: each layer's archive is made again and its digest
    /// compared. Returns the diff ids of layers that are damaged. The next pull of an image that has them fetches and
    /// replaces these layers and no others.
    pub fn verify(&self, image: &super::Image) -> Result<Vec<Digest>, StoreError> {
        let mut damaged = Vec::new();
        for diff_id in &image.layers {
            let checked = self.layer_tar(&image.id, diff_id).and_then(|tar| tar.write(io::sink()));
            match checked {
                Ok(()) => {}
                Err(StoreError::DamagedLayer { layer, .. } | StoreError::Archive { layer, .. }) => {
                    damaged.push(layer);
                }
                Err(error) => return Err(error),
            }
        }
        self.inner.set_damaged(&damaged, true);
        Ok(damaged)
    }
}

impl Inner {
    pub(super) fn is_damaged(&self, diff_id: &Digest) -> bool {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(diff_id)
    }

    pub(super) fn set_damaged<'a>(&self, layers: impl IntoIterator<Item = &'a Digest>, damaged: bool) {
        let mut known = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in layers {
            if damaged {
                known.insert(layer.clone());
            } else {
                known.remove(layer);
            }
        }
    }
}

impl LayerTar {
    /// Write the archive. An error after the last byte says that what was written is not the layer's archive.
    pub(crate) fn write(&self, out: impl Write) -> Result<(), StoreError> {
        let mut digested = Digested { out, hasher: Hasher::new(self.diff_id.algorithm()) };
        reproduce(self.tree.as_fd(), self.kept.as_fd(), &mut digested)
            .map_err(|source| StoreError::Archive { layer: self.diff_id.clone(), source })?;
        let actual = digested.hasher.finish();
        if actual == self.diff_id {
            return Ok(());
        }
        Err(StoreError::DamagedLayer { layer: self.diff_id.clone(), actual })
    }

    /// The compressed blob `digest` it came as, if that was kept.
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.kept, digest.to_string(), flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(StoreError::io("open the blob", digest.to_string(), error)),
        }
    }
}

/// Passes bytes on and digests them.
struct Digested<W> {
    out: W,
    hasher: Hasher,
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
