//! Making the bridge and all that belongs to it, and knowing that it is there.

use nix::errno::Errno;

use super::{Bridge, BridgeConfig, BridgeError, sysctl};
use crate::{
    MacAddress,
    netlink::{BridgeSpec, NetlinkError, Request, add_address, create_bridge, get_link, read_link, set_up},
    nft::{Chain, Generation, Nftables, Rule, Table},
};

/// What has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// The bridge's number.
    pub(super) index: u32,
    /// The state of the rule set in which our table was seen to be whole; none where it was not, or there is none.
    generation: Option<Generation>,
}

impl Bridge {
    /// Makes the bridge, its addresses, the forwarding and the nftables table wherever they are missing. It looks at
    /// each, whatever earlier calls found.
    pub fn ensure(&self) -> Result<(), BridgeError> {
        let mut ready = self.lock();
        let previous = ready.take();
        *ready = Some(self.make(previous)?);
        Ok(())
    }

    /// The bridge's number. What an earlier call made is taken to be there still, except for the rules: another
    /// program's reload may have flushed them, and a pod without them is cut off, or exposed, silently.
    pub(super) fn ready_index(&self) -> Result<u32, BridgeError> {
        let mut ready = self.lock();
        let next = match ready.take() {
            None => self.make(None)?,
            Some(previous) => Ready { generation: self.assert_rules(Some(previous))?, ..previous },
        };
        *ready = Some(next);
        Ok(next.index)
    }

    fn make(&self, previous: Option<Ready>) -> Result<Ready, BridgeError> {
        sysctl::enable_forwarding(&self.config)?;
        let index = self.make_link()?;
        let generation = self.assert_rules(previous)?;
        Ok(Ready { index, generation })
    }

    fn make_link(&self) -> Result<u32, BridgeError> {
        let name = self.config.name();
        let socket = self.route()?;
        let spec = BridgeSpec { name, mac: bridge_mac(&self.config), mtu: self.config.mtu() };
        let made = [create_bridge(&spec).tolerating(Errno::EEXIST), get_link(name)];
        let answers = socket.carry_out(&made).map_err(|source| self.netlink(source))?;
        let answer = answers.last().map(Vec::as_slice).unwrap_or_default();
        let link = read_link(name, answer).map_err(|source| self.netlink(source))?;
        self.require_bridge(&link)?;
        sysctl::settle_ipv6(name, self.config.has_ipv6())?;
        let address = |subnet: &super::Subnet| {
            add_address(link.index, name, subnet.gateway_net()).tolerating(Errno::EEXIST)
        };
        let settled: Vec<Request> = std::iter::once(set_up(link.index, name))
            .chain(self.config.subnets().iter().map(address))
            .collect();
        socket.carry_out(&settled).map_err(|source| self.netlink(source))?;
        let gateways: Vec<_> = self.config.subnets().iter().map(super::Subnet::gateway_net).collect();
        self.await_addresses(&socket, name, &gateways)?;
        Ok(link.index)
    }

    fn assert_rules(&self, previous: Option<Ready>) -> Result<Option<Generation>, BridgeError> {
        assert_table(&table(&self.config, self.table_name()), previous).map_err(|source| self.netlink(source))
    }
}

/// Puts our table in place where that is needed. The first time it always is: an earlier daemon's may have been made
/// for other subnets. Then it is where the rules have changed since and ours are among what was lost.
fn assert_table(table: &Table, previous: Option<Ready>) -> Result<Option<Generation>, NetlinkError> {
    let nftables = Nftables::open()?;
    // The generation is asked for before the rules are looked at: a change between the two is then seen next time.
    let generation = nftables.generation()?;
    if let Some(previous) = previous {
        if previous.generation == Some(generation) || nftables.has(table)? {
            return Ok(Some(generation));
        }
        tracing::warn!(table = table.name(), "nftables rules had been removed and are put back");
    }
    nftables.replace(table)?;
    let generation = nftables.generation()?;
    Ok(nftables.has(table)?.then_some(generation))
}

/// The rules of a network.
fn table(config: &BridgeConfig, name: String) -> Table {
    let masquerade =
        |subnet: &super::Subnet| Rule::Masquerade { source: subnet.net, inside: config.name().to_owned() };
    let rules =
        if config.masquerade() { config.subnets().iter().map(masquerade).collect() } else { Vec::new() };
    Table::new(name, vec![(Chain::Postrouting, rules)])
}

/// The bridge's hardware address goes with its first gateway, so that pods' neighbour entries survive its removal and
/// return.
fn bridge_mac(config: &BridgeConfig) -> MacAddress {
    MacAddress::of_addresses(config.subnets().iter().map(|subnet| subnet.gateway))
        .expect("a network has at least one subnet")
}
