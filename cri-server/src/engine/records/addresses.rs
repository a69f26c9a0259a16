//! Addresses handed out, and attachments whose detach is owed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cleat_network::{Attached, ipam};
use ipnet::IpNet;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Records, RecordsError, fact, json};
use crate::engine::model::Id;

impl Records {
    /// Hands out one address of each subnet to a pod and writes them down before anybody uses them.
    pub(crate) fn reserve_addresses(&self, pod: &Id, subnets: &[IpNet]) -> Result<Vec<IpNet>, RecordsError> {
        let failed = |source| RecordsError::Statement {
            operation: "reserve addresses",
            object: pod.to_string(),
            source,
        };
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(failed)?;
        let used = used_addresses(&transaction).map_err(failed)?;
        let mut reserved = Vec::with_capacity(subnets.len());
        for subnet in subnets {
            let key = format!("last address of {subnet}");
            let last = fact(&transaction, &key).map_err(failed)?.and_then(|text| text.parse().ok());
            let address = ipam::allocate(*subnet, &used, last).map_err(RecordsError::Exhausted)?;
            let text = address.to_string();
            transaction
                .execute("INSERT INTO addresses (address, pod) VALUES (?1, ?2)", params![text, pod.as_str()])
                .and_then(|_| {
                    transaction
                        .execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?1, ?2)", [&key, &text])
                })
                .map_err(failed)?;
            reserved
                .push(IpNet::new(address, subnet.prefix_len()).expect("the prefix is of the same family"));
        }
        transaction.commit().map_err(failed)?;
        Ok(reserved)
    }

    /// Writes down how a pod was attached: from now on its detach is owed.
    pub(crate) fn put_attachment(&self, pod: &Id, attached: &Attached) -> Result<(), RecordsError> {
        self.write("write down the attachment", pod, |transaction| {
            let attached = json(attached)?;
            transaction
                .execute(
                    "INSERT OR REPLACE INTO attachments (pod, attached) VALUES (?1, ?2)",
                    params![pod.as_str(), attached],
                )
                .map(drop)
        })
    }

    /// How a pod was attached, while its detach is owed.
    pub(crate) fn attachment(&self, pod: &Id) -> Result<Option<Attached>, RecordsError> {
        let text: Option<String> = self
            .lock()
            .query_row("SELECT attached FROM attachments WHERE pod = ?1", [pod.as_str()], |row| row.get(0))
            .optional()
            .map_err(|source| RecordsError::Statement {
                operation: "read the attachment",
                object: pod.to_string(),
                source,
            })?;
        text.map(|text| serde_json::from_str(&text)).transpose().map_err(|source| RecordsError::Malformed {
            object: format!("the attachment of pod {pod}"),
            source,
        })
    }

    /// The pods whose detach is owed.
    pub(crate) fn attached_pods(&self) -> Result<Vec<String>, RecordsError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare("SELECT pod FROM attachments")?;
            statement.query_map([], |row| row.get(0))?.collect()
        };
        read().map_err(|source| RecordsError::Statement {
            operation: "read all",
            object: "the attachments".to_owned(),
            source,
        })
    }

    /// The detach was done: the pod's addresses are free again.
    pub(crate) fn release_network(&self, pod: &Id) -> Result<(), RecordsError> {
        self.write("release the network", pod, |transaction| {
            transaction.prepare_cached("DELETE FROM attachments WHERE pod = ?1")?.execute([pod.as_str()])?;
            transaction
                .prepare_cached("DELETE FROM addresses WHERE pod = ?1")?
                .execute([pod.as_str()])
                .map(drop)
        })
    }
}

fn used_addresses(connection: &Connection) -> rusqlite::Result<BTreeSet<IpAddr>> {
    let mut statement = connection.prepare_cached("SELECT address FROM addresses")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let texts: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}
