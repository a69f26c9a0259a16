//! Making the bridge and all that belongs to it, and knowing that it is there.

use ipnet::{IpNet, Ipv4Net};
use nix::errno::Errno;

use super::{Bridge, BridgeConfig, BridgeError, Walls, ports::Ports, sysctl};
use crate::{
    MacAddress,
    netlink::{BridgeSpec, NetlinkError, Request, add_address, create_bridge, get_link, read_link, set_up},
    nft::{Chain, Forwarded, Generation, Nftables, PortMap, Rule, Table},
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
        let mut state = self.lock();
        let previous = state.ready.take();
        state.ready = Some(self.make(previous, &state.ports)?);
        Ok(())
    }

    /// The bridge's number. What an earlier call made is taken to be there still, except for the rules: another
    /// program's reload may have flushed them, and a pod without them is cut off, or exposed, silently.
    pub(super) fn ready_index(&self) -> Result<u32, BridgeError> {
        let mut state = self.lock();
        let next = match state.ready.take() {
            None => self.make(None, &state.ports)?,
            Some(previous) => {
                Ready { generation: self.assert_rules(Some(previous), &state.ports)?, ..previous }
            }
        };
        state.ready = Some(next);
        Ok(next.index)
    }

    fn make(&self, previous: Option<Ready>, ports: &Ports) -> Result<Ready, BridgeError> {
        sysctl::enable_forwarding(&self.config)?;
        let index = self.make_link()?;
        let generation = self.assert_rules(previous, ports)?;
        // Behind the rules, one of which keeps others out. A bridge that was made anew has lost the setting.
        if self.config.has_ipv4() && !ports.is_empty() {
            sysctl::route_loopback(self.config.name())?;
        }
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

    fn assert_rules(
        &self,
        previous: Option<Ready>,
        ports: &Ports,
    ) -> Result<Option<Generation>, BridgeError> {
        assert_table(&table(&self.config, self.table_name(), ports.all()), previous)
            .map_err(|source| self.netlink(source))
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

/// The rules of a network and the ports that lead into it.
pub(super) fn table(config: &BridgeConfig, name: String, ports: Vec<Forwarded>) -> Table {
    let inside = || config.name().to_owned();
    let guard = if config.has_ipv4() { vec![Rule::DropToLoopback(inside())] } else { Vec::new() };
    let mut chains = vec![
        (Chain::Guard, guard),
        (
            Chain::OutputGuard,
            [true, false].map(|is_ipv4| Rule::DropRedirects { inside: inside(), is_ipv4 }).into(),
        ),
        (Chain::Prerouting, vec![Rule::Ipv4ToPorts, Rule::Ipv6ToPorts]),
        (Chain::Output, vec![Rule::OwnToPorts]),
        (Chain::Ports, PortMap::ALL.map(Rule::Forward).into()),
        (Chain::Hairpin, PortMap::ALL.map(Rule::MasqueradeForwarded).into()),
        (Chain::Postrouting, source_rules(config)),
    ];
    // Only where there are walls: one more hook would be one more stop for every packet of the others.
    if let Some(walls) = config.walls() {
        chains.push((Chain::Forward, forward_rules(config.name(), walls)));
    }
    Table::new(name, chains, ports)
}

/// What does not get over the walls.
fn forward_rules(bridge: &str, walls: &Walls) -> Vec<Rule> {
    let inside = || bridge.to_owned();
    if walls.is_internal {
        return vec![Rule::DropInward { inside: inside() }, Rule::DropOutward { inside: inside() }];
    }
    let closed = walls.closed_to.iter();
    let to_others = closed.map(|other| Rule::DropToBridge { inside: inside(), other: other.clone() });
    std::iter::once(Rule::DropUninvited { inside: inside() }).chain(to_others).collect()
}

/// Whose source becomes the host's: of what leaves the network, where that is wanted; of the host's loopback; and of
/// pods that call pods by a port of the host.
fn source_rules(config: &BridgeConfig) -> Vec<Rule> {
    let inside = || config.name().to_owned();
    let nets = || config.subnets().iter().map(|subnet| subnet.net);
    let mut rules = Vec::new();
    if config.masquerade() {
        rules.extend(nets().map(|source| Rule::Masquerade { source, inside: inside() }));
    }
    if config.has_ipv4() {
        rules.push(Rule::MasqueradeLoopback { source: IPV4_LOOPBACK, inside: inside() });
    }
    rules.extend(nets().map(|source| Rule::ToHairpin { source, inside: inside() }));
    rules
}

/// 127.0.0.0/8.
const IPV4_LOOPBACK: IpNet = IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(127, 0, 0, 0), 8));

/// The bridge's hardware address goes with its first gateway, so that pods' neighbour entries survive its removal and
/// return.
fn bridge_mac(config: &BridgeConfig) -> MacAddress {
    MacAddress::of_addresses(config.subnets().iter().map(|subnet| subnet.gateway))
        .expect("a network has at least one subnet")
}
