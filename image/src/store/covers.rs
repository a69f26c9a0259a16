//! Covers: a layer of nothing but folders, on top of an image's own layers, where some of these only imply folders that
//! lower ones describe.
//!
//! A layer is unpacked without those below it and shared by all images that have it, whatever is below it in each. So it
//! cannot hold whose its implied folders are; what an image as a whole needs of that is in a cover of its own, named by
//! the chain of its layers. Most images need none: their layers have an entry for each folder, or imply only what is
//! root's anyway. What was found out is recorded, so that layers are looked through once.
//!
//! A cover follows from its layers, so nothing is lost with it: it goes with the first of its layers that goes, is made
//! when it is first needed, and made again where a crash has taken it or its row.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, params};
use rustix::fs::{Mode, OFlags, mkdirat, openat};

use super::additional::LayerPlace;
use super::stack::{Attributes, Stack};
use super::{Inner, Store, StoreError, database};
use crate::reference::{Algorithm, Digest, Hasher};
use crate::tree::{Measured, measure};

/// The folder of all covers in the store's.
pub(super) const COVERS: &str = "covers";

impl Store {
    /// The cover of an image with `layers` (lowest first), which are at `places` (topmost first), if it needs one. The
    /// layers stay where they are meanwhile: the caller leases them, or a snapshot of its has them.
    pub(super) fn cover(
        &self,
        layers: &[Digest],
        places: &[LayerPlace],
    ) -> Result<Option<PathBuf>, StoreError> {
        if places.len() < 2 {
            return Ok(None);
        }
        let chain = chain_of(layers);
        let known = find(&self.inner.database(), &chain).map_err(self.inner.failed("look up a cover"))?;
        let is_needed = known.map_or_else(|| self.make_cover(&chain, layers, places), Ok)?;
        Ok(is_needed.then(|| self.root().join(COVERS).join(chain.hex())))
    }

    /// Find out whether a cover is needed, make it if so, and record that.
    fn make_cover(
        &self,
        chain: &Digest,
        layers: &[Digest],
        places: &[LayerPlace],
    ) -> Result<bool, StoreError> {
        let folders = Stack::open(places)?.misshown()?;
        let folder = &self.inner.folder;
        let made = if folders.is_empty() { None } else { Some(self.lay_out(&folders)?) };
        let mut database = self.inner.database();
        let mut leftovers: Vec<_> = made.iter().map(|(name, _)| name.clone()).collect();
        // Another thread may have been faster.
        if find(&database, chain).map_err(self.inner.failed("look up a cover"))?.is_none() {
            if let Some((name, _)) = &made {
                leftovers = folder.publish(name, folder.covers(), chain.hex())?.into_iter().collect();
            }
            let figures = made.as_ref().map(|(_, figures)| *figures).unwrap_or_default();
            insert(&mut database, chain, layers, figures).map_err(self.inner.failed("record a cover"))?;
            self.inner.refresh(&database, &[])?;
        }
        drop(database);
        self.discard_all(&leftovers)?;
        Ok(made.is_some())
    }

    /// Make the folders in `tmp/`: its name there, and what they take.
    fn lay_out(&self, folders: &BTreeMap<Vec<u8>, Attributes>) -> Result<(String, Measured), StoreError> {
        let folder = &self.inner.folder;
        let (name, root) = folder.make_tmp()?;
        let made = lay_out(&root, folders).and_then(|()| {
            measure(folder.tmp(), name.as_bytes())
                .map_err(|error| StoreError::io(error.operation, error.path, error.source))
        });
        match made {
            Ok(figures) => Ok((name, figures)),
            Err(error) => {
                if let Err(error) = folder.discard(&name) {
                    tracing::warn!(%error, "an unfinished cover was not removed; the next start will");
                }
                Err(error)
            }
        }
    }
}

impl Inner {
    /// Take the covers over the layer `diff_id`, which goes, out of the database and out of their places. Returns their
    /// names in `tmp/`.
    pub(super) fn collect_covers(
        &self,
        database: &Connection,
        diff_id: &str,
    ) -> Result<Vec<String>, StoreError> {
        let query = "SELECT chain FROM cover_layers WHERE diff_id = ?1";
        let chains =
            database::strings_of(database, query, diff_id).map_err(self.failed("look for covers"))?;
        let mut doomed = Vec::new();
        for chain in chains {
            forget(database, &chain).map_err(self.failed("remove a cover"))?;
            let hex = chain.rsplit(':').next().unwrap_or_default();
            doomed.extend(self.folder.retract(self.folder.covers(), hex)?);
        }
        Ok(doomed)
    }
}

/// Make `folders`, by path and with all above each, in `root`.
fn lay_out(root: &OwnedFd, folders: &BTreeMap<Vec<u8>, Attributes>) -> Result<(), StoreError> {
    use std::os::unix::ffi::OsStrExt;
    let failed = |path: &[u8]| {
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        move |error| StoreError::io("make in the cover of an image the folder", path, error)
    };
    for path in folders.keys().filter(|path| !path.is_empty()) {
        mkdirat(root, &path[..], Mode::RWXU).map_err(failed(path))?;
    }
    // From the innermost: making a folder, and closing one to others, concerns what is in it.
    for (path, attributes) in folders.iter().rev() {
        let open = open_plain(root.as_fd(), path).map_err(failed(path))?;
        attributes.apply(open.as_fd()).map_err(failed(path))?;
    }
    Ok(())
}

/// A folder of our own making, which nobody else writes to and which has no links.
fn open_plain(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, rustix::io::Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    openat(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The chain id of `layers`, lowest first (OCI image specification, "Layer ChainID").
fn chain_of(layers: &[Digest]) -> Digest {
    let mut chain: Option<Digest> = None;
    for layer in layers {
        chain = Some(match chain {
            None => layer.clone(),
            Some(below) => {
                let mut hasher = Hasher::new(Algorithm::Sha256);
                hasher.update(format!("{below} {layer}").as_bytes());
                hasher.finish()
            }
        });
    }
    chain.unwrap_or_else(|| Digest::of(b""))
}

/// Whether the chain needs a cover, if that is known.
fn find(database: &Connection, chain: &Digest) -> rusqlite::Result<Option<bool>> {
    let mut query = database.prepare_cached("SELECT inodes > 0 FROM covers WHERE chain = ?1")?;
    query.query_row([chain.to_string()], |row| row.get(0)).optional()
}

fn insert(
    database: &mut Connection,
    chain: &Digest,
    layers: &[Digest],
    figures: Measured,
) -> rusqlite::Result<()> {
    let transaction = database.transaction()?;
    let (bytes, inodes) = (database::signed(figures.bytes), database::signed(figures.inodes));
    transaction
        .execute("INSERT INTO covers VALUES (?1, ?2, ?3)", params![chain.to_string(), bytes, inodes])?;
    let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO cover_layers VALUES (?1, ?2)")?;
    for layer in layers {
        insert.execute(params![chain.to_string(), layer.to_string()])?;
    }
    drop(insert);
    transaction.commit()
}

/// Drop the row of a chain, so that it is looked at again when it is needed.
pub(super) fn forget(database: &Connection, chain: &str) -> rusqlite::Result<()> {
    database.execute("DELETE FROM covers WHERE chain = ?1", [chain]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_named_as_the_specification_says() {
        let layers = [Digest::of(b"1"), Digest::of(b"2"), Digest::of(b"3")];
        assert_eq!(chain_of(&layers[..1]), layers[0]);
        let two = Digest::of(format!("{} {}", layers[0], layers[1]).as_bytes());
        assert_eq!(chain_of(&layers[..2]), two);
        assert_eq!(chain_of(&layers), Digest::of(format!("{two} {}", layers[2]).as_bytes()));
    }
}
