//! Stores of others that this one stands on: their images and layers are used where they are. Nothing in them is ever
//! written, removed or counted; what an image of theirs is called here, once somebody names it, is this store's record.
//!
//! Such a folder may be on a file system that is read-only or shared by many nodes. As long as it is used it is locked
//! (flock, shared) against the daemon that it belongs to. SQLite cannot read a database in WAL mode without writing beside
//! it, so what is read is a copy in this store's `tmp/`.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;

use super::folder::Folder;
use super::image::Image;
use super::layers::LayerStats;
use super::{StoreError, database};
use crate::reference::Digest;

/// The first version of the tables that has all that is read here.
const LEAST_VERSION: i64 = 2;

/// Why a folder cannot be used as an additional store.
#[derive(Debug, thiserror::Error)]
pub enum AdditionalFault {
    /// It is not there, or nobody ever kept images in it.
    #[error("there is no image store: it has to be the folder `image` in the root folder of a cleatd")]
    Absent,
    /// It was written by a version that is too old or too new to be read.
    #[error(
        "its records have version {found}, and {least} to {known} can be read: open it once with this version"
    )]
    Version {
        /// Its version.
        found: i64,
        /// The earliest that can be read.
        least: i64,
        /// The latest known here.
        known: i64,
    },
    /// Its records are no database, or a damaged one.
    #[error("its records are damaged: {0}")]
    Records(String),
    /// A layer that its records name is not there.
    #[error("layer {0}, which its records name, is missing")]
    LayerMissing(Digest),
}

/// One additional store, open.
pub(super) struct Additional {
    root: PathBuf,
    /// A copy of its records.
    database: Mutex<Connection>,
    layers: BTreeMap<Digest, LayerStats>,
    images: Vec<Arc<Image>>,
    /// Holds the lock by being open.
    _lock: OwnedFd,
}

impl Additional {
    /// Open the store at `root`, with a copy of its records in `own`.
    pub(super) fn open(root: &Path, own: &Folder) -> Result<Self, StoreError> {
        let faulty = |source| StoreError::Additional { root: root.to_owned(), source };
        let lock = lock(root)?;
        let database = Mutex::new(copy_records(root, own)?);
        let mut additional = Self {
            root: root.to_owned(),
            database,
            layers: BTreeMap::new(),
            images: Vec::new(),
            _lock: lock,
        };
        let (layers, images) = {
            let database = additional.database();
            (
                additional.read_layers(&database)?,
                database::images(&database).map_err(|e| faulty(records(&e)))?,
            )
        };
        additional.layers = layers;
        for id in images {
            additional.images.extend(additional.read_image(&id)?.map(Arc::new));
        }
        Ok(additional)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn images(&self) -> &[Arc<Image>] {
        &self.images
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> Option<LayerStats> {
        self.layers.get(diff_id).copied()
    }

    /// What `query` finds of the image.
    pub(super) fn blob(&self, query: &str, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.database().query_row(query, [id.to_string()], |row| row.get(0)).optional();
        found.map_err(|error| self.faulty(records(&error)))
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn faulty(&self, source: AdditionalFault) -> StoreError {
        StoreError::Additional { root: self.root.clone(), source }
    }

    /// All layers; each has to be there.
    fn read_layers(&self, database: &Connection) -> Result<BTreeMap<Digest, LayerStats>, StoreError> {
        let failed = |error: rusqlite::Error| self.faulty(records(&error));
        let mut found = BTreeMap::new();
        for text in database::layers(database).map_err(failed)? {
            let damaged =
                |error: &dyn std::fmt::Display| self.faulty(AdditionalFault::Records(error.to_string()));
            let diff_id = Digest::parse(&text).map_err(|error| damaged(&error))?;
            let Some(stats) = database::layer(database, &diff_id).map_err(failed)? else { continue };
            let place = LayerPlace::new(&self.root, &diff_id);
            let folders = [Some(&place.tree), stats.tar_bytes.map(|_| &place.kept)];
            if folders.into_iter().flatten().any(|folder| !folder.is_dir()) {
                return Err(self.faulty(AdditionalFault::LayerMissing(diff_id)));
            }
            found.insert(diff_id, stats);
        }
        Ok(found)
    }

    fn read_image(&self, id: &str) -> Result<Option<Image>, StoreError> {
        let bytes = |layer: &Digest| self.layers.get(layer).map_or(0, |stats| stats.bytes);
        let Some(image) = database::image(&self.database(), &self.root, id, &bytes)? else { return Ok(None) };
        if let Some(missing) = image.layers.iter().find(|layer| !self.layers.contains_key(layer)) {
            return Err(self.faulty(AdditionalFault::LayerMissing(missing.clone())));
        }
        // Nobody here can remove it, so nobody is to try.
        Ok(Some(Image { pinned: true, ..image }))
    }
}

/// Where a layer is.
pub(super) struct LayerPlace {
    /// Its tree.
    pub(super) tree: PathBuf,
    /// What its tree does not hold of its archive.
    pub(super) kept: PathBuf,
}

impl LayerPlace {
    pub(super) fn new(root: &Path, diff_id: &Digest) -> Self {
        let place = |part: &str| root.join(part).join(diff_id.algorithm().name()).join(diff_id.hex());
        Self { tree: place("layers"), kept: place("tars") }
    }
}

fn records(error: &rusqlite::Error) -> AdditionalFault {
    AdditionalFault::Records(error.to_string())
}

/// Keep whoever it belongs to from changing it.
fn lock(root: &Path) -> Result<OwnedFd, StoreError> {
    let path = root.join("lock");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = open(&path, flags, Mode::empty()).map_err(|error| match error {
        Errno::NOENT | Errno::NOTDIR => {
            StoreError::Additional { root: root.to_owned(), source: AdditionalFault::Absent }
        }
        error => StoreError::io("open the lock", &path, error),
    })?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(StoreError::InUse(root.to_owned())),
        Err(error) => Err(StoreError::io("lock", &path, error)),
    }
}

/// The records as its daemon left them, whether or not it closed them: a copy of the database with its log.
fn copy_records(root: &Path, own: &Folder) -> Result<Connection, StoreError> {
    let faulty = |source| StoreError::Additional { root: root.to_owned(), source };
    let (name, _) = own.make_tmp()?;
    let copies = own.root().join("tmp").join(name);
    for (file, is_needed) in [("store.db", true), ("store.db-wal", false)] {
        match std::fs::copy(root.join(file), copies.join(file)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !is_needed => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(faulty(AdditionalFault::Absent));
            }
            Err(error) => {
                let error = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(StoreError::io("copy the records", root.join(file), error));
            }
        }
    }
    let failed = |error: rusqlite::Error| faulty(records(&error));
    let database = Connection::open(copies.join("store.db")).map_err(failed)?;
    let fault: String = database.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if fault != "ok" {
        return Err(faulty(AdditionalFault::Records(fault)));
    }
    let found = database::version(&database).map_err(failed)?;
    let (least, known) = (LEAST_VERSION, database::LATEST_VERSION);
    if !(least..=known).contains(&found) {
        return Err(faulty(AdditionalFault::Version { found, least, known }));
    }
    Ok(database)
}

/// What is to be seen: the store's own images, and those of additional stores, earlier stores first. An image that is in
/// several is one with all its names; a name that several have is the earlier one's.
pub(super) fn merged<'a>(
    own: &[Arc<Image>],
    additional: impl IntoIterator<Item = &'a Arc<Image>>,
) -> Vec<Arc<Image>> {
    let mut all: BTreeMap<Digest, Arc<Image>> =
        own.iter().map(|image| (image.id.clone(), Arc::clone(image))).collect();
    let mut taken: BTreeSet<_> = own
        .iter()
        .flat_map(|image| image.names.iter().chain(&image.digests))
        .map(ToString::to_string)
        .collect();
    for image in additional {
        let mut more = Image::clone(image);
        more.names.retain(|name| taken.insert(name.to_string()));
        more.digests.retain(|name| taken.insert(name.to_string()));
        if let Some(known) = all.get(&image.id) {
            let pinned = known.pinned;
            more.names.extend_from_slice(&known.names);
            more.digests.extend_from_slice(&known.digests);
            more.names.sort_by_key(ToString::to_string);
            more.digests.sort_by_key(ToString::to_string);
            more = Image { names: more.names, digests: more.digests, pinned, ..Image::clone(known) };
        }
        all.insert(image.id.clone(), Arc::new(more));
    }
    all.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    fn image(hex: &str, names: &[&str], pinned: bool) -> Arc<Image> {
        let id = Digest::parse(&format!("sha256:{hex:0<64}")).unwrap();
        Arc::new(Image {
            manifest: id.clone(),
            id,
            names: names.iter().map(|text| Reference::parse(text).unwrap()).collect(),
            digests: Vec::new(),
            size_bytes: 1,
            config: oci_spec::image::ImageConfiguration::default(),
            layers: Vec::new(),
            pinned,
        })
    }

    #[test]
    fn an_earlier_store_wins_a_name_and_none_is_lost() {
        let own = [image("a", &["app:1"], false)];
        let others = [
            image("a", &["app:1", "app:old"], true),
            image("b", &["app:1"], true),
            image("b", &["b:1"], true),
        ];
        let all = merged(&own, &others);
        assert_eq!(all.len(), 2);
        assert_eq!((&*all[0], all[0].pinned), (&*image("a", &["app:1", "app:old"], false), false));
        assert_eq!(all[1], image("b", &["b:1"], true));
        assert_eq!(merged(&own, []), own);
    }
}
