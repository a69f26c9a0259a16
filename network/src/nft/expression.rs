//! The expressions that rules are made of (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a little program: an expression loads a value into register 1, the next compares it and leaves the rule
//! where it differs, the last is the verdict.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::PortMap;
use crate::netlink::Attributes;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// `NFT_REG_1`: 16 bytes, enough for an IPv6 address or an interface's name.
const REGISTER: u32 = 1;

/// `NFT_META_NFPROTO`: which of IPv4 and IPv6 a packet is.
const META_PROTOCOL: u32 = 15;
/// `NFT_META_IIFNAME`: the interface that a packet came by.
const META_INPUT_NAME: u32 = 6;
/// `NFT_META_L4PROTO`: its transport protocol.
const META_TRANSPORT: u32 = 16;
/// `NFT_META_OIFNAME`: the interface that a packet leaves by.
const META_OUTPUT_NAME: u32 = 7;

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const PROTOCOL_IPV4: u8 = 2;
const PROTOCOL_IPV6: u8 = 10;

/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
/// Offset in bytes of the source address in an IPv4 header (RFC 791) and an IPv6 header (RFC 8200).
const SOURCE_OFFSET_IPV4: u32 = 12;
const SOURCE_OFFSET_IPV6: u32 = 8;

/// Offset in bytes of the destination address in those headers.
const DESTINATION_OFFSET_IPV4: u32 = 16;
const DESTINATION_OFFSET_IPV6: u32 = 24;
/// `NFT_PAYLOAD_TRANSPORT_HEADER`, and the destination port in it: TCP, UDP and SCTP have it at the same place.
const TRANSPORT_HEADER: u32 = 2;
const DESTINATION_PORT_OFFSET: u32 = 2;
const PORT_BYTES: usize = 2;

/// `IPPROTO_ICMP`, `IPPROTO_ICMPV6` and the types of a redirect, the first byte of either header.
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_REDIRECT: u8 = 5;
const ICMPV6_REDIRECT: u8 = 137;

/// `NFT_REG32_00` and `NFT_REG32_08`: registers of four bytes, the first of which is where [`REGISTER`] begins. A map's
/// key is put together from the one on, its value comes to the other and those behind it.
const KEY_REGISTER: u32 = 8;
const VALUE_REGISTER: u32 = 16;
/// Words of four bytes in an address.
const WORDS_IPV4: u32 = 1;
const WORDS_IPV6: u32 = 4;

/// `NFT_CT_STATUS` and `IPS_DST_NAT` in it: the connection's destination has been translated.
const CT_STATUS: u32 = 2;
const TRANSLATED: u32 = 1 << 5;
/// `NFT_CT_STATE` and its bits for established and related ones (`NF_CT_STATE_BIT`).
const CT_STATE: u32 = 0;
const KNOWN_CONNECTION: u32 = (1 << 1) | (1 << 2);
/// `NFT_CT_PROTO_DST`, `NFT_CT_DST_IP`, `NFT_CT_DST_IP6` of the direction `IP_CT_DIR_ORIGINAL`: where the connection's
/// first packet was sent.
const CT_PORT: u32 = 12;
const CT_ADDRESS_IPV4: u32 = 20;
const CT_ADDRESS_IPV6: u32 = 22;
const CT_ORIGINAL: u8 = 0;

/// `NFT_FIB_RESULT_ADDRTYPE` of `NFTA_FIB_F_DADDR`, and `RTN_LOCAL`: the destination is an address of the host.
const FIB_ADDRESS_TYPE: u32 = 3;
const FIB_DESTINATION: u32 = 1 << 1;
const LOCAL: u32 = 2;

/// `NFT_REG_VERDICT`, `NF_DROP` and `NFT_JUMP`.
const VERDICT_REGISTER: u32 = 0;
const DROP: i32 = 0;
const JUMP: i32 = -3;

/// `NFT_NAT_DNAT`.
const NAT_DESTINATION: u32 = 1;

/// Bytes of an interface's name in a register (`IFNAMSIZ`).
const IFNAME_BYTES: usize = 16;

/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;

/// A list of expressions being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expressions(Attributes);

impl Expressions {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// Goes on where the packet's source is of `subnet`.
    pub(super) fn source_in(self, subnet: IpNet) -> Self {
        let (protocol, offset) = match subnet {
            IpNet::V4(_) => (PROTOCOL_IPV4, SOURCE_OFFSET_IPV4),
            IpNet::V6(_) => (PROTOCOL_IPV6, SOURCE_OFFSET_IPV6),
        };
        let network = octets(subnet.network());
        let mask = octets(subnet.netmask());
        self.meta(META_PROTOCOL)
            .compare(EQUAL, &[protocol])
            .payload(offset, network.len())
            .mask(&mask)
            .compare(EQUAL, &network)
    }

    /// Goes on where the packet's destination is of 127.0.0.0/8, or is not.
    pub(super) fn destined_to_ipv4_loopback(self, is_wanted: bool) -> Self {
        let loopback = [127];
        self.meta(META_PROTOCOL)
            .compare(EQUAL, &[PROTOCOL_IPV4])
            .payload(DESTINATION_OFFSET_IPV4, loopback.len())
            .compare(if is_wanted { EQUAL } else { NOT_EQUAL }, &loopback)
    }

    /// Goes on where the packet tells its receiver of a better way: an ICMP redirect (RFC 792, RFC 4861).
    pub(super) fn of_redirect(self, is_ipv4: bool) -> Self {
        let (protocol, transport, kind) = match is_ipv4 {
            true => (PROTOCOL_IPV4, ICMP, ICMP_REDIRECT),
            false => (PROTOCOL_IPV6, ICMPV6, ICMPV6_REDIRECT),
        };
        self.meta(META_PROTOCOL)
            .compare(EQUAL, &[protocol])
            .meta(META_TRANSPORT)
            .compare(EQUAL, &[transport])
            .load(TRANSPORT_HEADER, 0, 1, REGISTER)
            .compare(EQUAL, &[kind])
    }

    /// Goes on where the packet is one of IPv6.
    pub(super) fn of_ipv6(self) -> Self {
        self.meta(META_PROTOCOL).compare(EQUAL, &[PROTOCOL_IPV6])
    }

    /// Goes on where the packet leaves by another interface than `name`.
    pub(super) fn leaves_not_by(self, name: &str) -> Self {
        self.meta(META_OUTPUT_NAME).compare(NOT_EQUAL, &padded(name))
    }

    /// Goes on where the packet leaves by the interface `name`.
    pub(super) fn leaves_by(self, name: &str) -> Self {
        self.meta(META_OUTPUT_NAME).compare(EQUAL, &padded(name))
    }

    /// Goes on where the packet came by another interface than `name`.
    pub(super) fn came_not_by(self, name: &str) -> Self {
        self.meta(META_INPUT_NAME).compare(NOT_EQUAL, &padded(name))
    }

    /// Goes on where the packet came by the interface `name`.
    pub(super) fn came_by(self, name: &str) -> Self {
        self.meta(META_INPUT_NAME).compare(EQUAL, &padded(name))
    }

    /// Goes on where the packet's destination is an address of the host.
    pub(super) fn destined_to_host(self) -> Self {
        const DREG: u16 = 1;
        const RESULT: u16 = 2;
        const FLAGS: u16 = 3;
        let data = Attributes::new()
            .be_u32(DREG, REGISTER)
            .be_u32(RESULT, FIB_ADDRESS_TYPE)
            .be_u32(FLAGS, FIB_DESTINATION);
        self.push("fib", &data).compare(EQUAL, &LOCAL.to_ne_bytes())
    }

    /// Goes on where somebody has translated the destination of the packet's connection.
    pub(super) fn with_translated_destination(self) -> Self {
        self.connection(CT_STATUS, None, REGISTER)
            .mask(&TRANSLATED.to_ne_bytes())
            .compare(NOT_EQUAL, &0_u32.to_ne_bytes())
    }

    /// Goes on where the packet belongs to no connection that was let through before, and nobody has translated its
    /// destination.
    pub(super) fn uninvited(self) -> Self {
        self.connection(CT_STATE, None, REGISTER)
            .mask(&KNOWN_CONNECTION.to_ne_bytes())
            .compare(EQUAL, &0_u32.to_ne_bytes())
            .connection(CT_STATUS, None, REGISTER)
            .mask(&TRANSLATED.to_ne_bytes())
            .compare(EQUAL, &0_u32.to_ne_bytes())
    }

    /// Goes on where the packet's destination is in `map`, whose value is loaded.
    pub(super) fn look_up_destination(self, map: PortMap) -> Self {
        let (offset, words) = match map.is_ipv4() {
            true => (DESTINATION_OFFSET_IPV4, WORDS_IPV4),
            false => (DESTINATION_OFFSET_IPV6, WORDS_IPV6),
        };
        let (with_address, next) = if map.has_address() {
            let length = words as usize * 4;
            (self.of_family(map).load(NETWORK_HEADER, offset, length, KEY_REGISTER), KEY_REGISTER + words)
        } else {
            (self.of_family(map), KEY_REGISTER)
        };
        with_address
            .meta_to(META_TRANSPORT, next)
            .load(TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, PORT_BYTES, next + 1)
            .look_up(map)
    }

    /// Goes on where the destination that the packet's connection began with is in `map`.
    pub(super) fn look_up_original_destination(self, map: PortMap) -> Self {
        let (key, words) = match map.is_ipv4() {
            true => (CT_ADDRESS_IPV4, WORDS_IPV4),
            false => (CT_ADDRESS_IPV6, WORDS_IPV6),
        };
        let original = Some(CT_ORIGINAL);
        let (with_address, next) = if map.has_address() {
            (self.of_family(map).connection(key, original, KEY_REGISTER), KEY_REGISTER + words)
        } else {
            (self.of_family(map), KEY_REGISTER)
        };
        with_address.meta_to(META_TRANSPORT, next).connection(CT_PORT, original, next + 1).look_up(map)
    }

    /// Sends the packet, and with it its connection, to the address and the port that `map` led to.
    pub(super) fn send_to_value_of(self, map: PortMap) -> Self {
        const TYPE: u16 = 1;
        const FAMILY: u16 = 2;
        const ADDRESS: u16 = 3;
        const PORT: u16 = 5;
        let (family, words) = match map.is_ipv4() {
            true => (PROTOCOL_IPV4, WORDS_IPV4),
            false => (PROTOCOL_IPV6, WORDS_IPV6),
        };
        let data = Attributes::new()
            .be_u32(TYPE, NAT_DESTINATION)
            .be_u32(FAMILY, family.into())
            .be_u32(ADDRESS, VALUE_REGISTER)
            .be_u32(PORT, VALUE_REGISTER + words);
        self.push("nat", &data)
    }

    /// Goes on where the packet's destination is this address.
    pub(super) fn destined_to_ipv4(self, address: Ipv4Addr) -> Self {
        let octets = address.octets();
        self.meta(META_PROTOCOL)
            .compare(EQUAL, &[PROTOCOL_IPV4])
            .payload(DESTINATION_OFFSET_IPV4, octets.len())
            .compare(EQUAL, &octets)
    }

    /// Goes on where the packet goes to this port by this transport protocol.
    pub(super) fn destined_to_port(self, protocol: u8, port: u16) -> Self {
        self.meta(META_TRANSPORT)
            .compare(EQUAL, &[protocol])
            .load(TRANSPORT_HEADER, DESTINATION_PORT_OFFSET, PORT_BYTES, REGISTER)
            .compare(EQUAL, &port.to_be_bytes())
    }

    /// Sends the packet, and with it its connection, to another port of its destination.
    pub(super) fn send_to_ipv4_port(self, port: u16) -> Self {
        const DREG: u16 = 1;
        const DATA: u16 = 2;
        const TYPE: u16 = 1;
        const FAMILY: u16 = 2;
        const PORT: u16 = 5;
        let data = Attributes::new().be_u32(DREG, REGISTER).nested(DATA, &value(&port.to_be_bytes()));
        let translation = Attributes::new()
            .be_u32(TYPE, NAT_DESTINATION)
            .be_u32(FAMILY, PROTOCOL_IPV4.into())
            .be_u32(PORT, REGISTER);
        self.push("immediate", &data).push("nat", &translation)
    }

    /// Goes on with the rules of `chain`, and behind this rule where none of them judges.
    pub(super) fn jump(self, chain: &str) -> Self {
        self.verdict(JUMP, Some(chain))
    }

    /// Drops the packet.
    pub(super) fn drop_packet(self) -> Self {
        self.verdict(DROP, None)
    }

    /// Gives the packet the address of the interface it leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.push("masq", &Attributes::new())
    }

    pub(super) fn into_attributes(self) -> Attributes {
        self.0
    }

    fn meta(self, key: u32) -> Self {
        self.meta_to(key, REGISTER)
    }

    fn meta_to(self, key: u32, register: u32) -> Self {
        const DREG: u16 = 1;
        const KEY: u16 = 2;
        self.push("meta", &Attributes::new().be_u32(KEY, key).be_u32(DREG, register))
    }

    fn of_family(self, map: PortMap) -> Self {
        let protocol = if map.is_ipv4() { PROTOCOL_IPV4 } else { PROTOCOL_IPV6 };
        self.meta(META_PROTOCOL).compare(EQUAL, &[protocol])
    }

    /// Loads what connection tracking knows; some of it only of one direction.
    fn connection(self, key: u32, direction: Option<u8>, register: u32) -> Self {
        const DREG: u16 = 1;
        const KEY: u16 = 2;
        const DIRECTION: u16 = 3;
        let data = Attributes::new().be_u32(DREG, register).be_u32(KEY, key);
        match direction {
            Some(direction) => self.push("ct", &data.bytes(DIRECTION, &[direction])),
            None => self.push("ct", &data),
        }
    }

    /// Goes on where the key is in `map`.
    fn look_up(self, map: PortMap) -> Self {
        const SET: u16 = 1;
        const SREG: u16 = 2;
        const DREG: u16 = 3;
        let data =
            Attributes::new().text(SET, map.name()).be_u32(SREG, KEY_REGISTER).be_u32(DREG, VALUE_REGISTER);
        self.push("lookup", &data)
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Self {
        const DREG: u16 = 1;
        const DATA: u16 = 2;
        const DATA_VERDICT: u16 = 2;
        const CODE: u16 = 1;
        const CHAIN: u16 = 2;
        let verdict = Attributes::new().be_u32(CODE, code.cast_unsigned());
        let verdict = match chain {
            Some(chain) => verdict.text(CHAIN, chain),
            None => verdict,
        };
        let data = Attributes::new()
            .be_u32(DREG, VERDICT_REGISTER)
            .nested(DATA, &Attributes::new().nested(DATA_VERDICT, &verdict));
        self.push("immediate", &data)
    }

    /// Loads `length` bytes of the packet's network header.
    fn payload(self, offset: u32, length: usize) -> Self {
        self.load(NETWORK_HEADER, offset, length, REGISTER)
    }

    fn load(self, base: u32, offset: u32, length: usize, register: u32) -> Self {
        const DREG: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        let data = Attributes::new()
            .be_u32(DREG, register)
            .be_u32(BASE, base)
            .be_u32(OFFSET, offset)
            .be_u32(LENGTH, u32::try_from(length).expect("an address has at most 16 bytes"));
        self.push("payload", &data)
    }

    /// Keeps the bits of `mask` in the register.
    fn mask(self, mask: &[u8]) -> Self {
        const SREG: u16 = 1;
        const DREG: u16 = 2;
        const LENGTH: u16 = 3;
        const MASK: u16 = 4;
        const XOR: u16 = 5;
        let data = Attributes::new()
            .be_u32(SREG, REGISTER)
            .be_u32(DREG, REGISTER)
            .be_u32(LENGTH, u32::try_from(mask.len()).expect("an address has at most 16 bytes"))
            .nested(MASK, &value(mask))
            .nested(XOR, &value(&vec![0; mask.len()]));
        self.push("bitwise", &data)
    }

    fn compare(self, how: u32, with: &[u8]) -> Self {
        const SREG: u16 = 1;
        const OPERATION: u16 = 2;
        const DATA: u16 = 3;
        let data = Attributes::new().be_u32(SREG, REGISTER).be_u32(OPERATION, how).nested(DATA, &value(with));
        self.push("cmp", &data)
    }

    fn push(self, name: &str, data: &Attributes) -> Self {
        let expression = Attributes::new().text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data);
        Self(self.0.nested(LIST_ELEMENT, &expression))
    }
}

/// An interface's name as a register holds it.
fn padded(name: &str) -> Vec<u8> {
    let mut padded = name.as_bytes().to_vec();
    padded.resize(IFNAME_BYTES, 0);
    padded
}

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(DATA_VALUE, bytes)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
