//! The records: what is, and what is being done, in an embedded database.
//!
//! SQLite with a write-ahead log and `synchronous = NORMAL`: a commit survives the daemon's death at once (it is in the
//! kernel's page cache) and costs no fsync; after a power cut the last commits may be missing, the database is
//! consistent, and the containers they told of are gone with the power anyway. What a missing row leaves on disk is
//! swept at the next start.
//!
//! A row of `journal` is an operation whose outcome is not committed yet. It is written before the operation's first
//! effect, together with the object's state, and removed by the commit of its outcome. Every effect can be undone by
//! the object's id alone, so the row needs to hold no more than the operation's name.
//!
//! Calls take some tens of microseconds and are made where they are needed, also on an async worker; the lock is held
//! for one statement or transaction, never across an `.await`.
mod addresses;
mod networks;
mod schema;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::container::Container;
use super::model::Id;
use super::pod::Pod;
pub(crate) use addresses::Owed;

/// A database call that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordsError {
    /// The database could not be opened.
    #[error("open the records in {path}")]
    Open {
        /// The file.
        path: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database was written by a newer version.
    #[error(
        "the records have schema {found}, this version knows up to {known}; start the newer version again"
    )]
    TooNew {
        /// Schema version of the file.
        found: u32,
        /// Latest schema version known here.
        known: u32,
    },
    /// A statement failed.
    #[error("{operation} of {object} in the records")]
    Statement {
        /// What was being done.
        operation: &'static str,
        /// To which object.
        object: String,
        /// Why.
        source: rusqlite::Error,
    },
    /// A row cannot be understood.
    #[error("the record of {object} cannot be read")]
    Malformed {
        /// Which object's.
        object: String,
        /// Why.
        source: serde_json::Error,
    },
    /// All addresses of a subnet are in use.
    #[error("hand out an address")]
    Exhausted(#[source] cleat_network::ipam::Exhausted),
    /// Somebody has the address that was asked for.
    #[error("address {address} is in use already")]
    AddressTaken {
        /// The address.
        address: std::net::IpAddr,
    },
}

/// Operations that are journaled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Make a pod.
    RunPod,
    /// Stop a pod.
    StopPod,
    /// Remove a pod and its containers.
    RemovePod,
    /// Prepare a container.
    Create,
    /// Launch a container's monitor and execute its program.
    Start,
    /// Remove a container.
    Remove,
}

impl Operation {
    const ALL: [Self; 6] =
        [Self::RunPod, Self::StopPod, Self::RemovePod, Self::Create, Self::Start, Self::Remove];

    /// Its name in the journal and in messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RunPod => "run pod",
            Self::StopPod => "stop pod",
            Self::RemovePod => "remove pod",
            Self::Create => "create container",
            Self::Start => "start container",
            Self::Remove => "remove container",
        }
    }
}

/// Everything on record, as the recovery finds it.
#[derive(Debug, Default)]
pub(crate) struct Everything {
    /// Pods.
    pub pods: Vec<Pod>,
    /// Containers.
    pub containers: Vec<Container>,
    /// Operations without an outcome, by their object's id.
    pub open: BTreeMap<String, Operation>,
}

/// The open database.
pub(crate) struct Records {
    connection: Mutex<Connection>,
}

impl Records {
    /// Opens the database, makes it where there is none, and brings it to the current schema.
    pub(crate) fn open(path: &Path) -> Result<Self, RecordsError> {
        let fail = |source| RecordsError::Open { path: path.display().to_string(), source };
        let connection = Connection::open(path).map_err(fail)?;
        schema::prepare(&connection).map_err(fail)?;
        schema::migrate(&connection)?;
        Ok(Self { connection: Mutex::new(connection) })
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Everything, RecordsError> {
        let connection = self.lock();
        Ok(Everything {
            pods: read_all(&connection, "SELECT id, record FROM pods")?,
            containers: read_all(&connection, "SELECT id, record FROM containers")?,
            open: read_journal(&connection)?,
        })
    }

    /// Records that `operation` begins on a pod in its present state.
    pub(crate) fn begin_pod(&self, pod: &Pod, operation: Operation) -> Result<(), RecordsError> {
        self.write("begin an operation", &pod.id, |transaction| {
            put_pod(transaction, pod)?;
            open_journal(transaction, &pod.id, operation)
        })
    }

    /// Records a pod's new state as the outcome of whatever was open on it.
    pub(crate) fn commit_pod(&self, pod: &Pod) -> Result<(), RecordsError> {
        self.write("commit", &pod.id, |transaction| {
            put_pod(transaction, pod)?;
            close_journal(transaction, &pod.id)
        })
    }

    /// Records what has become of a group and its containers beside whatever is open on them.
    pub(crate) fn note(&self, pod: &Pod, containers: &[&Container]) -> Result<(), RecordsError> {
        self.write("note", &pod.id, |transaction| {
            put_pod(transaction, pod)?;
            containers.iter().try_for_each(|container| put_container(transaction, container))
        })
    }

    /// Records what has changed of a pod besides its state; what is open on it stays open.
    pub(crate) fn note_pod(&self, pod: &Pod) -> Result<(), RecordsError> {
        self.write("note", &pod.id, |transaction| put_pod(transaction, pod))
    }

    /// Forgets a pod, its addresses and whatever was open on it.
    pub(crate) fn forget_pod(&self, id: &Id) -> Result<(), RecordsError> {
        self.write("forget", id, |transaction| {
            transaction.prepare_cached("DELETE FROM addresses WHERE pod = ?1")?.execute([id.as_str()])?;
            transaction.prepare_cached("DELETE FROM containers WHERE pod = ?1")?.execute([id.as_str()])?;
            transaction.prepare_cached("DELETE FROM pods WHERE id = ?1")?.execute([id.as_str()])?;
            close_journal(transaction, id)
        })
    }

    /// Records that `operation` begins on a container in its present state.
    pub(crate) fn begin_container(
        &self,
        container: &Container,
        operation: Operation,
    ) -> Result<(), RecordsError> {
        self.write("begin an operation", &container.id, |transaction| {
            put_container(transaction, container)?;
            open_journal(transaction, &container.id, operation)
        })
    }

    /// Records a container's new state as the outcome of whatever was open on it.
    pub(crate) fn commit_container(&self, container: &Container) -> Result<(), RecordsError> {
        self.write("commit", &container.id, |transaction| {
            put_container(transaction, container)?;
            close_journal(transaction, &container.id)
        })
    }

    /// Forgets a container and whatever was open on it.
    pub(crate) fn forget_container(&self, id: &Id) -> Result<(), RecordsError> {
        self.write("forget", id, |transaction| {
            transaction.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id.as_str()])?;
            close_journal(transaction, id)
        })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held rolled its transaction back; the connection itself is sound.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write<T>(
        &self,
        operation: &'static str,
        object: &Id,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, RecordsError> {
        let mut connection = self.lock();
        let result = (|| {
            let transaction = connection.transaction()?;
            let result = change(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })();
        result.map_err(|source| RecordsError::Statement { operation, object: object.to_string(), source })
    }
}

fn json(record: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(record).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

fn put_pod(transaction: &Transaction<'_>, pod: &Pod) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO pods (id, record) VALUES (?1, ?2)")?
        .execute(params![pod.id.as_str(), json(pod)?])
        .map(drop)
}

fn put_container(transaction: &Transaction<'_>, container: &Container) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO containers (id, pod, record) VALUES (?1, ?2, ?3)")?
        .execute(params![container.id.as_str(), container.pod.as_str(), json(container)?])
        .map(drop)
}

fn open_journal(transaction: &Transaction<'_>, object: &Id, operation: Operation) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT OR REPLACE INTO journal (object, operation) VALUES (?1, ?2)")?
        .execute(params![object.as_str(), operation.name()])
        .map(drop)
}

fn close_journal(transaction: &Transaction<'_>, object: &Id) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM journal WHERE object = ?1")?.execute([object.as_str()]).map(drop)
}

fn read_all<T: DeserializeOwned>(connection: &Connection, query: &str) -> Result<Vec<T>, RecordsError> {
    let failed = |source| RecordsError::Statement { operation: "read all", object: query.to_owned(), source };
    let mut statement = connection.prepare(query).map_err(failed)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    rows.map_err(failed)?
        .map(|row| {
            let (object, text) = row.map_err(failed)?;
            serde_json::from_str(&text).map_err(|source| RecordsError::Malformed { object, source })
        })
        .collect()
}

fn read_journal(connection: &Connection) -> Result<BTreeMap<String, Operation>, RecordsError> {
    let failed =
        |source| RecordsError::Statement { operation: "read", object: "the journal".to_owned(), source };
    let mut statement = connection.prepare("SELECT object, operation FROM journal").map_err(failed)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)));
    let rows: Vec<_> = rows.map_err(failed)?.collect::<Result<_, _>>().map_err(failed)?;
    let known = |name: &str| Operation::ALL.into_iter().find(|operation| operation.name() == name);
    Ok(rows.into_iter().filter_map(|(object, name)| Some((object, known(&name)?))).collect())
}

/// One number kept under a key in `facts`.
fn fact(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    connection.query_row("SELECT value FROM facts WHERE key = ?1", [key], |row| row.get(0)).optional()
}

#[cfg(test)]
mod tests;
