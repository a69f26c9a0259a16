//! Requests about routes.

use std::net::IpAddr;

use netlink_packet_core::Emitable;
use netlink_packet_route::{
    AddressFamily,
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{
    Request,
    flags::{CREATE, EXCL},
};

pub(super) const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// Where `struct rtmsg` has the type of a route, and the type of one that ends at this host (`RTN_LOCAL`).
const TYPE_OFFSET: usize = 7;
const LOCAL: u8 = 2;

/// Sends everything that no other route covers to `gateway`.
pub(crate) fn add_default_route(link_index: u32, link_name: &str, gateway: IpAddr) -> Request {
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
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    let words = format!("add default route via {gateway} on {link_name}");
    Request::new(RTM_NEWROUTE, CREATE | EXCL, payload, words)
}

/// Asks which way packets to `address` take.
pub(crate) fn look_up_route(address: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    (message.header.address_family, message.header.destination_prefix_length) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message.attributes = vec![RouteAttribute::Destination(address.into())];
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    Request::new(RTM_GETROUTE, 0, payload, format!("look up the route to {address}"))
}

/// Whether the answer to [`look_up_route`] says that they end here.
pub(crate) fn is_local(answer: &[Vec<u8>]) -> bool {
    answer.first().and_then(|message| message.get(TYPE_OFFSET)) == Some(&LOCAL)
}
