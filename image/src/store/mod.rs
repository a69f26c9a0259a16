//! The store: images, their layers, and who uses them, in one folder.
//!
//! ```text
//! root/
//!   lock                      held (flock) by the one process that has the store open
//!   store.db                  what exists: images, names, layers, snapshots (SQLite, WAL)
//!   layers/sha256/<hex>/      one unpacked layer, named by its diff id, in overlay form
//!   tars/sha256/<hex>/        what its tree does not hold of its archive, and its compressed blob if those are kept
//!   covers/<hex>/             folders that layers above imply, as layers below describe them, named by chain id
//!   snapshots/<key>/          upper and work folder of one container
//!   empty/                    the lower folder of an image without layers
//!   tmp/                      what is being written or removed; emptied when the store is opened
//! ```
//!
//! Order of every publication: data, one syncfs, rename into place, fsync of the folder, then the row that names it.
//! Order of every removal: the row, then rename into `tmp/`, then the files. So after a crash there are files without
//! a row, which opening the store sweeps; and should a power cut undo a row's removal (SQLite runs with
//! `synchronous=NORMAL`), opening finds the row without its folder and drops it with the images that need it.
//!
//! Other stores may lie below this one, read-only: see `additional`.
//!
//! Reads come from an immutable snapshot in memory. Methods that change something block on disk: call them from a
//! blocking thread.

mod additional;
mod adopt;
mod catalog;
mod covers;
mod database;
mod error;
mod folder;
mod history;
mod image;
mod layers;
mod publish;
mod removal;
mod rootfs;
mod snapshots;
mod stack;
mod sweep;
mod tars;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use rusqlite::{Connection, OptionalExtension};

use crate::reference::{Digest, Reference};
use additional::Additional;
pub use additional::AdditionalFault;
use catalog::Catalog;
pub use error::{RecordError, StoreError};
use folder::Folder;
pub use history::HistoryStep;
pub use image::{FsInfo, Image};
pub(crate) use layers::{LayerLease, LayerStats, StagedLayer};
pub(crate) use publish::{NewImage, NewLayer, names_of};
pub use removal::Removed;
pub use rootfs::{DEFAULT_READ_LIMIT_BYTES, Rootfs};
pub(crate) use rootfs::{merge, merge_for_writing};
pub(crate) use tars::LayerTar;
pub use volume::Volume;

/// A handle on the store; clones share it. The folder is unlocked when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    folder: Folder,
    /// Stores of others that this one stands on, in the order in which they are asked.
    additional: Vec<Additional>,
    /// Locked for every change, and while the catalog is replaced. Taken before `leases` where both are needed.
    database: Mutex<Connection>,
    leases: Mutex<layers::Leases>,
    /// Layers that were found damaged: they count as absent for a pull, which then replaces them.
    damaged: Mutex<BTreeSet<Digest>>,
    catalog: ArcSwap<Catalog>,
    /// Whether compressed blobs of layers are kept.
    keep_blobs: AtomicBool,
}

impl Store {
    /// Open the store below `root`, creating it if it is not there, and sweep what a crash left behind.
    ///
    /// Fails with [`StoreError::InUse`] while another process has it open.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::open_above(root, &[])
    }

    /// [`Store::open`], with the images and layers of the stores at `additional`, which are only read: neither written, nor
    /// removed, nor counted in [`Store::usage`]. One that is absent, damaged or in use by its own daemon is an error.
    pub fn open_above(root: &Path, additional: &[PathBuf]) -> Result<Self, StoreError> {
        let folder = Folder::open(root)?;
        let database = database::open(folder.root())?;
        sweep::sweep(&folder, &database)?;
        let additional = additional.iter().map(|root| Additional::open(root, &folder));
        let additional = additional.collect::<Result<Vec<_>, _>>()?;
        let is_elsewhere = |layer: &Digest| additional.iter().any(|store| store.layer(layer).is_some());
        sweep::forget_images_without_layers(&folder, &database, is_elsewhere)?;
        sweep::forget_covers_without_layers(&folder, &database, is_elsewhere)?;
        let ids = database::images(&database)
            .map_err(|error| StoreError::database("list images", folder.root(), error))?;
        let inner = Arc::new(Inner {
            folder,
            additional,
            database: Mutex::new(database),
            leases: Mutex::default(),
            damaged: Mutex::default(),
            catalog: ArcSwap::default(),
            keep_blobs: AtomicBool::new(false),
        });
        inner.refresh(&inner.database(), &ids)?;
        let store = Self { inner };
        store.collect_unused()?;
        Ok(store)
    }

    /// The folder this store owns.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.inner.folder.root()
    }

    /// Keep the compressed blobs of layers that come from now on, or keep none any more: a push then uploads what was
    /// pulled, byte for byte, at the price of their space. Off at first.
    pub fn set_keep_blobs(&self, keep: bool) {
        self.inner.keep_blobs.store(keep, Ordering::Relaxed);
    }

    /// All images, in the order of their ids. From memory.
    #[must_use]
    pub fn list(&self) -> Arc<[Arc<Image>]> {
        self.inner.catalog.load().list()
    }

    /// The image that `text` means: a name (normalised as [`Reference::parse`] does), `name@digest`, an id with or
    /// without `sha256:`, or a prefix of an id's hexadecimal digits that only one image has. From memory.
    #[must_use]
    pub fn resolve(&self, text: &str) -> Option<Arc<Image>> {
        self.inner.catalog.load().resolve(text)
    }

    /// The image with this id. From memory.
    #[must_use]
    pub fn get(&self, id: &Digest) -> Option<Arc<Image>> {
        self.inner.catalog.load().get(id)
    }

    /// The image with exactly this tag or digest reference. From memory.
    #[must_use]
    pub fn find(&self, reference: &Reference) -> Option<Arc<Image>> {
        self.inner.catalog.load().find(reference)
    }

    /// The image's configuration byte for byte, whose digest is its id: fields that only Docker knows are in it.
    pub fn config_json(&self, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.blob("SELECT config FROM images WHERE id = ?1", id)
    }

    /// The image's manifest for this platform byte for byte.
    pub fn manifest_json(&self, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.blob("SELECT manifest FROM images WHERE id = ?1", id)
    }

    fn blob(&self, query: &str, id: &Digest) -> Result<Option<Vec<u8>>, StoreError> {
        let database = self.inner.database();
        let found = database.query_row(query, [id.to_string()], |row| row.get(0)).optional();
        drop(database);
        if let Some(found) = found.map_err(self.inner.failed("read an image"))? {
            return Ok(Some(found));
        }
        self.inner.additional.iter().find_map(|store| store.blob(query, id).transpose()).transpose()
    }

    /// Give the image one more name (`docker tag`), taking the name from whichever image had it.
    pub fn tag(&self, id: &Digest, name: &Reference) -> Result<(), StoreError> {
        if name.tag().is_none() || name.digest().is_some() {
            return Err(StoreError::NoTag(name.clone()));
        }
        self.insert_name(id, name)
    }

    /// The image is known by this digest reference to a registry.
    pub(crate) fn record_digest(&self, id: &Digest, name: &Reference) -> Result<(), StoreError> {
        self.insert_name(id, name)
    }

    fn insert_name(&self, id: &Digest, name: &Reference) -> Result<(), StoreError> {
        if self.get(id).is_none() {
            return Err(StoreError::NoImage(id.clone()));
        }
        self.adopt(id)?;
        let database = self.inner.database();
        let (name, id) = (name.to_string(), id.to_string());
        let mut changed = publish::owner_of(&database, &name).map_err(self.inner.failed("look up a name"))?;
        database::insert_name(&database, &name, &id).map_err(self.inner.failed("record a name"))?;
        changed.push(id);
        self.inner.refresh(&database, &changed)
    }

    /// Pin the image against removal, or release it.
    pub fn set_pinned(&self, id: &Digest, pinned: bool) -> Result<(), StoreError> {
        self.adopt(id)?;
        let database = self.inner.database();
        let text = id.to_string();
        let changed = database
            .execute("UPDATE images SET pinned = ?2 WHERE id = ?1", rusqlite::params![text, pinned])
            .map_err(self.inner.failed("pin an image"))?;
        if changed == 0 {
            return Err(StoreError::NoImage(id.clone()));
        }
        self.inner.refresh(&database, &[text])
    }

    /// Take a name or digest reference from its image; the image goes with its last tag, or with its last digest
    /// reference if it has no tag. A reference nobody has is [`Removed::Nothing`], not an error.
    pub fn remove_name(&self, reference: &Reference) -> Result<Removed, StoreError> {
        self.take_name(reference)
    }

    /// Remove the image with all its names. Layers that other images, snapshots or running pulls use stay until the
    /// last of them goes. An image that does not exist is [`Removed::Nothing`]; a pinned one is refused.
    pub fn remove(&self, id: &Digest) -> Result<Removed, StoreError> {
        self.take_image(id)
    }

    /// A file of the image's merged root filesystem, `path` being absolute inside it, symlinks followed inside it.
    /// `None` if there is no such path; more than `max_bytes` and anything but a regular file is an error.
    pub fn file(&self, image: &Image, path: &str, max_bytes: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.open_rootfs(image)?.read(path, max_bytes)
    }

    /// The image's merged root filesystem, read-only and mounted nowhere, for several reads.
    pub fn open_rootfs(&self, image: &Image) -> Result<Rootfs, StoreError> {
        Rootfs::open(self, image)
    }

    /// What all layers take, each counted once. From memory; no disk is walked.
    #[must_use]
    pub fn usage(&self) -> FsInfo {
        let (bytes, inodes) = self.inner.catalog.load().totals;
        FsInfo { mountpoint: self.root().to_owned(), bytes, inodes }
    }
}

impl Inner {
    /// The database, locked. A panic elsewhere cannot have left a transaction open: it is rolled back when dropped.
    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
        move |error| StoreError::database(operation, self.folder.root(), error)
    }

    /// Read the images `changed` anew and publish the catalog with them. The database has to be locked.
    fn refresh(&self, database: &Connection, changed: &[String]) -> Result<(), StoreError> {
        let old = self.catalog.load_full();
        let mut images: BTreeMap<_, _> =
            old.own.iter().map(|image| (image.id.to_string(), Arc::clone(image))).collect();
        let elsewhere = |layer: &Digest| {
            self.additional.iter().find_map(|store| store.layer(layer)).map_or(0, |stats| stats.bytes)
        };
        for id in changed {
            match database::image(database, self.folder.root(), id, &elsewhere)? {
                Some(image) => images.insert(id.clone(), Arc::new(image)),
                None => images.remove(id),
            };
        }
        let additional = self.additional.iter().flat_map(Additional::images);
        let totals = database::totals(database).map_err(self.failed("add up layers"))?;
        self.catalog.store(Arc::new(Catalog::new(images.into_values().collect(), additional, totals)));
        Ok(())
    }
}
