//! The messages of nftables (`linux/netfilter/nf_tables.h`, `nfnetlink.h`).

use crate::netlink::{Attributes, Request, flags};

/// `NFPROTO_INET`: a table for IPv4 and IPv6.
const FAMILY_INET: u8 = 1;

/// `NFNL_SUBSYS_NFTABLES`, the upper byte of the message types.
const SUBSYSTEM: u16 = 10;

/// Marks around a transaction (`NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`).
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const GET_GEN: u16 = 16;

const TABLE_NAME: u16 = 1;

const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;

pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;

/// `NFTA_GEN_ID` in the answer to [`get_generation`].
pub(super) const GEN_ID: u16 = 1;

/// Bytes of `struct nfgenmsg` before a message's attributes.
const GENERIC_HEADER_BYTES: usize = 4;

/// Where and when a chain meets packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter` or `nat`.
    pub(crate) kind: &'static str,
    /// `NF_INET_*`.
    pub(crate) number: u32,
    /// The lower, the earlier.
    pub(crate) priority: i32,
}

pub(super) fn batch_begin() -> Request {
    Request::unacknowledged(BATCH_BEGIN, batch_header(), "begin an nftables transaction")
}

pub(super) fn batch_end() -> Request {
    Request::unacknowledged(BATCH_END, batch_header(), "commit an nftables transaction")
}

/// Adds a table; one that exists stays as it is.
pub(super) fn add_table(table: &str) -> Request {
    let attributes = Attributes::new().text(TABLE_NAME, table);
    request(NEW_TABLE, flags::CREATE, &attributes, format!("add nftables table inet {table}"))
}

/// Deletes a table and all in it.
pub(super) fn delete_table(table: &str) -> Request {
    let attributes = Attributes::new().text(TABLE_NAME, table);
    request(DEL_TABLE, 0, &attributes, format!("delete nftables table inet {table}"))
}

pub(super) fn add_chain(table: &str, chain: &str, hook: Hook) -> Request {
    let place = Attributes::new()
        .be_u32(HOOK_NUMBER, hook.number)
        .be_u32(HOOK_PRIORITY, hook.priority.cast_unsigned());
    let attributes = Attributes::new()
        .text(CHAIN_TABLE, table)
        .text(CHAIN_NAME, chain)
        .nested(CHAIN_HOOK, &place)
        .text(CHAIN_TYPE, hook.kind);
    request(NEW_CHAIN, flags::CREATE, &attributes, format!("add nftables chain inet {table} {chain}"))
}

/// Adds a rule at the chain's end.
pub(super) fn add_rule(table: &str, chain: &str, expressions: &Attributes, words: &str) -> Request {
    let attributes = Attributes::new()
        .text(RULE_TABLE, table)
        .text(RULE_CHAIN, chain)
        .nested(RULE_EXPRESSIONS, expressions);
    let words = format!("add nftables rule inet {table} {chain} {words}");
    request(NEW_RULE, flags::CREATE | flags::APPEND, &attributes, words)
}

/// Asks for all rules of a table.
pub(super) fn dump_rules(table: &str) -> Request {
    let attributes = Attributes::new().text(RULE_TABLE, table);
    request(GET_RULE, flags::DUMP, &attributes, format!("list nftables table inet {table}"))
}

pub(super) fn get_generation() -> Request {
    request(GET_GEN, 0, &Attributes::new(), "look up the generation of the nftables rule set".to_owned())
}

/// The attributes of an answer.
pub(super) fn attributes_of(answer: &[u8]) -> &[u8] {
    answer.get(GENERIC_HEADER_BYTES..).unwrap_or_default()
}

fn request(message: u16, flags: u16, attributes: &Attributes, words: String) -> Request {
    let payload = [&[FAMILY_INET, 0, 0, 0], attributes.as_bytes()].concat();
    Request::new(SUBSYSTEM << 8 | message, flags, payload, words)
}

/// `struct nfgenmsg` of a batch: the subsystem is its resource, in network byte order.
fn batch_header() -> Vec<u8> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    vec![0, 0, high, low]
}
