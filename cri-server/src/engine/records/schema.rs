//! The schema and its versions. A migration is never changed once it was released; a new one is added after it.

use rusqlite::Connection;

use super::RecordsError;

/// Each brings the schema from its index to its index plus one.
const MIGRATIONS: [&str; 2] = [FIRST, NETWORKS];

/// Pods, containers, and one network.
pub(super) const FIRST: &str = "
    CREATE TABLE pods (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    CREATE TABLE containers (id TEXT PRIMARY KEY, pod TEXT NOT NULL, record TEXT NOT NULL) STRICT;
    CREATE INDEX containers_by_pod ON containers (pod);
    CREATE TABLE journal (object TEXT PRIMARY KEY, operation TEXT NOT NULL) STRICT;
    CREATE TABLE addresses (address TEXT PRIMARY KEY, pod TEXT NOT NULL) STRICT;
    CREATE INDEX addresses_by_pod ON addresses (pod);
    CREATE TABLE attachments (pod TEXT PRIMARY KEY, attached TEXT NOT NULL) STRICT;
    CREATE TABLE facts (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
";

/// Networks of their users' own: a pod may be on several.
const NETWORKS: &str = "
    CREATE TABLE networks (id TEXT PRIMARY KEY, record TEXT NOT NULL) STRICT;
    ALTER TABLE addresses ADD COLUMN network TEXT NOT NULL DEFAULT '';
    ALTER TABLE attachments RENAME TO attachments_1;
    CREATE TABLE attachments (
        pod TEXT NOT NULL, network TEXT NOT NULL, attached TEXT NOT NULL, PRIMARY KEY (pod, network)
    ) STRICT;
    INSERT INTO attachments SELECT pod, '', attached FROM attachments_1;
    DROP TABLE attachments_1;
";

/// Sets what holds for the connection.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // One writer, small rows: the default cache of 2 MB would only be memory lost.
    connection.pragma_update(None, "cache_size", -512)
}

/// Brings the schema to the latest version.
pub(super) fn migrate(connection: &Connection) -> Result<(), RecordsError> {
    let failed =
        |source| RecordsError::Statement { operation: "migrate", object: "the schema".to_owned(), source };
    let found: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let known = u32::try_from(MIGRATIONS.len()).expect("a handful of migrations");
    if found > known {
        return Err(RecordsError::TooNew { found, known });
    }
    for (version, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let step = format!("BEGIN; {migration} PRAGMA user_version = {version}; COMMIT;");
        connection.execute_batch(&step).map_err(failed)?;
    }
    Ok(())
}
