//! The expressions that rules are made of (`linux/netfilter/nf_tables.h`).
//!
//! A rule is a little program: an expression loads a value into register 1, the next compares it and leaves the rule
//! where it differs, the last is the verdict.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::netlink::Attributes;

const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// `NFT_REG_1`: 16 bytes, enough for an IPv6 address or an interface's name.
const REGISTER: u32 = 1;

/// `NFT_META_NFPROTO`: which of IPv4 and IPv6 a packet is.
const META_PROTOCOL: u32 = 15;
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

    /// Goes on where the packet leaves by another interface than `name`.
    pub(super) fn leaves_not_by(self, name: &str) -> Self {
        let mut padded = name.as_bytes().to_vec();
        padded.resize(IFNAME_BYTES, 0);
        self.meta(META_OUTPUT_NAME).compare(NOT_EQUAL, &padded)
    }

    /// Gives the packet the address of the interface it leaves by.
    pub(super) fn masquerade(self) -> Self {
        self.push("masq", &Attributes::new())
    }

    pub(super) fn into_attributes(self) -> Attributes {
        self.0
    }

    fn meta(self, key: u32) -> Self {
        const DREG: u16 = 1;
        const KEY: u16 = 2;
        self.push("meta", &Attributes::new().be_u32(KEY, key).be_u32(DREG, REGISTER))
    }

    /// Loads `length` bytes of the packet's network header.
    fn payload(self, offset: u32, length: usize) -> Self {
        const DREG: u16 = 1;
        const BASE: u16 = 2;
        const OFFSET: u16 = 3;
        const LENGTH: u16 = 4;
        let data = Attributes::new()
            .be_u32(DREG, REGISTER)
            .be_u32(BASE, NETWORK_HEADER)
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

fn value(bytes: &[u8]) -> Attributes {
    Attributes::new().bytes(DATA_VALUE, bytes)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
