//! nftables, spoken directly: one table of our own for each bridge, replaced as a whole in one transaction.
//!
//! Nothing is executed and no lock of the iptables tools is taken. The kernel numbers the generations of a namespace's
//! rule set; while the number is the one that we left, our rules are in place, and asking for it is one exchange.
//!
//! A packet passes every base chain of a hook: our table can neither undo nor overrule a `drop` in another. Where the
//! host's own firewall drops forwarded traffic, its operator has to accept that of the bridge there.

mod expression;
mod message;
mod ruleset;

pub(crate) use ruleset::{Chain, Rule, Table, table_name};

use crate::netlink::{NetlinkError, Protocol, Socket, attributes, be_u32};

/// The number of a state of the namespace's rules; any change of any table raises it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

/// A connection to the nftables of the calling thread's namespace.
pub(crate) struct Nftables(Socket);

impl Nftables {
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        Socket::open(Protocol::Netfilter).map(Self)
    }

    /// The present generation.
    pub(crate) fn generation(&self) -> Result<Generation, NetlinkError> {
        let request = message::get_generation();
        let words = request.words.clone();
        let answer = self.0.ask(request)?;
        answer
            .first()
            .and_then(|reply| {
                attributes(message::attributes_of(reply)).find(|(kind, _)| *kind == message::GEN_ID)
            })
            .and_then(|(_, value)| be_u32(value))
            .map(Generation)
            .ok_or(NetlinkError::Incomplete { request: words, missing: "generation" })
    }

    /// Puts `table` in place of whatever has its name, in one transaction: packets meet the old rules or the new.
    pub(crate) fn replace(&self, table: &Table) -> Result<(), NetlinkError> {
        self.0.carry_out(&table.replacement()).map(drop)
    }

    /// Removes the table of this name; done where there is none.
    pub(crate) fn remove(&self, table: &str) -> Result<(), NetlinkError> {
        self.0.carry_out(&ruleset::removal(table)).map(drop)
    }

    /// Whether the kernel has as many rules in each chain of `table` as it should.
    pub(crate) fn has(&self, table: &Table) -> Result<bool, NetlinkError> {
        let rules = self.0.ask(message::dump_rules(table.name()))?;
        Ok(table.is_matched_by(&rules))
    }
}
