//! A table as a value: what should be in the kernel, and whether it is.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    Forwarded, PortMap,
    expression::Expressions,
    message::{self, Hook},
    port_map,
};
use crate::netlink::{Request, attributes};

/// The name of a bridge's table.
pub(crate) fn table_name(bridge: &str) -> String {
    format!("cleat_{bridge}")
}

/// A table of the `inet` family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    name: String,
    chains: Vec<(Chain, Vec<Rule>)>,
    ports: Vec<Forwarded>,
}

/// A chain, most at one of the kernel's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// Before connections are tracked and anything is translated.
    Guard,
    /// What the host itself sends, before it is tracked.
    OutputGuard,
    /// Before routing, where destinations are translated.
    Prerouting,
    /// The same for packets of the host itself.
    Output,
    /// Packets on their way from one interface to another.
    Forward,
    /// Jumped to: the host's ports that lead to pods.
    Ports,
    /// Jumped to: connections to such a port whose answers would miss the host.
    Hairpin,
    /// Behind routing, where sources are translated.
    Postrouting,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Traffic of `source` that leaves by another interface than `inside` gets that interface's address.
    Masquerade {
        /// The subnet.
        source: IpNet,
        /// The bridge.
        inside: String,
    },
    /// Packets to 127.0.0.0/8 that come by this interface are dropped.
    DropToLoopback(String),
    /// Redirects to this interface are dropped: where a pod calls a pod by a port of the host, both its ways lead by the
    /// bridge, and the kernel would tell pods of a way around it, on which nothing is translated.
    DropRedirects {
        /// The bridge.
        inside: String,
        /// Of which family.
        is_ipv4: bool,
    },
    /// Packets of the host itself to its own addresses go through [`Chain::Ports`].
    OwnToPorts,
    /// Packets into the network are dropped, but for those of a published port and of connections from inside.
    DropUninvited {
        /// The bridge.
        inside: String,
    },
    /// Packets to another bridge are dropped, but for the same.
    DropToBridge {
        /// The bridge.
        inside: String,
        /// The other.
        other: String,
    },
    /// Packets into the network are dropped.
    DropInward {
        /// The bridge.
        inside: String,
    },
    /// Packets out of the network are dropped.
    DropOutward {
        /// The bridge.
        inside: String,
    },
    /// Packets from elsewhere to the host's addresses go through [`Chain::Ports`], but for those to 127.0.0.0/8, which
    /// routing would refuse only after the translation.
    Ipv4ToPorts,
    /// The same for IPv6; the kernel refuses `::1` from elsewhere before any hook.
    Ipv6ToPorts,
    /// Packets to a port in this map go to its pod.
    Forward(PortMap),
    /// Packets of the host's loopback that leave by this interface get its address: no pod could answer 127.0.0.1.
    MasqueradeLoopback {
        /// 127.0.0.0/8.
        source: IpNet,
        /// The bridge.
        inside: String,
    },
    /// Packets of pods that go back to pods, and whose destination has been translated, go through [`Chain::Hairpin`].
    ToHairpin {
        /// The subnet.
        source: IpNet,
        /// The bridge.
        inside: String,
    },
    /// Connections to a port in this map get the address of the interface that they leave by.
    MasqueradeForwarded(PortMap),
}

impl Table {
    pub(crate) fn new(name: String, chains: Vec<(Chain, Vec<Rule>)>, ports: Vec<Forwarded>) -> Self {
        Self { name, chains, ports }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The transaction that puts the table in place of whatever has its name. The first message makes the second
    /// succeed where there is none.
    pub(super) fn replacement(&self) -> Vec<Request> {
        let mut batch =
            vec![message::batch_begin(), message::add_table(&self.name), message::delete_table(&self.name)];
        batch.push(message::add_table(&self.name));
        // Rules jump to chains and look maps up: those come first.
        batch.extend(
            self.chains.iter().map(|(chain, _)| message::add_chain(&self.name, chain.name(), chain.hook())),
        );
        batch.extend((1..).zip(PortMap::ALL).map(|(id, map)| map.addition(&self.name, id)));
        for (chain, rules) in &self.chains {
            batch.extend(rules.iter().map(|rule| rule.addition(&self.name, *chain)));
        }
        batch.extend(port_map::additions(&self.name, &self.ports));
        batch.push(message::batch_end());
        batch
    }

    /// Whether the kernel's list of a table's rules has as many in each chain as this one.
    pub(super) fn is_matched_by(&self, rules: &[Vec<u8>]) -> bool {
        let wanted: BTreeMap<_, _> = self
            .chains
            .iter()
            .filter(|(_, rules)| !rules.is_empty())
            .map(|(chain, rules)| (chain.name().as_bytes().to_vec(), rules.len()))
            .collect();
        let mut found = BTreeMap::new();
        for chain in rules.iter().filter_map(|rule| self.chain_of(rule)) {
            *found.entry(chain.to_vec()).or_insert(0) += 1;
        }
        wanted == found
    }

    /// How many elements each map has.
    pub(super) fn map_sizes(&self) -> impl Iterator<Item = (PortMap, usize)> {
        PortMap::ALL.into_iter().map(|map| (map, self.ports.iter().filter(|port| port.map() == map).count()))
    }

    /// The name of the chain that a listed rule of this table is in.
    fn chain_of<'a>(&self, rule: &'a [u8]) -> Option<&'a [u8]> {
        let text = |wanted| {
            attributes(message::attributes_of(rule))
                .find(|(kind, _)| *kind == wanted)
                .map(|(_, value)| value.strip_suffix(&[0]).unwrap_or(value))
        };
        text(message::RULE_TABLE).filter(|table| *table == self.name.as_bytes())?;
        text(message::RULE_CHAIN)
    }
}

/// The transaction that removes a table, if there is one.
pub(super) fn removal(table: &str) -> Vec<Request> {
    vec![
        message::batch_begin(),
        message::add_table(table),
        message::delete_table(table),
        message::batch_end(),
    ]
}

/// The transaction of these requests.
pub(super) fn transaction(requests: Vec<Request>) -> Vec<Request> {
    [vec![message::batch_begin()], requests, vec![message::batch_end()]].concat()
}

impl Chain {
    fn name(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::OutputGuard => "output_guard",
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::Forward => "forward",
            Self::Ports => "ports",
            Self::Hairpin => "hairpin",
            Self::Postrouting => "postrouting",
        }
    }

    /// `NF_INET_PRE_ROUTING` (0), `NF_INET_FORWARD` (2), `NF_INET_LOCAL_OUT` (3) and `NF_INET_POST_ROUTING` (4), at the
    /// priorities `raw`, `dstnat`, `filter` and `srcnat`.
    fn hook(self) -> Option<Hook> {
        match self {
            Self::Guard => Some(Hook { kind: "filter", number: 0, priority: -300 }),
            Self::OutputGuard => Some(Hook { kind: "filter", number: 3, priority: -300 }),
            Self::Prerouting => Some(Hook { kind: "nat", number: 0, priority: -100 }),
            Self::Output => Some(Hook { kind: "nat", number: 3, priority: -100 }),
            Self::Forward => Some(Hook { kind: "filter", number: 2, priority: 0 }),
            Self::Ports | Self::Hairpin => None,
            Self::Postrouting => Some(Hook { kind: "nat", number: 4, priority: 100 }),
        }
    }
}

impl Rule {
    fn addition(&self, table: &str, chain: Chain) -> Request {
        let all = Expressions::new();
        let (expressions, words) = match self {
            Self::Masquerade { source, inside } => {
                (all.source_in(*source).leaves_not_by(inside).masquerade(), format!("masquerade {source}"))
            }
            Self::DropToLoopback(from) => (
                all.came_by(from).destined_to_ipv4_loopback(true).drop_packet(),
                format!("drop from {from} to 127.0.0.0/8"),
            ),
            Self::DropRedirects { inside, is_ipv4 } => (
                all.leaves_by(inside).of_redirect(*is_ipv4).drop_packet(),
                format!("drop redirects to {inside}"),
            ),
            Self::DropUninvited { inside } => (
                all.leaves_by(inside).came_not_by(inside).uninvited().drop_packet(),
                format!("drop the uninvited to {inside}"),
            ),
            Self::DropToBridge { inside, other } => (
                all.came_by(inside).leaves_by(other).uninvited().drop_packet(),
                format!("drop from {inside} to {other}"),
            ),
            Self::DropInward { inside } => (
                all.leaves_by(inside).came_not_by(inside).drop_packet(),
                format!("drop from elsewhere to {inside}"),
            ),
            Self::DropOutward { inside } => (
                all.came_by(inside).leaves_not_by(inside).drop_packet(),
                format!("drop from {inside} to elsewhere"),
            ),
            Self::OwnToPorts => {
                (all.destined_to_host().jump(Chain::Ports.name()), "forward the host's own".to_owned())
            }
            Self::Ipv4ToPorts => (
                all.destined_to_ipv4_loopback(false).destined_to_host().jump(Chain::Ports.name()),
                "forward IPv4 from elsewhere".to_owned(),
            ),
            Self::Ipv6ToPorts => (
                all.of_ipv6().destined_to_host().jump(Chain::Ports.name()),
                "forward IPv6 from elsewhere".to_owned(),
            ),
            Self::Forward(map) => {
                (all.look_up_destination(*map).send_to_value_of(*map), format!("forward {}", map.name()))
            }
            Self::MasqueradeLoopback { source, inside } => (
                all.source_in(*source).leaves_by(inside).masquerade(),
                format!("masquerade {source} to {inside}"),
            ),
            Self::ToHairpin { source, inside } => (
                all.source_in(*source)
                    .leaves_by(inside)
                    .with_translated_destination()
                    .jump(Chain::Hairpin.name()),
                format!("masquerade {source} back to {inside}"),
            ),
            Self::MasqueradeForwarded(map) => (
                all.look_up_original_destination(*map).masquerade(),
                format!("masquerade forwarded {}", map.name()),
            ),
        };
        message::add_rule(table, chain.name(), &expressions.into_attributes(), &words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attributes;

    fn table(rules: usize) -> Table {
        let rule = Rule::Masquerade { source: "10.88.0.0/24".parse().unwrap(), inside: "b0".to_owned() };
        Table::new(table_name("b0"), vec![(Chain::Postrouting, vec![rule; rules])], Vec::new())
    }

    fn listed(table: &str, chain: &str) -> Vec<u8> {
        let attributes = Attributes::new().text(message::RULE_TABLE, table).text(message::RULE_CHAIN, chain);
        [&[1, 0, 0, 0], attributes.as_bytes()].concat()
    }

    #[test]
    fn a_table_is_whole_when_every_chain_has_its_rules() {
        let ours = listed("cleat_b0", "postrouting");
        for (wanted, found, is_whole) in [
            (0, vec![], true),
            (1, vec![], false),
            (1, vec![ours.clone()], true),
            (2, vec![ours.clone()], false),
            (1, vec![ours.clone(), ours.clone()], false),
            (1, vec![listed("cleat_b1", "postrouting")], false),
            (1, vec![listed("cleat_b0", "other")], false),
            (1, vec![ours, listed("cleat_b1", "postrouting")], true),
            (1, vec![vec![], vec![1, 0]], false),
        ] {
            assert_eq!(table(wanted).is_matched_by(&found), is_whole, "{wanted} wanted, found {found:?}");
        }
    }

    #[test]
    fn a_replacement_is_one_transaction() {
        let words: Vec<_> = table(1).replacement().into_iter().map(|request| request.words).collect();
        let expected = [
            "begin an nftables transaction",
            "add nftables table inet cleat_b0",
            "delete nftables table inet cleat_b0",
            "add nftables table inet cleat_b0",
            "add nftables chain inet cleat_b0 postrouting",
            "add nftables map inet cleat_b0 ports4_of_address",
            "add nftables map inet cleat_b0 ports4",
            "add nftables map inet cleat_b0 ports6_of_address",
            "add nftables map inet cleat_b0 ports6",
            "add nftables rule inet cleat_b0 postrouting masquerade 10.88.0.0/24",
            "commit an nftables transaction",
        ];
        assert_eq!(words, expected);
    }
}
