//! Flows without connections, such as UDP, that the kernel remembers under an earlier destination.
//!
//! An address is translated for a flow's first packet and then remembered. A client that goes on sending from the same
//! port is the same flow for ever: it would not notice that a port of the host has begun, or ceased, to lead to a pod.
//! So the flows in question are forgotten; their next packet is judged anew.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4},
};

use nix::errno::Errno;

use crate::{
    netlink::{
        Attributes, NetlinkError, Protocol, Request, Socket, attributes, flags, is_local, look_up_route,
    },
    nft::Forwarded,
};

/// `NFNL_SUBSYS_CTNETLINK`, the upper byte of the message types.
const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;

const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const SOURCE_IPV4: u16 = 1;
const DESTINATION_IPV4: u16 = 2;
const SOURCE_IPV6: u16 = 3;
const DESTINATION_IPV6: u16 = 4;
const PROTOCOL_NUMBER: u16 = 1;
const DESTINATION_PORT: u16 = 3;

/// `CTA_FILTER_ORIG_FLAGS`, and what of the original tuple the kernel compares (since 5.8): the protocol's number and
/// the destination port.
const FILTER_ORIGINAL: u16 = 1;
const BY_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 5;

/// `AF_INET`, `AF_INET6`.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// `IPPROTO_UDP`. The flows of the other protocols begin and end by themselves.
const UDP: u8 = 17;

/// Bytes of `struct nfgenmsg`.
const HEADER_BYTES: usize = 4;

/// A flow to a port of interest.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Flow {
    family: u8,
    /// The original tuple, which names it.
    tuple: Vec<u8>,
    /// Where its first packet was sent.
    destination: IpAddr,
    /// Who answers: another than the destination where that has been translated.
    answerer: IpAddr,
}

/// Forgets the flows to ports that have begun to lead to pods.
pub(crate) fn forget_before_publishing(ports: &[Forwarded]) {
    forget(ports, |route, port, flow| {
        if flow.answerer != flow.destination {
            return Ok(false);
        }
        match port.host_ip {
            Some(host_ip) => Ok(flow.destination == host_ip),
            None => route.ask(look_up_route(flow.destination)).map(|answer| is_local(&answer)),
        }
    });
}

/// Forgets the flows that led to pods by ports that do so no more.
pub(crate) fn forget_after_removing(ports: &[Forwarded]) {
    forget(ports, |_, port, flow| Ok(flow.answerer == port.to));
}

/// Forgets the flows to `destination` in the calling thread's namespace, wherever they led.
pub(crate) fn forget_to(destination: SocketAddrV4) {
    let forgotten = Socket::open(Protocol::Netfilter).and_then(|socket| {
        let flows = socket.ask(list(IPV4, destination.port()))?;
        let flows = flows.iter().filter_map(|answer| read(answer, destination.port()));
        flows.filter(|flow| flow.destination == *destination.ip()).try_for_each(|flow| {
            socket.ask(delete(&flow))?;
            Ok(())
        })
    });
    if let Err(error) = forgotten {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(%destination, error, "flows may go where they went before");
    }
}

/// The rules are right by now and no attach fails for this: a kernel without the interface keeps such a flow until it
/// has been silent for some minutes.
fn forget(ports: &[Forwarded], is_stale: impl Fn(&Socket, &Forwarded, &Flow) -> Result<bool, NetlinkError>) {
    let mut failures = BTreeMap::new();
    for port in ports.iter().filter(|port| port.protocol == UDP) {
        if let Err(error) = forget_of(port, &is_stale) {
            failures.insert(port.host_port, error);
        }
    }
    for (port, error) in failures {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(port, error, "flows to a UDP port of the host may go where they went before");
    }
}

fn forget_of(
    port: &Forwarded,
    is_stale: &impl Fn(&Socket, &Forwarded, &Flow) -> Result<bool, NetlinkError>,
) -> Result<(), NetlinkError> {
    let (socket, route) = (Socket::open(Protocol::Netfilter)?, Socket::open(Protocol::Route)?);
    let family = if port.to.is_ipv4() { IPV4 } else { IPV6 };
    for answer in socket.ask(list(family, port.host_port))? {
        // An older kernel lists all there are.
        let Some(flow) = read(&answer, port.host_port) else { continue };
        if is_stale(&route, port, &flow)? {
            socket.ask(delete(&flow))?;
        }
    }
    Ok(())
}

fn list(family: u8, port: u16) -> Request {
    let protocol =
        Attributes::new().bytes(PROTOCOL_NUMBER, &[UDP]).bytes(DESTINATION_PORT, &port.to_be_bytes());
    let tuple = Attributes::new().nested(TUPLE_PROTOCOL, &protocol);
    let filter = Attributes::new().bytes(FILTER_ORIGINAL, &BY_PROTOCOL_AND_PORT.to_ne_bytes());
    let wanted = Attributes::new().nested(TUPLE_ORIGINAL, &tuple).nested(FILTER, &filter);
    request(GET, flags::DUMP, family, &wanted, format!("list the flows to UDP port {port}"))
}

fn delete(flow: &Flow) -> Request {
    let named = Attributes::new().bytes(NESTED | TUPLE_ORIGINAL, &flow.tuple);
    let words = format!("forget a flow to {}", flow.destination);
    request(DELETE, 0, flow.family, &named, words).tolerating(Errno::ENOENT)
}

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

fn request(message: u16, flags: u16, family: u8, attributes: &Attributes, words: String) -> Request {
    let payload = [&[family, 0, 0, 0], attributes.as_bytes()].concat();
    Request::new(SUBSYSTEM << 8 | message, flags, payload, words)
}

/// A listed flow, if it is one to this UDP port.
fn read(answer: &[u8], port: u16) -> Option<Flow> {
    let body = answer.get(HEADER_BYTES..)?;
    let tuple = find(body, TUPLE_ORIGINAL)?;
    let protocol = find(tuple, TUPLE_PROTOCOL)?;
    if find(protocol, PROTOCOL_NUMBER)? != [UDP] || find(protocol, DESTINATION_PORT)? != port.to_be_bytes() {
        return None;
    }
    Some(Flow {
        family: *answer.first()?,
        tuple: tuple.to_vec(),
        destination: address(tuple, DESTINATION_IPV4, DESTINATION_IPV6)?,
        answerer: address(find(body, TUPLE_REPLY)?, SOURCE_IPV4, SOURCE_IPV6)?,
    })
}

fn address(tuple: &[u8], kind_ipv4: u16, kind_ipv6: u16) -> Option<IpAddr> {
    let addresses = find(tuple, TUPLE_ADDRESSES)?;
    let v4 = find(addresses, kind_ipv4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
    let v6 = find(addresses, kind_ipv6).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    v4.map(|bytes| Ipv4Addr::from(bytes).into()).or(v6.map(|bytes| Ipv6Addr::from(bytes).into()))
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tuple(source: [u8; 4], destination: [u8; 4], protocol: u8, port: u16) -> Attributes {
        let addresses = Attributes::new().bytes(SOURCE_IPV4, &source).bytes(DESTINATION_IPV4, &destination);
        let protocol = Attributes::new()
            .bytes(PROTOCOL_NUMBER, &[protocol])
            .bytes(DESTINATION_PORT, &port.to_be_bytes());
        Attributes::new().nested(TUPLE_ADDRESSES, &addresses).nested(TUPLE_PROTOCOL, &protocol)
    }

    fn listed(protocol: u8, port: u16) -> Vec<u8> {
        let original = tuple([192, 0, 2, 2], [192, 0, 2, 1], protocol, port);
        let reply = tuple([10, 88, 0, 2], [192, 0, 2, 2], protocol, 40_000);
        let body = Attributes::new().nested(TUPLE_ORIGINAL, &original).nested(TUPLE_REPLY, &reply);
        [&[IPV4, 0, 0, 0], body.as_bytes()].concat()
    }

    #[test]
    fn a_flow_is_read_with_where_it_went_and_who_answers() {
        let flow = read(&listed(UDP, 53), 53).unwrap();
        assert_eq!((flow.destination, flow.answerer), ([192, 0, 2, 1].into(), [10, 88, 0, 2].into()));
        assert_eq!(flow.tuple, tuple([192, 0, 2, 2], [192, 0, 2, 1], UDP, 53).as_bytes());
    }

    #[test]
    fn other_flows_and_half_answers_are_none() {
        assert_eq!(read(&listed(6, 53), 53), None);
        assert_eq!(read(&listed(UDP, 54), 53), None);
        let whole = listed(UDP, 53);
        for length in [0, 3, 10, 40] {
            assert_eq!(read(&whole[..length], 53), None, "{length}");
        }
    }
}
