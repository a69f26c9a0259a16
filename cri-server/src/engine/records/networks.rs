//! Networks of their users' own.

use rusqlite::params;

use super::addresses::last_key;
use super::{Records, RecordsError, json, read_all};
use crate::engine::model::UserNetwork;

impl Records {
    /// All of them.
    pub(crate) fn networks(&self) -> Result<Vec<UserNetwork>, RecordsError> {
        read_all(&self.lock(), "SELECT id, record FROM networks")
    }

    /// There is a network.
    pub(crate) fn put_network(&self, network: &UserNetwork) -> Result<(), RecordsError> {
        self.write("write down", &network.id, |transaction| {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO networks (id, record) VALUES (?1, ?2)",
                    params![network.id.as_str(), json(network)?],
                )
                .map(drop)
        })
    }

    /// There is none any more, and nothing to remember of its addresses.
    pub(crate) fn forget_network(&self, network: &UserNetwork) -> Result<(), RecordsError> {
        self.write("forget", &network.id, |transaction| {
            transaction.execute("DELETE FROM networks WHERE id = ?1", [network.id.as_str()])?;
            for range in &network.ranges {
                transaction.execute("DELETE FROM facts WHERE key = ?1", [last_key(range.subnet)])?;
            }
            Ok(())
        })
    }
}
