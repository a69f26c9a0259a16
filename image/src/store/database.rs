//! The store's records: schema, migrations and queries. No file is touched here.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use super::error::RecordError;
use super::image::Image;
use super::layers::LayerStats;
use super::{NewImage, StoreError};
use crate::reference::{Digest, Reference};

/// Each entry takes the schema one version further; entries that were released are never changed.
const MIGRATIONS: [&str; 5] = [
    "
    CREATE TABLE layers (
        diff_id TEXT PRIMARY KEY, bytes INTEGER NOT NULL, inodes INTEGER NOT NULL, opaque_root INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE images (
        id TEXT PRIMARY KEY, config BLOB NOT NULL, manifest_digest TEXT NOT NULL, manifest BLOB NOT NULL,
        pinned INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE image_layers (
        image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL,
        diff_id TEXT NOT NULL REFERENCES layers, PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layers_by_layer ON image_layers (diff_id);
    CREATE TABLE names (
        reference TEXT PRIMARY KEY, image TEXT NOT NULL REFERENCES images ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX names_by_image ON names (image);
    CREATE TABLE snapshots (key TEXT PRIMARY KEY, image TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE snapshot_layers (
        key TEXT NOT NULL REFERENCES snapshots ON DELETE CASCADE, position INTEGER NOT NULL,
        diff_id TEXT NOT NULL, PRIMARY KEY (key, position)
    ) WITHOUT ROWID;
    CREATE INDEX snapshot_layers_by_layer ON snapshot_layers (diff_id);
",
    "ALTER TABLE layers ADD COLUMN tar_bytes INTEGER;",
    "CREATE TABLE snapshot_holds (
        key TEXT NOT NULL REFERENCES snapshots ON DELETE CASCADE, diff_id TEXT NOT NULL, PRIMARY KEY (key, diff_id)
    ) WITHOUT ROWID;
    CREATE INDEX snapshot_holds_by_layer ON snapshot_holds (diff_id);",
    // A layer of an image may be in an additional store, and has no row then.
    "CREATE TABLE image_layers_4 (
        image TEXT NOT NULL REFERENCES images ON DELETE CASCADE, position INTEGER NOT NULL, diff_id TEXT NOT NULL,
        PRIMARY KEY (image, position)
    ) WITHOUT ROWID;
    INSERT INTO image_layers_4 SELECT image, position, diff_id FROM image_layers;
    DROP TABLE image_layers;
    ALTER TABLE image_layers_4 RENAME TO image_layers;
    CREATE INDEX image_layers_by_layer ON image_layers (diff_id);",
    // A chain that needs no cover has a row that says so: no inodes.
    "CREATE TABLE covers (chain TEXT PRIMARY KEY, bytes INTEGER NOT NULL, inodes INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE cover_layers (
        chain TEXT NOT NULL REFERENCES covers ON DELETE CASCADE, diff_id TEXT NOT NULL, PRIMARY KEY (chain, diff_id)
    ) WITHOUT ROWID;
    CREATE INDEX cover_layers_by_layer ON cover_layers (diff_id);",
];
/// The version of the tables after the last of [`MIGRATIONS`].
pub(super) const LATEST_VERSION: i64 = MIGRATIONS.len() as i64;

/// Open the database in the store's folder and bring its schema up to date.
pub(super) fn open(root: &Path) -> Result<Connection, StoreError> {
    let failed = |operation| move |error| StoreError::database(operation, root, error);
    let mut database = Connection::open(root.join("store.db")).map_err(failed("open tables"))?;
    database
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;")
        .map_err(failed("set up tables"))?;
    let found = version(&database).map_err(failed("read the version of the tables"))?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(found).ok().filter(|done| *done <= known);
    let done = done.ok_or(StoreError::Version { root: root.to_owned(), found, known: LATEST_VERSION })?;
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let step = database.transaction().map_err(failed("begin a migration"))?;
        step.execute_batch(migration).map_err(failed("migrate tables"))?;
        step.pragma_update(None, "user_version", version as i64 + 1).map_err(failed("migrate tables"))?;
        step.commit().map_err(failed("finish a migration"))?;
    }
    Ok(database)
}

/// The version of the tables.
pub(super) fn version(database: &Connection) -> rusqlite::Result<i64> {
    database.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Record an image, its layers and its names; a name another image had is taken from it.
pub(super) fn insert_image(
    database: &Connection,
    image: &NewImage<'_>,
    names: &[String],
) -> rusqlite::Result<()> {
    let id = image.id.to_string();
    let mut layer = database.prepare_cached("INSERT OR IGNORE INTO layers VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for staged in image.layers.iter().filter_map(|layer| layer.staged) {
        let LayerStats { bytes, inodes, opaque_root, tar_bytes } = staged.stats;
        let (id, tar_bytes) = (staged.diff_id.to_string(), tar_bytes.map(signed));
        layer.execute(params![id, signed(bytes), signed(inodes), opaque_root, tar_bytes])?;
    }
    database.execute(
        "INSERT INTO images (id, config, manifest_digest, manifest) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET manifest_digest = excluded.manifest_digest, manifest = excluded.manifest",
        params![id, image.config, image.manifest_digest.to_string(), image.manifest],
    )?;
    let mut used = database.prepare_cached("INSERT OR REPLACE INTO image_layers VALUES (?1, ?2, ?3)")?;
    for (position, layer) in image.layers.iter().enumerate() {
        used.execute(params![id, signed(position as u64), layer.diff_id.to_string()])?;
    }
    names.iter().try_for_each(|name| insert_name(database, name, &id))
}

/// Give `image` the name `reference`.
pub(super) fn insert_name(database: &Connection, reference: &str, image: &str) -> rusqlite::Result<()> {
    let mut insert = database.prepare_cached("INSERT OR REPLACE INTO names VALUES (?1, ?2)")?;
    insert.execute(params![reference, image]).map(drop)
}

/// What the database knows of a layer.
pub(super) fn layer(database: &Connection, diff_id: &Digest) -> rusqlite::Result<Option<LayerStats>> {
    let mut query = database
        .prepare_cached("SELECT bytes, inodes, opaque_root, tar_bytes FROM layers WHERE diff_id = ?1")?;
    query
        .query_row([diff_id.to_string()], |row| {
            let (bytes, inodes) = (unsigned(row.get(0)?), unsigned(row.get(1)?));
            let tar_bytes = row.get::<_, Option<i64>>(3)?.map(unsigned);
            Ok(LayerStats { bytes, inodes, opaque_root: row.get(2)?, tar_bytes })
        })
        .optional()
}

/// Diff ids of all layers.
pub(super) fn layers(database: &Connection) -> rusqlite::Result<Vec<String>> {
    strings(database, "SELECT diff_id FROM layers")
}

/// Diff ids of the layers that neither an image nor a snapshot uses.
pub(super) fn unused_layers(database: &Connection) -> rusqlite::Result<Vec<String>> {
    strings(
        database,
        "SELECT diff_id FROM layers WHERE NOT EXISTS (SELECT 1 FROM image_layers u WHERE u.diff_id = layers.diff_id)
         AND NOT EXISTS (SELECT 1 FROM snapshot_layers u WHERE u.diff_id = layers.diff_id)
         AND NOT EXISTS (SELECT 1 FROM snapshot_holds u WHERE u.diff_id = layers.diff_id)",
    )
}

/// Diff ids of layers that an image has and that are not in the store.
pub(super) fn layers_elsewhere(database: &Connection) -> rusqlite::Result<Vec<String>> {
    strings(
        database,
        "SELECT DISTINCT diff_id FROM image_layers u WHERE NOT EXISTS (SELECT 1 FROM layers WHERE diff_id = u.diff_id)",
    )
}

/// Bytes and inodes of all layers and covers.
pub(super) fn totals(database: &Connection) -> rusqlite::Result<(u64, u64)> {
    let query = "SELECT ifnull(sum(bytes), 0), ifnull(sum(inodes), 0)
         FROM (SELECT bytes, inodes FROM layers UNION ALL SELECT bytes, inodes FROM covers)";
    database.query_row(query, [], |row| Ok((unsigned(row.get(0)?), unsigned(row.get(1)?))))
}

/// Ids of all images.
pub(super) fn images(database: &Connection) -> rusqlite::Result<Vec<String>> {
    strings(database, "SELECT id FROM images ORDER BY id")
}

/// All strings in the first column of a query.
pub(super) fn strings(database: &Connection, query: &str) -> rusqlite::Result<Vec<String>> {
    database.prepare_cached(query)?.query_map([], |row| row.get(0))?.collect()
}

/// All strings in the first column of a query about `key`.
pub(super) fn strings_of(database: &Connection, query: &str, key: &str) -> rusqlite::Result<Vec<String>> {
    database.prepare_cached(query)?.query_map([key], |row| row.get(0))?.collect()
}

/// A row of an image before its texts are checked.
struct Row {
    config: Vec<u8>,
    manifest_digest: String,
    manifest_bytes: u64,
    pinned: bool,
}

/// One image as recorded; `elsewhere` tells the size of a layer that has no row.
pub(super) fn image(
    database: &Connection,
    root: &Path,
    id: &str,
    elsewhere: &dyn Fn(&Digest) -> u64,
) -> Result<Option<Image>, StoreError> {
    let failed = |error| StoreError::database("read an image", root, error);
    let row = row(database, id).map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let names = strings_of(database, "SELECT reference FROM names WHERE image = ?1 ORDER BY 1", id)
        .map_err(failed)?;
    let layers =
        strings_of(database, "SELECT diff_id FROM image_layers WHERE image = ?1 ORDER BY position", id)
            .map_err(failed)?;
    let damaged = |what| {
        let id = id.to_owned();
        move |source| StoreError::Damaged { id, what, source }
    };
    let digest = |text: &str| Digest::parse(text).map_err(RecordError::from);
    let names: Vec<Reference> = names
        .iter()
        .map(|name| Reference::parse(name).map_err(RecordError::from))
        .collect::<Result<_, _>>()
        .map_err(damaged("a name"))?;
    let layers: Vec<Digest> =
        layers.iter().map(|id| digest(id)).collect::<Result<_, _>>().map_err(damaged("a layer"))?;
    let mut sizes = BTreeMap::new();
    for diff_id in &layers {
        let own = layer(database, diff_id).map_err(failed)?;
        sizes.insert(diff_id, own.map_or_else(|| elsewhere(diff_id), |stats| stats.bytes));
    }
    let (digests, names) = names.into_iter().partition(|name| name.digest().is_some());
    Ok(Some(Image {
        id: digest(id).map_err(damaged("its id"))?,
        names,
        digests,
        size_bytes: sizes.values().sum::<u64>() + row.manifest_bytes + row.config.len() as u64,
        config: serde_json::from_slice(&row.config)
            .map_err(RecordError::from)
            .map_err(damaged("its configuration"))?,
        manifest: digest(&row.manifest_digest).map_err(damaged("its manifest's digest"))?,
        layers,
        pinned: row.pinned,
    }))
}

fn row(database: &Connection, id: &str) -> rusqlite::Result<Option<Row>> {
    let mut query = database.prepare_cached(
        "SELECT config, manifest_digest, length(manifest), pinned FROM images WHERE id = ?1",
    )?;
    query
        .query_row([id], |row| {
            let manifest_bytes = unsigned(row.get(2)?);
            Ok(Row { config: row.get(0)?, manifest_digest: row.get(1)?, manifest_bytes, pinned: row.get(3)? })
        })
        .optional()
}

/// SQLite's integers are signed; sizes on disk stay far below the sign.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
