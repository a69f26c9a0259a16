//! What a crash left behind goes when the store is opened; what a power cut took is forgotten.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use rusqlite::Connection;
use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::covers::COVERS;
use super::folder::Folder;
use super::{StoreError, covers, database};
use crate::reference::{Algorithm, Digest};

/// Make folder and database agree, and empty `tmp/`.
pub(super) fn sweep(folder: &Folder, database: &Connection) -> Result<(), StoreError> {
    sweep_folder(folder, folder.tmp(), "tmp", &BTreeSet::new())?;
    forget_lost_layers(folder, database)?;
    forget_lost_snapshots(folder, database)?;
    let failed = |operation| move |error| StoreError::database(operation, folder.root(), error);
    let known: BTreeSet<String> =
        database::layers(database).map_err(failed("list layers"))?.into_iter().collect();
    for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
        let prefix = format!("{}:", algorithm.name());
        let names = known.iter().filter_map(|id| id.strip_prefix(&prefix)).map(str::to_owned).collect();
        sweep_folder(folder, folder.tars(algorithm), &format!("tars/{}", algorithm.name()), &names)?;
        sweep_folder(folder, folder.layers(algorithm), &format!("layers/{}", algorithm.name()), &names)?;
    }
    sweep_covers(folder, database)?;
    let keys = database::strings(database, "SELECT key FROM snapshots").map_err(failed("list snapshots"))?;
    sweep_folder(folder, folder.snapshots(), "snapshots", &keys.into_iter().collect())
}

/// Remove everything in `part` (which is `within` the store) that is not in `known`.
fn sweep_folder(
    folder: &Folder,
    part: BorrowedFd<'_>,
    within: &str,
    known: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let failed = |error| StoreError::io("list the folder", folder.root().join(within), error);
    for entry in rustix::fs::Dir::read_from(part).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy();
        if name != "." && name != ".." && !known.contains(name.as_ref()) {
            tracing::info!(folder = within, %name, "removing what an interrupted operation left behind");
            folder.remove_tree(part, within, &name)?;
        }
    }
    Ok(())
}

/// A layer's row without one of its folders means that a power cut undid the row's removal, or that somebody else was here. The
/// images that need the layer are dropped, to be pulled again; their other layers are still good.
fn forget_lost_layers(folder: &Folder, database: &Connection) -> Result<(), StoreError> {
    let failed = |operation| move |error| StoreError::database(operation, folder.root(), error);
    for text in database::layers(database).map_err(failed("list layers"))? {
        let exists = match Digest::parse(&text) {
            Ok(diff_id) => {
                let stats = database::layer(database, &diff_id).map_err(failed("look up a layer"))?;
                let has_archive = stats.is_some_and(|stats| stats.tar_bytes.is_some());
                is_there(folder, folder.layers(diff_id.algorithm()), diff_id.hex())?
                    && (!has_archive || is_there(folder, folder.tars(diff_id.algorithm()), diff_id.hex())?)
            }
            Err(_) => false,
        };
        if exists {
            continue;
        }
        tracing::warn!(
            layer = text,
            "a layer is missing on disk: images that need it have to be pulled again"
        );
        database
            .execute(
                "DELETE FROM images WHERE id IN (SELECT image FROM image_layers WHERE diff_id = ?1)",
                [&text],
            )
            .and_then(|_| database.execute("DELETE FROM layers WHERE diff_id = ?1", [&text]))
            .map_err(failed("forget a layer that is missing"))?;
    }
    Ok(())
}

/// Images of which a layer is neither here nor in an additional store any more are dropped, to be pulled again.
pub(super) fn forget_images_without_layers(
    folder: &Folder,
    database: &Connection,
    is_elsewhere: impl Fn(&Digest) -> bool,
) -> Result<(), StoreError> {
    let failed = |operation| move |error| StoreError::database(operation, folder.root(), error);
    for text in database::layers_elsewhere(database).map_err(failed("list layers of images"))? {
        if Digest::parse(&text).is_ok_and(|diff_id| is_elsewhere(&diff_id)) {
            continue;
        }
        tracing::warn!(
            layer = text,
            "no additional store has the layer: images that need it have to be pulled again"
        );
        let delete = "DELETE FROM images WHERE id IN (SELECT image FROM image_layers WHERE diff_id = ?1)";
        database.execute(delete, [&text]).map_err(failed("forget an image"))?;
    }
    Ok(())
}

/// A cover without a row goes, and so does the row of one that is missing: both are made again when they are needed.
fn sweep_covers(folder: &Folder, database: &Connection) -> Result<(), StoreError> {
    let failed = |operation| move |error| StoreError::database(operation, folder.root(), error);
    let mut known = BTreeSet::new();
    let chains = database::strings(database, "SELECT chain FROM covers WHERE inodes > 0");
    for chain in chains.map_err(failed("list covers"))? {
        let hex = chain.rsplit(':').next().unwrap_or_default();
        if is_there(folder, folder.covers(), hex)? {
            known.insert(hex.to_owned());
        } else {
            covers::forget(database, &chain).map_err(failed("forget a cover that is missing"))?;
        }
    }
    sweep_folder(folder, folder.covers(), COVERS, &known)
}

/// Covers of which a layer is neither here nor in an additional store any more.
pub(super) fn forget_covers_without_layers(
    folder: &Folder,
    database: &Connection,
    is_elsewhere: impl Fn(&Digest) -> bool,
) -> Result<(), StoreError> {
    let failed = |operation| move |error| StoreError::database(operation, folder.root(), error);
    let query = "SELECT DISTINCT diff_id FROM cover_layers u WHERE NOT EXISTS
         (SELECT 1 FROM layers WHERE diff_id = u.diff_id)";
    for text in database::strings(database, query).map_err(failed("list layers of covers"))? {
        if !Digest::parse(&text).is_ok_and(|diff_id| is_elsewhere(&diff_id)) {
            let delete =
                "DELETE FROM covers WHERE chain IN (SELECT chain FROM cover_layers WHERE diff_id = ?1)";
            database.execute(delete, [&text]).map_err(failed("forget a cover"))?;
        }
    }
    sweep_covers(folder, database)
}

fn forget_lost_snapshots(folder: &Folder, database: &Connection) -> Result<(), StoreError> {
    let failed = |operation| move |error| StoreError::database(operation, folder.root(), error);
    for key in database::strings(database, "SELECT key FROM snapshots").map_err(failed("list snapshots"))? {
        if !is_there(folder, folder.snapshots(), &key)? {
            tracing::warn!(key, "a snapshot is missing on disk");
            database
                .execute("DELETE FROM snapshots WHERE key = ?1", [&key])
                .map_err(failed("forget a snapshot that is missing"))?;
        }
    }
    Ok(())
}

fn is_there(folder: &Folder, part: BorrowedFd<'_>, name: &str) -> Result<bool, StoreError> {
    match statat(part, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(StoreError::io("examine", folder.root().join(name), error)),
    }
}
