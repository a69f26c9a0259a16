//! Addresses handed out, and attachments whose detach is owed: of each pod on each network.

use std::collections::BTreeSet;
use std::net::IpAddr;

use cleat_network::{Attached, ipam};
use ipnet::IpNet;
use rusqlite::{Connection, Transaction, params};

use super::{Records, RecordsError, fact, json};
use crate::engine::model::{AddressRange, Id};

/// What the default network's rows have for its id.
const DEFAULT: &str = "";

/// A network that is owed a detach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owed {
    /// The network; none for the default one.
    pub network: Option<Id>,
    /// How the pod was attached.
    pub attached: Attached,
}

impl Records {
    /// Hands out one address of each subnet of the default network to a pod and writes them down before anybody uses them.
    pub(crate) fn reserve_addresses(&self, pod: &Id, subnets: &[IpNet]) -> Result<Vec<IpNet>, RecordsError> {
        self.reserve(pod, None, |transaction, used| {
            let next = |subnet: &IpNet| {
                let last = last_address(transaction, *subnet)?;
                let address = ipam::allocate(*subnet, used, last).map_err(RecordsError::Exhausted)?;
                Ok((*subnet, address))
            };
            subnets.iter().map(next).collect()
        })
    }

    /// The same of a user's own network: of each range the address that is `wanted`, or the next one.
    pub(crate) fn reserve_of_ranges(
        &self,
        pod: &Id,
        network: &Id,
        ranges: &[AddressRange],
        wanted: &[IpAddr],
    ) -> Result<Vec<IpNet>, RecordsError> {
        self.reserve(pod, Some(network), |transaction, used| {
            let next = |range: &AddressRange| {
                let mut used = used.clone();
                used.insert(range.gateway);
                used.extend(range.reserved.values());
                let address = match wanted.iter().find(|address| range.subnet.contains(*address)) {
                    Some(address) if used.contains(address) => {
                        return Err(RecordsError::AddressTaken { address: *address });
                    }
                    Some(address) => *address,
                    None => {
                        let last = last_address(transaction, range.subnet)?;
                        ipam::allocate_within(range.subnet, range.within.unwrap_or(range.subnet), &used, last)
                            .map_err(RecordsError::Exhausted)?
                    }
                };
                Ok((range.subnet, address))
            };
            ranges.iter().map(next).collect()
        })
    }

    /// Writes down the addresses that `choose` finds, all or none.
    fn reserve(
        &self,
        pod: &Id,
        network: Option<&Id>,
        choose: impl FnOnce(&Transaction<'_>, &BTreeSet<IpAddr>) -> Result<Vec<(IpNet, IpAddr)>, RecordsError>,
    ) -> Result<Vec<IpNet>, RecordsError> {
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(reserving(pod))?;
        let used = used_addresses(&transaction).map_err(reserving(pod))?;
        let chosen = choose(&transaction, &used)?;
        for (subnet, address) in &chosen {
            let text = address.to_string();
            let row = params![text, pod.as_str(), key(network)];
            transaction
                .execute("INSERT INTO addresses (address, pod, network) VALUES (?1, ?2, ?3)", row)
                .and_then(|_| {
                    let last = params![last_key(*subnet), text];
                    transaction.execute("INSERT OR REPLACE INTO facts (key, value) VALUES (?1, ?2)", last)
                })
                .map_err(reserving(pod))?;
        }
        transaction.commit().map_err(reserving(pod))?;
        let with_prefix = |(subnet, address): (IpNet, IpAddr)| {
            IpNet::new(address, subnet.prefix_len()).expect("the prefix is of the same family")
        };
        Ok(chosen.into_iter().map(with_prefix).collect())
    }

    /// Writes down how a pod was attached to a network: from now on its detach is owed.
    pub(crate) fn put_attachment(
        &self,
        pod: &Id,
        network: Option<&Id>,
        attached: &Attached,
    ) -> Result<(), RecordsError> {
        self.write("write down the attachment", pod, |transaction| {
            let attached = json(attached)?;
            transaction
                .execute(
                    "INSERT OR REPLACE INTO attachments (pod, network, attached) VALUES (?1, ?2, ?3)",
                    params![pod.as_str(), key(network), attached],
                )
                .map(drop)
        })
    }

    /// The detaches that a pod owes.
    pub(crate) fn attachments(&self, pod: &Id) -> Result<Vec<Owed>, RecordsError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut statement =
                connection.prepare_cached("SELECT network, attached FROM attachments WHERE pod = ?1")?;
            statement.query_map([pod.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let rows = read().map_err(|source| RecordsError::Statement {
            operation: "read the attachments",
            object: pod.to_string(),
            source,
        })?;
        let object = || format!("the attachment of pod {pod}");
        let owed = |(network, text): (String, String)| {
            let attached = serde_json::from_str(&text)
                .map_err(|source| RecordsError::Malformed { object: object(), source })?;
            // Nothing but ids and the empty text is ever written.
            Ok(Owed { network: Id::try_from(network).ok(), attached })
        };
        rows.into_iter().map(owed).collect()
    }

    /// The pods that owe the default network a detach.
    pub(crate) fn attached_pods(&self) -> Result<Vec<String>, RecordsError> {
        self.pods_on(None)
    }

    /// The pods that owe a network a detach.
    pub(crate) fn pods_on(&self, network: Option<&Id>) -> Result<Vec<String>, RecordsError> {
        let connection = self.lock();
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = connection.prepare("SELECT pod FROM attachments WHERE network = ?1")?;
            statement.query_map([key(network)], |row| row.get(0))?.collect()
        };
        read().map_err(|source| RecordsError::Statement {
            operation: "read all",
            object: "the attachments".to_owned(),
            source,
        })
    }

    /// The detach from a network was done: the pod's addresses there are free again.
    pub(crate) fn release_network(&self, pod: &Id, network: Option<&Id>) -> Result<(), RecordsError> {
        self.write("release the network", pod, |transaction| {
            let row = params![pod.as_str(), key(network)];
            transaction
                .prepare_cached("DELETE FROM attachments WHERE pod = ?1 AND network = ?2")?
                .execute(row)?;
            let row = params![pod.as_str(), key(network)];
            transaction
                .prepare_cached("DELETE FROM addresses WHERE pod = ?1 AND network = ?2")?
                .execute(row)
                .map(drop)
        })
    }
}

fn key(network: Option<&Id>) -> &str {
    network.map_or(DEFAULT, Id::as_str)
}

fn reserving(pod: &Id) -> impl Fn(rusqlite::Error) -> RecordsError {
    move |source| RecordsError::Statement { operation: "reserve addresses", object: pod.to_string(), source }
}

/// The key of the address of a subnet that was handed out last.
pub(super) fn last_key(subnet: IpNet) -> String {
    format!("last address of {subnet}")
}

fn last_address(connection: &Connection, subnet: IpNet) -> Result<Option<IpAddr>, RecordsError> {
    let found = fact(connection, &last_key(subnet)).map_err(|source| RecordsError::Statement {
        operation: "read the last address",
        object: subnet.to_string(),
        source,
    })?;
    Ok(found.and_then(|text| text.parse().ok()))
}

fn used_addresses(connection: &Connection) -> rusqlite::Result<BTreeSet<IpAddr>> {
    let mut statement = connection.prepare_cached("SELECT address FROM addresses")?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let texts: Vec<String> = rows.collect::<rusqlite::Result<_>>()?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}
