//! nftables, spoken directly: one table of our own for each bridge, replaced as a whole in one transaction.
//!
//! Nothing is executed and no lock of the iptables tools is taken. The kernel numbers the generations of a namespace's
//! rule set; while the number is the one that we left, our rules are in place, and asking for it is one exchange.
//!
//! A packet passes every base chain of a hook: our table can neither undo nor overrule a `drop` in another. Where the
//! host's own firewall drops forwarded traffic, its operator has to accept that of the bridge there.

mod expression;
mod message;
mod port_map;
mod redirect;
mod ruleset;

pub(crate) use port_map::{Forwarded, PortMap};
pub(crate) use redirect::Redirect;
pub(crate) use ruleset::{Chain, Rule, Table, table_name};

use std::net::SocketAddrV4;

use nix::errno::Errno;

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

    /// Leads what the namespace's own programs send to `from` to other ports of its address, by the table of this name,
    /// which has nothing else.
    pub(crate) fn redirect(
        &self,
        table: &str,
        from: SocketAddrV4,
        redirects: &[Redirect],
    ) -> Result<(), NetlinkError> {
        self.0.carry_out(&redirect::replacement(table, from, redirects)).map(drop)
    }

    /// Leads ports to pods, all at once, in the table of this name.
    pub(crate) fn add_ports(&self, table: &str, ports: &[Forwarded]) -> Result<(), NetlinkError> {
        self.0.carry_out(&ruleset::transaction(port_map::additions(table, ports))).map(drop)
    }

    /// Leads ports to pods no more, all at once; those that lead nowhere already, or whose table has gone, are done.
    pub(crate) fn remove_ports(&self, table: &str, ports: &[Forwarded]) -> Result<(), NetlinkError> {
        let absent = |error: &NetlinkError| error.errno() == Some(Errno::ENOENT);
        let remove = |ports: &[Forwarded]| {
            self.0.carry_out(&ruleset::transaction(port_map::removals(table, ports))).map(drop)
        };
        match remove(ports) {
            Err(error) if absent(&error) => {}
            other => return other,
        }
        // One that is absent undoes the whole transaction: the others are removed one by one.
        for port in ports {
            match remove(std::slice::from_ref(port)) {
                Err(error) if absent(&error) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether the kernel has as many rules in each chain of `table`, and elements in each map, as it should.
    pub(crate) fn has(&self, table: &Table) -> Result<bool, NetlinkError> {
        let rules = self.0.ask(message::dump_rules(table.name()))?;
        if !table.is_matched_by(&rules) {
            return Ok(false);
        }
        for (map, size) in table.map_sizes() {
            let listed =
                self.0.ask(message::dump_elements(table.name(), map.name()).tolerating(Errno::ENOENT))?;
            if listed.iter().map(|part| message::count_elements(part)).sum::<usize>() != size {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
