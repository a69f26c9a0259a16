//! Snapshots for overlayfs.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchmod, fchown, mkdirat, openat, stat};
use rustix::io::Errno;

use super::{MAX_KEY_CHARS, Snapshot, SnapshotError, Snapshotter, Usage};
use crate::reference::{Digest, shorten};
use crate::store::{Image, Store, StoreError};
use crate::tree::{self, ChangeKind};

/// Name of the folder a container writes to.
const UPPER: &str = "upper";
/// Name of overlay's scratch folder.
const WORK: &str = "work";

/// Snapshots for overlayfs, kept in a [`Store`].
#[derive(Clone)]
pub struct Overlay {
    store: Store,
}

impl Overlay {
    /// Snapshots in this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Make the folders of a snapshot in `tmp/`. The upper folder's mode and owner are what a container sees of its `/`,
    /// so they are those of the image's topmost layer.
    fn make_folders(&self, top: &Path) -> Result<String, StoreError> {
        let folder = self.store.folder();
        let (name, parent) = folder.make_tmp()?;
        let make = || {
            let like = stat(top)?;
            mkdirat(&parent, WORK, Mode::RWXU)?;
            mkdirat(&parent, UPPER, Mode::RWXU)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let upper = openat(&parent, UPPER, flags, Mode::empty())?;
            fchown(&upper, Some(Uid::from_raw(like.st_uid)), Some(Gid::from_raw(like.st_gid)))?;
            fchmod(&upper, Mode::from_raw_mode(like.st_mode))
        };
        match make() {
            Ok(()) => Ok(name),
            Err(error) => {
                let failure = StoreError::io("make the folders of a snapshot above", top, error);
                self.abandon(&name);
                Err(failure)
            }
        }
    }

    /// Remove prepared folders whose failure is being reported already.
    fn abandon(&self, tmp: &str) {
        if let Err(error) = self.store.folder().discard(tmp) {
            tracing::warn!(%error, "an unfinished snapshot was not removed; the next start will");
        }
    }

    fn make(&self, key: &str, image: &Image) -> Result<bool, StoreError> {
        let _lease = self.store.lease(&image.layers)?;
        let lower = self.store.lower_paths(&image.id, &image.layers)?;
        let tmp = self.make_folders(&lower[0])?;
        let inserted = self.store.insert_snapshot(key, &image.id, &image.layers, &tmp);
        if !matches!(inserted, Ok(true)) {
            self.abandon(&tmp);
        }
        inserted
    }

    fn assemble(&self, key: &str) -> Result<Option<Snapshot>, StoreError> {
        let Some(record) = self.store.snapshot(key)? else { return Ok(None) };
        let parse = |text: &str| {
            Digest::parse(text).map_err(|error| StoreError::Damaged {
                id: record.image.clone(),
                what: "a digest in a snapshot of it",
                source: error.into(),
            })
        };
        let image = parse(&record.image)?;
        let layers = record.layers.iter().map(|layer| parse(layer)).collect::<Result<Vec<_>, _>>()?;
        let lower = self.store.lower_paths(&image, &layers)?;
        let folder = self.store.root().join("snapshots").join(key);
        Ok(Some(Snapshot {
            key: key.to_owned(),
            image,
            lower,
            upper: folder.join(UPPER),
            work: folder.join(WORK),
        }))
    }
}

impl Snapshotter for Overlay {
    fn prepare(&self, key: &str, image: &Image) -> Result<Snapshot, SnapshotError> {
        check_key(key)?;
        let failed = |source| of_store(key, source);
        if self.assemble(key).map_err(failed)?.is_none() {
            self.make(key, image).map_err(failed)?;
        }
        let snapshot =
            self.assemble(key).map_err(failed)?.ok_or_else(|| SnapshotError::NotFound(key.to_owned()))?;
        if snapshot.image != image.id {
            return Err(SnapshotError::Exists { key: key.to_owned(), image: snapshot.image });
        }
        Ok(snapshot)
    }

    fn hold(&self, key: &str, image: &Image) -> Result<(), SnapshotError> {
        check_key(key)?;
        match self.store.hold(key, &image.id, &image.layers).map_err(|source| of_store(key, source))? {
            true => Ok(()),
            false => Err(SnapshotError::NotFound(key.to_owned())),
        }
    }

    fn get(&self, key: &str) -> Result<Option<Snapshot>, SnapshotError> {
        check_key(key)?;
        self.assemble(key).map_err(|source| of_store(key, source))
    }

    fn remove(&self, key: &str) -> Result<(), SnapshotError> {
        check_key(key)?;
        self.store.remove_snapshot(key).map_err(|source| of_store(key, source))
    }

    fn list(&self) -> Result<Vec<String>, SnapshotError> {
        self.store.snapshot_keys().map_err(|source| of_store("", source))
    }

    fn usage(&self, key: &str) -> Result<Usage, SnapshotError> {
        check_key(key)?;
        let path = format!("{key}/{UPPER}");
        let folder = self.store.folder();
        if self.store.snapshot(key).map_err(|source| of_store(key, source))?.is_none() {
            return Err(SnapshotError::NotFound(key.to_owned()));
        }
        let measured =
            crate::tree::measure(folder.snapshots(), path.as_bytes()).map_err(|error| SnapshotError::Io {
                operation: error.operation,
                path: folder.root().join("snapshots").join(error.path),
                source: error.source,
            })?;
        Ok(Usage { bytes: measured.bytes, inodes: measured.inodes })
    }
}

impl Overlay {
    /// What a container has changed of its image: paths, absolute inside, in order. Those in `hidden` are left out, and the
    /// folders on the way to them where nothing else in them has changed.
    ///
    /// # Errors
    /// When there is no snapshot with this key, or it cannot be read.
    pub fn changes(
        &self,
        key: &str,
        hidden: &BTreeSet<Vec<u8>>,
    ) -> Result<Vec<(Vec<u8>, ChangeKind)>, SnapshotError> {
        let found = self.get(key)?.ok_or_else(|| SnapshotError::NotFound(key.to_owned()))?;
        let lower = crate::store::merge(&found.lower).map_err(|source| of_store(key, source))?;
        let (path, folder) = (format!("{key}/{UPPER}"), self.store.folder());
        let changes = tree::changes(folder.snapshots(), path.as_bytes(), lower.as_fd(), hidden);
        let changes = changes.map_err(|error| SnapshotError::Io {
            operation: error.operation,
            path: folder.root().join("snapshots").join(error.path),
            source: error.source,
        })?;
        Ok(changes.into_iter().collect())
    }
}

impl Overlay {
    /// The merged tree of a snapshot whose overlay is mounted nowhere, for reading it or also for writing to it. It is
    /// gone when the descriptor is closed; until then nobody else may mount it where it is written to.
    ///
    /// # Errors
    /// When there is no snapshot with this key, or it cannot be mounted.
    pub fn open(&self, key: &str, for_writing: bool) -> Result<OwnedFd, SnapshotError> {
        let found = self.get(key)?.ok_or_else(|| SnapshotError::NotFound(key.to_owned()))?;
        let merged = if for_writing {
            crate::store::merge_for_writing(&found.lower, (&found.upper, &found.work))
        } else {
            crate::store::merge(&[vec![found.upper], found.lower].concat())
        };
        merged.map_err(|source| of_store(key, source))
    }
}

/// A key becomes the name of a folder.
fn check_key(key: &str) -> Result<(), SnapshotError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let fits = (1..=MAX_KEY_CHARS).contains(&key.len());
    if fits && key.bytes().all(plain) && !key.starts_with('.') {
        return Ok(());
    }
    Err(SnapshotError::Key(shorten(key)))
}

fn of_store(key: &str, source: StoreError) -> SnapshotError {
    match source {
        StoreError::LayerMissing { image, layer } => SnapshotError::LayerMissing { image, layer },
        StoreError::Io { operation, path, source } => SnapshotError::Io { operation, path, source },
        StoreError::NoSpace { operation, path } => {
            SnapshotError::Io { operation, path, source: Errno::NOSPC }
        }
        source => SnapshotError::Store { key: key.to_owned(), source: source.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_plain_file_name() {
        for key in ["a", "a-b_c.1", &"k".repeat(128)] {
            assert!(check_key(key).is_ok(), "{key}");
        }
        for key in ["", ".", "..", ".a", "a/b", "a b", "a\0", "é", &"k".repeat(129)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
    }
}
