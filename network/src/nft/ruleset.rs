//! A table as a value: what should be in the kernel, and whether it is.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{
    expression::Expressions,
    message::{self, Hook},
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
}

/// A chain at one of the kernel's hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
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
}

impl Table {
    pub(crate) fn new(name: String, chains: Vec<(Chain, Vec<Rule>)>) -> Self {
        Self { name, chains }
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
        for (chain, rules) in &self.chains {
            batch.push(message::add_chain(&self.name, chain.name(), chain.hook()));
            batch.extend(rules.iter().map(|rule| rule.addition(&self.name, *chain)));
        }
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

impl Chain {
    fn name(self) -> &'static str {
        match self {
            Self::Postrouting => "postrouting",
        }
    }

    /// `NF_INET_POST_ROUTING` at the priority `srcnat`, where the kernel translates sources.
    fn hook(self) -> Hook {
        match self {
            Self::Postrouting => Hook { kind: "nat", number: 4, priority: 100 },
        }
    }
}

impl Rule {
    fn addition(&self, table: &str, chain: Chain) -> Request {
        match self {
            Self::Masquerade { source, inside } => {
                let expressions = Expressions::new().source_in(*source).leaves_not_by(inside).masquerade();
                let words = format!("masquerade {source}");
                message::add_rule(table, chain.name(), &expressions.into_attributes(), &words)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attributes;

    fn table(rules: usize) -> Table {
        let rule = Rule::Masquerade { source: "10.88.0.0/24".parse().unwrap(), inside: "b0".to_owned() };
        Table::new(table_name("b0"), vec![(Chain::Postrouting, vec![rule; rules])])
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
            "add nftables rule inet cleat_b0 postrouting masquerade 10.88.0.0/24",
            "commit an nftables transaction",
        ];
        assert_eq!(words, expected);
    }
}
