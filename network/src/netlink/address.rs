//! Requests about addresses.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::Emitable;
use netlink_packet_route::{
    AddressFamily,
    address::{AddressAttribute, AddressFlags, AddressMessage},
};

use super::{
    Request,
    flags::{CREATE, EXCL},
};

const RTM_NEWADDR: u16 = 20;

/// Gives a link an address. An IPv6 address is not probed for duplicates, which would make it useless for a second: the
/// engine hands each out once (`IFA_F_NODAD`).
pub(crate) fn add_address(link_index: u32, link_name: &str, address: IpNet) -> Request {
    let mut message = AddressMessage::default();
    message.header.prefix_len = address.prefix_len();
    message.header.index = link_index;
    message.attributes =
        vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    match address.addr() {
        IpAddr::V4(_) => message.header.family = AddressFamily::Inet,
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    if let IpNet::V4(v4) = address {
        message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
    }
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    Request::new(RTM_NEWADDR, CREATE | EXCL, payload, format!("add address {address} to {link_name}"))
}
