//! Requests about links: bridges, veth pairs, their state.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::Emitable;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;

use super::{
    NetlinkError, Request, attributes,
    flags::{CREATE, DUMP, EXCL},
    ne_u32,
};
use crate::MacAddress;

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;

/// Bytes of `struct ifinfomsg` before a link's attributes.
pub(super) const LINK_HEADER_BYTES: usize = 16;

pub(super) const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_STATE: u16 = 1;

/// `IF_OPER_UP` (RFC 2863).
const OPERATIONAL: u8 = 6;

/// `BR_STATE_FORWARDING`.
const PORT_FORWARDS: u8 = 3;

/// A bridge to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BridgeSpec<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: MacAddress,
    pub(crate) mtu: Option<u32>,
}

/// A veth pair to be made, one end in a pod's namespace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VethSpec<'a> {
    pub(crate) host_name: &'a str,
    pub(crate) bridge_index: u32,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Option<MacAddress>,
    pub(crate) peer_netns: BorrowedFd<'a>,
    pub(crate) mtu: Option<u32>,
}

/// What we look at in a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkState {
    pub(crate) index: u32,
    pub(crate) name: Option<String>,
    /// `bridge`, `veth`; none for a physical one.
    pub(crate) kind: Option<String>,
    /// The other end of a veth pair, as numbered in its own namespace.
    pub(crate) peer_index: Option<u32>,
    /// The bridge it is a port of.
    pub(crate) master_index: Option<u32>,
    pub(crate) is_up: bool,
    /// Whether it is up, has a carrier, and the kernel has taken note of both: only then does it send.
    pub(crate) is_operational: bool,
    /// Whether it is a bridge's port that passes packets.
    pub(crate) is_forwarding: bool,
}

/// Makes a bridge. Its hardware address is set, since the kernel would otherwise change it with the ports that come and
/// go. Multicast snooping is off: without a querier on the link it serves nothing, and it can lose neighbour discovery.
pub(crate) fn create_bridge(spec: &BridgeSpec<'_>) -> Request {
    let data = vec![InfoBridge::MulticastSnooping(false)];
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(spec.name.to_owned()),
        LinkAttribute::Address(spec.mac.0.to_vec()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(data)),
        ]),
    ];
    message.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
    request(RTM_NEWLINK, CREATE | EXCL, &message, format!("create bridge {}", spec.name))
}

/// Makes a veth pair: the host's end a port of the bridge, the peer in the pod's namespace from the first moment, so
/// that it never exists in the host's under a name that may be taken. Both ends are down.
pub(crate) fn create_veth(spec: &VethSpec<'_>) -> Request {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(spec.peer_name.to_owned()),
        LinkAttribute::NetNsFd(spec.peer_netns.as_raw_fd()),
    ];
    peer.attributes.extend(spec.peer_mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    peer.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(spec.host_name.to_owned()),
        LinkAttribute::Controller(spec.bridge_index),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(data)]),
    ];
    message.attributes.extend(spec.mtu.map(LinkAttribute::Mtu));
    let words = format!("create veth pair {} and {}", spec.host_name, spec.peer_name);
    request(RTM_NEWLINK, CREATE | EXCL, &message, words)
}

/// Sets a bridge's port up without an IPv6 address of its own: nothing on the host shall listen on a pod's link beside
/// the bridge itself.
pub(crate) fn set_port_up(name: &str) -> Request {
    let no_link_local = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::AfSpecUnspec(vec![no_link_local])];
    request(RTM_SETLINK, 0, &message, format!("set {name} up"))
}

/// Lets a bridge's port send a frame back to where it came from.
pub(crate) fn set_port_hairpin(name: &str) -> Request {
    let mode = InfoPortData::BridgePort(vec![InfoBridgePort::HairpinMode(true)]);
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(mode)]),
    ];
    request(RTM_NEWLINK, 0, &message, format!("let {name} send frames back"))
}

/// Keeps a bridge's port from other ports that are kept so (`IFLA_BRPORT_ISOLATED`, kernel 4.18): what they send one
/// another is dropped by the bridge itself, whether or not bridged packets pass a firewall.
pub(crate) fn set_port_isolated(name: &str) -> Request {
    let mode = InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(true)]);
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::PortKind(InfoPortKind::Bridge), LinkInfo::PortData(mode)]),
    ];
    request(RTM_NEWLINK, 0, &message, format!("keep {name} from the other ports"))
}

/// Sets the link of this number up; `name` is for errors.
pub(crate) fn set_up(index: u32, name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    request(RTM_SETLINK, 0, &message, format!("set {name} up"))
}

/// Deletes a link, and with it its peer, its addresses and its routes; done where there is none.
pub(crate) fn delete_link(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    request(RTM_DELLINK, 0, &message, format!("delete link {name}")).tolerating(Errno::ENODEV)
}

/// Looks a link up, without its counters.
pub(crate) fn get_link(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    request(RTM_GETLINK, 0, &message, format!("look up link {name}"))
}

/// The answer to [`get_link`].
pub(crate) fn read_link(name: &str, answer: &[Vec<u8>]) -> Result<LinkState, NetlinkError> {
    answer
        .first()
        .and_then(|message| parse_link(message))
        .ok_or_else(|| NetlinkError::Incomplete { request: format!("look up link {name}"), missing: "link" })
}

/// Lists the ports of a bridge, without their counters.
pub(crate) fn list_ports(bridge_index: u32, bridge_name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::Controller(bridge_index),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    request(RTM_GETLINK, DUMP, &message, format!("list the ports of {bridge_name}"))
}

/// The name of a link in the answer to [`list_ports`], if it is a port of the bridge.
pub(crate) fn name_of_port(message: &[u8], bridge_index: u32) -> Option<String> {
    let link = parse_link(message).filter(|link| link.master_index == Some(bridge_index))?;
    link.name
}

fn parse_link(message: &[u8]) -> Option<LinkState> {
    let index = ne_u32(message.get(4..8)?)?;
    let flags = LinkFlags::from_bits_retain(ne_u32(message.get(8..12)?)?);
    let mut link = LinkState {
        index,
        name: None,
        kind: None,
        peer_index: None,
        master_index: None,
        is_up: flags.contains(LinkFlags::Up),
        is_operational: false,
        is_forwarding: false,
    };
    for (kind, value) in attributes(message.get(LINK_HEADER_BYTES..)?) {
        match kind {
            IFLA_IFNAME => link.name = Some(text(value)),
            IFLA_LINK => link.peer_index = ne_u32(value),
            IFLA_MASTER => link.master_index = ne_u32(value),
            IFLA_OPERSTATE => link.is_operational = value == [OPERATIONAL],
            IFLA_LINKINFO => {
                link.kind = first(value, IFLA_INFO_KIND).map(text);
                let port = first(value, IFLA_INFO_SLAVE_DATA);
                let state = port.and_then(|port| first(port, IFLA_BRPORT_STATE));
                link.is_forwarding = state == Some(&[PORT_FORWARDS]);
            }
            _ => {}
        }
    }
    Some(link)
}

/// The value of the first attribute of this type.
fn first(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

/// A text with its terminating zero.
fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn request(kind: u16, flags: u16, message: &LinkMessage, words: String) -> Request {
    let mut payload = vec![0; message.buffer_len()];
    message.emit(&mut payload);
    Request::new(kind, flags, payload, words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::Attributes;

    fn message(attributes: &Attributes) -> Vec<u8> {
        let mut bytes = vec![0; LINK_HEADER_BYTES];
        bytes[4..8].copy_from_slice(&7_u32.to_ne_bytes());
        bytes[8..12].copy_from_slice(&LinkFlags::Up.bits().to_ne_bytes());
        bytes.extend_from_slice(attributes.as_bytes());
        bytes
    }

    #[test]
    fn a_link_is_read_past_attributes_that_are_unknown() {
        let port = Attributes::new().bytes(IFLA_BRPORT_STATE, &[PORT_FORWARDS]);
        let info = Attributes::new().text(IFLA_INFO_KIND, "veth").nested(IFLA_INFO_SLAVE_DATA, &port);
        let attributes = Attributes::new()
            .bytes(200, &[1, 2, 3])
            .text(IFLA_IFNAME, "ct0")
            .bytes(IFLA_OPERSTATE, &[OPERATIONAL])
            .bytes(IFLA_LINK, &2_u32.to_ne_bytes())
            .bytes(IFLA_MASTER, &5_u32.to_ne_bytes())
            .nested(IFLA_LINKINFO, &info);
        let link = read_link("ct0", &[message(&attributes)]).unwrap();
        let expected = LinkState {
            index: 7,
            name: Some("ct0".to_owned()),
            kind: Some("veth".to_owned()),
            peer_index: Some(2),
            master_index: Some(5),
            is_up: true,
            is_operational: true,
            is_forwarding: true,
        };
        assert_eq!(link, expected);
        assert_eq!(name_of_port(&message(&attributes), 5).as_deref(), Some("ct0"));
        assert_eq!(name_of_port(&message(&attributes), 6), None);
    }

    #[test]
    fn an_answer_without_a_link_is_an_error() {
        for answer in [vec![], vec![vec![0; 11]]] {
            assert!(matches!(read_link("ct0", &answer), Err(NetlinkError::Incomplete { .. })));
        }
    }
}
