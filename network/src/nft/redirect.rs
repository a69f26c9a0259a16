//! A table that leads one address and port of a namespace to other ports of the same address.
//!
//! It is for the namespace of a container, where nothing else of ours is: so it is made whole each time, and goes with
//! the namespace.

use std::net::SocketAddrV4;

use super::{
    expression::Expressions,
    message::{self, Hook},
    ruleset::transaction,
};
use crate::netlink::Request;

/// The only chain: what the namespace's own programs send, where destinations are translated (`NF_INET_LOCAL_OUT`, at the
/// priority `dstnat`).
const CHAIN: &str = "output";
const HOOK: Hook = Hook { kind: "nat", number: 3, priority: -100 };

/// A transport protocol and the port that its packets go to instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    /// `IPPROTO_*`.
    pub(crate) protocol: u8,
    /// The port.
    pub(crate) to_port: u16,
}

/// The transaction that puts such a table in place of whatever has its name.
pub(super) fn replacement(table: &str, from: SocketAddrV4, redirects: &[Redirect]) -> Vec<Request> {
    let mut requests = vec![
        message::add_table(table),
        message::delete_table(table),
        message::add_table(table),
        message::add_chain(table, CHAIN, Some(HOOK)),
    ];
    requests.extend(redirects.iter().map(|redirect| {
        let rule = Expressions::new()
            .destined_to_ipv4(*from.ip())
            .destined_to_port(redirect.protocol, from.port())
            .send_to_ipv4_port(redirect.to_port);
        let words = format!("lead {from} to port {}", redirect.to_port);
        message::add_rule(table, CHAIN, &rule.into_attributes(), &words)
    }));
    transaction(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirection_is_one_transaction_with_a_rule_for_each_protocol() {
        let redirects = [Redirect { protocol: 17, to_port: 4000 }, Redirect { protocol: 6, to_port: 5000 }];
        let requests = replacement("t", "127.0.0.11:53".parse().unwrap(), &redirects);
        let words: Vec<_> = requests.iter().map(|request| request.words.as_str()).collect();
        let expected = [
            "begin an nftables transaction",
            "add nftables table inet t",
            "delete nftables table inet t",
            "add nftables table inet t",
            "add nftables chain inet t output",
            "add nftables rule inet t output lead 127.0.0.11:53 to port 4000",
            "add nftables rule inet t output lead 127.0.0.11:53 to port 5000",
            "commit an nftables transaction",
        ];
        assert_eq!(words, expected);
    }
}
