//! The messages of nftables (`linux/netfilter/nf_tables.h`, `nfnetlink.h`).

use crate::netlink::{Attributes, Request, attributes, flags};

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
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DEL_ELEMENT: u16 = 14;
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

const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_BYTES: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_BYTES: u16 = 7;
const SET_ID: u16 = 10;
/// `NFT_SET_MAP`.
const IS_MAP: u32 = 8;

const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_USER_DATA: u16 = 6;
const DATA_VALUE: u16 = 1;
/// What nft takes for a comment in an element's user data (`NFTNL_UDATA_SET_ELEM_COMMENT`).
const COMMENT: u8 = 0;
/// Bytes that a comment may have with its terminating zero: its length is one byte.
const MAX_COMMENT_BYTES: usize = 128;

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

/// What a map leads from and to: nft's numbers of the types, and lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapShape {
    pub(super) key: u32,
    pub(super) key_bytes: u32,
    pub(super) data: u32,
    pub(super) data_bytes: u32,
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

/// Adds a chain; one without a hook is only jumped to.
pub(super) fn add_chain(table: &str, chain: &str, hook: Option<Hook>) -> Request {
    let mut attributes = Attributes::new().text(CHAIN_TABLE, table).text(CHAIN_NAME, chain);
    if let Some(hook) = hook {
        let place = Attributes::new()
            .be_u32(HOOK_NUMBER, hook.number)
            .be_u32(HOOK_PRIORITY, hook.priority.cast_unsigned());
        attributes = attributes.nested(CHAIN_HOOK, &place).text(CHAIN_TYPE, hook.kind);
    }
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

/// Adds a map, numbered `id` within its transaction.
pub(super) fn add_map(table: &str, map: &str, id: u32, shape: &MapShape) -> Request {
    let attributes = Attributes::new()
        .text(SET_TABLE, table)
        .text(SET_NAME, map)
        .be_u32(SET_FLAGS, IS_MAP)
        .be_u32(SET_KEY_TYPE, shape.key)
        .be_u32(SET_KEY_BYTES, shape.key_bytes)
        .be_u32(SET_DATA_TYPE, shape.data)
        .be_u32(SET_DATA_BYTES, shape.data_bytes)
        .be_u32(SET_ID, id);
    request(NEW_SET, flags::CREATE, &attributes, format!("add nftables map inet {table} {map}"))
}

/// An element of a map; `data` is its value and whom it belongs to, which its removal does without.
pub(super) fn element(key: &[u8], data: Option<(&[u8], &str)>) -> Attributes {
    let value = |bytes| Attributes::new().bytes(DATA_VALUE, bytes);
    let element = Attributes::new().nested(ELEMENT_KEY, &value(key));
    let Some((data, owner)) = data else { return element };
    element.nested(ELEMENT_DATA, &value(data)).bytes(ELEMENT_USER_DATA, &comment(owner))
}

/// A comment as nft keeps it: type, length and the text with its terminating zero.
fn comment(text: &str) -> Vec<u8> {
    let end = text.floor_char_boundary(MAX_COMMENT_BYTES - 1);
    let text = [&text.as_bytes()[..end], &[0]].concat();
    let length = u8::try_from(text.len()).expect("a comment has at most 128 bytes");
    [&[COMMENT, length], text.as_slice()].concat()
}

/// Adds elements to a map; those that are there already, with the same value, stay.
pub(super) fn add_elements(table: &str, map: &str, elements: impl Iterator<Item = Attributes>) -> Request {
    let words = format!("add to nftables map inet {table} {map}");
    request(NEW_ELEMENT, flags::CREATE, &element_list(table, map, elements), words)
}

/// Removes elements of a map.
pub(super) fn remove_elements(table: &str, map: &str, elements: impl Iterator<Item = Attributes>) -> Request {
    let words = format!("remove from nftables map inet {table} {map}");
    request(DEL_ELEMENT, 0, &element_list(table, map, elements), words)
}

fn element_list(table: &str, map: &str, elements: impl Iterator<Item = Attributes>) -> Attributes {
    let list = elements.fold(Attributes::new(), |list, element| list.nested(LIST_ELEMENT, &element));
    Attributes::new().text(ELEMENTS_TABLE, table).text(ELEMENTS_SET, map).nested(ELEMENTS_LIST, &list)
}

/// Asks for all elements of a map.
pub(super) fn dump_elements(table: &str, map: &str) -> Request {
    let attributes = Attributes::new().text(ELEMENTS_TABLE, table).text(ELEMENTS_SET, map);
    request(GET_ELEMENT, flags::DUMP, &attributes, format!("list nftables map inet {table} {map}"))
}

/// How many elements a part of the answer to [`dump_elements`] lists.
pub(super) fn count_elements(answer: &[u8]) -> usize {
    attributes(attributes_of(answer))
        .filter(|(kind, _)| *kind == ELEMENTS_LIST)
        .map(|(_, list)| attributes(list).count())
        .sum()
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
