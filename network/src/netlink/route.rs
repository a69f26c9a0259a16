//! Requests about routes.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Emitable;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{
    NetlinkError, Protocol, Request, Socket, attributes,
    flags::{CREATE, DUMP, EXCL, REPLACE},
};

pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// Where `struct rtmsg` has the type of a route, the type of one that ends at this host (`RTN_LOCAL`) and of one that leads
/// to another (`RTN_UNICAST`).
const TYPE_OFFSET: usize = 7;
const LOCAL: u8 = 2;
const UNICAST: u8 = 1;

/// Bytes of `struct rtmsg` before a route's attributes, the one that is its destination, and the families (`AF_INET`,
/// `AF_INET6`).
const ROUTE_HEADER_BYTES: usize = 12;
const RTA_DST: u16 = 1;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;

/// Sends everything that no other route covers to `gateway`.
pub(crate) fn add_default_route(link_index: u32, link_name: &str, gateway: IpAddr) -> Request {
    let words = format!("add default route via {gateway} on {link_name}");
    Request::new(RTM_NEWROUTE, CREATE | EXCL, default_route(link_index, gateway), words)
}

/// The same in place of the default route that there is, if there is one.
pub(crate) fn replace_default_route(link_index: u32, link_name: &str, gateway: IpAddr) -> Request {
    let words = format!("set default route via {gateway} on {link_name}");
    Request::new(RTM_NEWROUTE, CREATE | REPLACE, default_route(link_index, gateway), words)
}

/// Removes the default route of a family; the kernel refuses where there is none.
pub(crate) fn remove_default_route(is_ipv4: bool) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    let payload = encoded(&message);
    Request::new(RTM_DELROUTE, 0, payload, "remove the default route".to_owned())
}

fn default_route(link_index: u32, gateway: IpAddr) -> Vec<u8> {
    let mut message = RouteMessage::default();
    message.header.address_family = match gateway {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Boot;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Gateway(gateway.into()), RouteAttribute::Oif(link_index)];
    encoded(&message)
}

fn encoded(message: &RouteMessage) -> Vec<u8> {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    payload
}

/// The ranges that the calling thread's host has routes to, but for default routes: what is elsewhere.
///
/// # Errors
/// When the kernel does not tell.
pub fn host_routes() -> Result<Vec<IpNet>, NetlinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Unspec;
    let request = Request::new(RTM_GETROUTE, DUMP, encoded(&message), "list the routes".to_owned());
    let listed = Socket::open(Protocol::Route)?.ask(request)?;
    Ok(listed.iter().filter_map(|message| destination(message)).collect())
}

/// Where a listed route leads; none for a default route and those that are about single addresses of the host.
fn destination(message: &[u8]) -> Option<IpNet> {
    let (family, prefix, kind) = (*message.first()?, *message.get(1)?, *message.get(TYPE_OFFSET)?);
    if kind != UNICAST || prefix == 0 {
        return None;
    }
    let (_, value) = attributes(message.get(ROUTE_HEADER_BYTES..)?).find(|(kind, _)| *kind == RTA_DST)?;
    let address = match family {
        FAMILY_IPV4 => IpAddr::from(<[u8; 4]>::try_from(value).ok()?),
        FAMILY_IPV6 => IpAddr::from(<[u8; 16]>::try_from(value).ok()?),
        _ => return None,
    };
    IpNet::new(address, prefix).ok()
}

/// Asks which way packets to `address` take.
pub(crate) fn look_up_route(address: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    Request::new(RTM_GETROUTE, 0, encoded(&message), format!("look up the route to {address}"))
}

/// Whether the answer to [`look_up_route`] says that they end here.
pub(crate) fn is_local(answer: &[Vec<u8>]) -> bool {
    answer.first().and_then(|message| message.get(TYPE_OFFSET)) == Some(&LOCAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attributes;

    fn listed(family: u8, prefix: u8, kind: u8, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; ROUTE_HEADER_BYTES];
        (bytes[0], bytes[1], bytes[TYPE_OFFSET]) = (family, prefix, kind);
        bytes.extend_from_slice(Attributes::new().bytes(RTA_DST, value).as_bytes());
        bytes
    }

    #[test]
    fn a_route_leads_to_a_range_of_others() {
        let six = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for (message, expected) in [
            (listed(FAMILY_IPV4, 16, UNICAST, &[172, 18, 0, 0]), Some("172.18.0.0/16")),
            (listed(FAMILY_IPV6, 64, UNICAST, &six), Some("fd00:1::/64")),
            (listed(FAMILY_IPV4, 32, LOCAL, &[172, 18, 0, 1]), None),
            (listed(FAMILY_IPV4, 0, UNICAST, &[0; 4]), None),
            (listed(FAMILY_IPV4, 16, UNICAST, &[172, 18]), None),
            (listed(7, 16, UNICAST, &[172, 18, 0, 0]), None),
            (vec![2, 16], None),
        ] {
            let found = destination(&message).map(|net| net.to_string());
            assert_eq!(found.as_deref(), expected, "{message:?}");
        }
    }
}
