//! A thin client of the kernel's netlink sockets.
//!
//! Requests are collected and sent together: the kernel carries out all messages of one datagram in order and has
//! queued every answer when `sendmsg` returns, so a batch costs two system calls. Each request asks for an
//! acknowledgement and carries the words that its error is reported in.
//!
//! Messages about links, addresses and routes are encoded by `netlink-packet-route`. Answers are read attribute by
//! attribute here: we need four of some sixty, and a kernel that reports new ones must not make us fail.

mod address;
mod error;
mod events;
mod link;
mod removal;
mod request;
mod route;
mod socket;

pub use error::NetlinkError;
pub use route::host_routes;

pub(crate) use address::add_address;
pub(crate) use cleat_sys::netlink::{Attributes, attributes, be_u32, flags, ne_u32};
pub(crate) use events::Events;
pub(crate) use link::{
    BridgeSpec, LinkState, VethSpec, create_bridge, create_veth, get_link, list_ports, name_of_port,
    read_link, set_port_hairpin, set_port_isolated, set_port_up, set_up,
};
pub(crate) use removal::remove_link;
pub(crate) use request::Request;
pub(crate) use route::{
    add_default_route, is_local, look_up_route, remove_default_route, replace_default_route,
};
pub(crate) use socket::{Protocol, Socket};
