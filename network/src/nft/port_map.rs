//! The maps that lead from a port of the host to one of a pod: a packet finds its pod in one lookup, however many ports
//! are published.
//!
//! Four maps for two families: ports of every address of the host, and ports of one. A key is the protocol and the port,
//! after the address where there is one; the value is the pod's address and port. In a register each part starts at a
//! multiple of four bytes.

use std::net::IpAddr;

use super::message;
use crate::netlink::{Attributes, Request};

/// nft's numbers for what a key is made of, six bits each (`enum datatypes` of nft's own sources): the kernel keeps them
/// for whoever lists the map.
const TYPE_IPV4: u32 = 7;
const TYPE_IPV6: u32 = 8;
const TYPE_PROTOCOL: u32 = 12;
const TYPE_PORT: u32 = 13;
const TYPE_BITS: u32 = 6;

/// Bytes of a protocol or a port in a key.
const WORD_BYTES: u32 = 4;

/// Elements in one message, whose attributes end at 64 KiB.
const ELEMENTS_PER_MESSAGE: usize = 256;

/// A map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PortMap {
    /// IPv4, every address of the host.
    AnyIpv4,
    /// IPv6, every address of the host.
    AnyIpv6,
    /// IPv4, one address.
    OneIpv4,
    /// IPv6, one address.
    OneIpv6,
}

/// A port of the host that leads to one of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forwarded {
    /// `IPPROTO_*`.
    pub(crate) protocol: u8,
    /// The one address of the host that it is open on; none for every one of the family of [`Self::to`].
    pub(crate) host_ip: Option<IpAddr>,
    /// The host's port.
    pub(crate) host_port: u16,
    /// The pod's address.
    pub(crate) to: IpAddr,
    /// The pod's port.
    pub(crate) port: u16,
    /// The pod's id, kept beside the element for whoever lists it.
    pub(crate) owner: String,
}

impl PortMap {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::OneIpv4, Self::AnyIpv4, Self::OneIpv6, Self::AnyIpv6];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AnyIpv4 => "ports4",
            Self::AnyIpv6 => "ports6",
            Self::OneIpv4 => "ports4_of_address",
            Self::OneIpv6 => "ports6_of_address",
        }
    }

    pub(super) fn is_ipv4(self) -> bool {
        matches!(self, Self::AnyIpv4 | Self::OneIpv4)
    }

    /// Whether the host's address is part of the key.
    pub(super) fn has_address(self) -> bool {
        matches!(self, Self::OneIpv4 | Self::OneIpv6)
    }

    fn address_bytes(self) -> u32 {
        if self.is_ipv4() { 4 } else { 16 }
    }

    /// The request that makes it, as the `id`th of its transaction.
    pub(super) fn addition(self, table: &str, id: u32) -> Request {
        let address = if self.is_ipv4() { TYPE_IPV4 } else { TYPE_IPV6 };
        let port = TYPE_PROTOCOL << TYPE_BITS | TYPE_PORT;
        let (key, key_bytes) = if self.has_address() {
            (address << (2 * TYPE_BITS) | port, self.address_bytes() + 2 * WORD_BYTES)
        } else {
            (port, 2 * WORD_BYTES)
        };
        let shape = message::MapShape {
            key,
            key_bytes,
            data: address << TYPE_BITS | TYPE_PORT,
            data_bytes: self.address_bytes() + WORD_BYTES,
        };
        message::add_map(table, self.name(), id, &shape)
    }
}

impl Forwarded {
    /// The map it belongs to.
    pub(super) fn map(&self) -> PortMap {
        match (self.to, self.host_ip) {
            (IpAddr::V4(_), None) => PortMap::AnyIpv4,
            (IpAddr::V4(_), Some(_)) => PortMap::OneIpv4,
            (IpAddr::V6(_), None) => PortMap::AnyIpv6,
            (IpAddr::V6(_), Some(_)) => PortMap::OneIpv6,
        }
    }

    fn key(&self) -> Vec<u8> {
        let mut key = self.host_ip.map(octets).unwrap_or_default();
        key.extend_from_slice(&[self.protocol, 0, 0, 0]);
        key.extend_from_slice(&port(self.host_port));
        key
    }

    fn target(&self) -> Vec<u8> {
        [octets(self.to), port(self.port).to_vec()].concat()
    }

    fn addition(&self) -> Attributes {
        message::element(&self.key(), Some((&self.target(), &self.owner)))
    }

    fn removal(&self) -> Attributes {
        message::element(&self.key(), None)
    }
}

/// The requests that add elements.
pub(super) fn additions(table: &str, ports: &[Forwarded]) -> Vec<Request> {
    by_map(ports, |map, ports| {
        message::add_elements(table, map.name(), ports.iter().map(|port| port.addition()))
    })
}

/// The requests that remove elements; the kernel refuses one that it does not have.
pub(super) fn removals(table: &str, ports: &[Forwarded]) -> Vec<Request> {
    by_map(ports, |map, ports| {
        message::remove_elements(table, map.name(), ports.iter().map(|port| port.removal()))
    })
}

fn by_map(ports: &[Forwarded], request: impl Fn(PortMap, &[&Forwarded]) -> Request) -> Vec<Request> {
    let mut requests = Vec::new();
    for map in PortMap::ALL {
        let of_map: Vec<_> = ports.iter().filter(|port| port.map() == map).collect();
        requests.extend(of_map.chunks(ELEMENTS_PER_MESSAGE).map(|chunk| request(map, chunk)));
    }
    requests
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A port in network byte order, filled up to a word.
fn port(number: u16) -> [u8; 4] {
    let [high, low] = number.to_be_bytes();
    [high, low, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarded(host_ip: Option<&str>, to: &str) -> Forwarded {
        Forwarded {
            protocol: 6,
            host_ip: host_ip.map(|text| text.parse().unwrap()),
            host_port: 0x1f90,
            to: to.parse().unwrap(),
            port: 80,
            owner: "pod".to_owned(),
        }
    }

    #[test]
    fn keys_have_the_address_first_where_there_is_one() {
        let any = forwarded(None, "10.88.0.2");
        assert_eq!((any.map(), any.key()), (PortMap::AnyIpv4, vec![6, 0, 0, 0, 0x1f, 0x90, 0, 0]));
        assert_eq!(any.target(), [10, 88, 0, 2, 0, 80, 0, 0]);
        let one = forwarded(Some("192.0.2.1"), "10.88.0.2");
        assert_eq!(one.map(), PortMap::OneIpv4);
        assert_eq!(one.key(), [192, 0, 2, 1, 6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        let one = forwarded(Some("2001:db8::1"), "fd00::2");
        assert_eq!((one.map(), one.key().len(), one.target().len()), (PortMap::OneIpv6, 24, 20));
        assert_eq!(forwarded(None, "fd00::2").map(), PortMap::AnyIpv6);
    }

    #[test]
    fn many_elements_are_many_messages() {
        let ports: Vec<_> = (0..600)
            .map(|number| Forwarded { host_port: number, ..forwarded(None, "10.88.0.2") })
            .chain([forwarded(None, "fd00::2")])
            .collect();
        assert_eq!(additions("t", &ports).len(), 4);
        assert_eq!(removals("t", &ports).len(), 4);
        assert!(additions("t", &[]).is_empty());
    }
}
