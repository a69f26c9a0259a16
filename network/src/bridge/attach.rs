//! Linking a pod to the bridge.

use std::{net::IpAddr, os::fd::AsFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::errno::Errno;

use super::{Bridge, BridgeConfig, BridgeError, sysctl};
use crate::{
    Attached, MacAddress, Netns, Route,
    cni::PortMapping,
    netlink::{
        NetlinkError, Request, Socket, VethSpec, add_address, add_default_route, create_veth, get_link,
        read_link, remove_link, set_port_isolated, set_port_up, set_up,
    },
};

/// A pod's link to the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Whose link it is, for logs and errors.
    pub container_id: String,
    /// The host's end, see [`super::host_ifname`].
    pub host_ifname: String,
    /// The pod's end.
    pub interface: String,
    /// The families of which this link gets the default route.
    pub leads: Leads,
    /// The addresses reserved for the pod, each of one of the bridge's subnets, at least one. The first is its main
    /// address.
    pub addresses: Vec<IpNet>,
    /// The hardware address wanted; none derives it from the first IPv4 address.
    pub mac: Option<MacAddress>,
    /// Ports of the host that are to lead to the pod.
    pub ports: Vec<PortMapping>,
}

/// The families whose packets to everywhere else take one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leads {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

impl Leads {
    /// Both families.
    pub const ALL: Self = Self { v4: true, v6: true };
    /// Neither.
    pub const NONE: Self = Self { v4: false, v6: false };

    fn has(self, gateway: &IpAddr) -> bool {
        if gateway.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl Bridge {
    /// Links a pod to the bridge, making the bridge where it is missing. Nothing is left of the link after a failure.
    pub fn attach(&self, netns: &Netns, attachment: &Attachment) -> Result<Attached, BridgeError> {
        let attached = plan(&self.config, attachment)?;
        let socket = self.route()?;
        self.make_pair(&socket, netns, attachment, attached.mac)?;
        let linked = self
            .link_pod(&socket, netns, attachment, &attached)
            .and_then(|()| self.publish(&attachment.container_id, &attachment.host_ifname, &attached));
        if let Err(error) = linked {
            undo(attachment);
            // Whatever is wrong with the bridge itself, such as that somebody has set it down, the next attach mends.
            self.forget();
            return Err(error);
        }
        Ok(attached)
    }

    /// Makes the veth pair. A bridge that somebody has removed meanwhile is made anew.
    fn make_pair(
        &self,
        socket: &Socket,
        netns: &Netns,
        attachment: &Attachment,
        mac: Option<MacAddress>,
    ) -> Result<(), BridgeError> {
        let pair = |bridge_index| {
            create_veth(&VethSpec {
                host_name: &attachment.host_ifname,
                bridge_index,
                peer_name: &attachment.interface,
                peer_mac: mac,
                peer_netns: netns.as_fd(),
                mtu: self.config.mtu(),
            })
        };
        let index = self.ready_index()?;
        let refused = match socket.ask(pair(index)) {
            Ok(_) => return Ok(()),
            Err(refused) => refused,
        };
        if bridge_may_be_gone(&refused) {
            self.ensure()?;
            let new_index = self.ready_index()?;
            if new_index != index {
                return self.ask(socket, pair(new_index)).map(drop);
            }
        }
        Err(self.netlink(refused))
    }

    /// Settles both ends of the pair.
    fn link_pod(
        &self,
        socket: &Socket,
        netns: &Netns,
        attachment: &Attachment,
        attached: &Attached,
    ) -> Result<(), BridgeError> {
        let name = &attachment.host_ifname;
        let is_parted = self.config.walls().is_some_and(|walls| walls.parts_members);
        let parted = is_parted.then(|| set_port_isolated(name));
        // Before it is up: there is no moment in which it could be reached.
        let requests: Vec<Request> = parted.into_iter().chain([set_port_up(name), get_link(name)]).collect();
        let answers = socket.carry_out(&requests).map_err(|source| self.netlink(source))?;
        let answer = answers.last().map(Vec::as_slice).unwrap_or_default();
        let peer = read_link(name, answer).and_then(|link| {
            let request = format!("look up link {name}");
            link.peer_index.ok_or(NetlinkError::Incomplete { request, missing: "peer" })
        });
        let requests = pod_requests(peer.map_err(|source| self.netlink(source))?, attached);
        let in_pod = netns.run(|| {
            sysctl::settle_ipv6(&attachment.interface, self.config.has_ipv6())?;
            let socket = self.route()?;
            socket.carry_out(&requests).map_err(|source| self.netlink(source))?;
            self.await_addresses(&socket, &attachment.interface, &attached.addresses)
        });
        let container_id = || attachment.container_id.clone();
        in_pod.map_err(|source| BridgeError::Netns { container_id: container_id(), source })??;
        self.await_forwarding(socket, name)
    }
}

/// Removes a pair. Its failure has no one to go to but the log, since the first failure is returned.
fn undo(attachment: &Attachment) {
    if let Err(error) = remove_link(&attachment.host_ifname) {
        tracing::warn!(
            container_id = attachment.container_id,
            error = &error as &dyn std::error::Error,
            "undo a link to the bridge"
        );
    }
}

/// What the pod will have, or why it cannot.
fn plan(config: &BridgeConfig, attachment: &Attachment) -> Result<Attached, BridgeError> {
    let addresses = &attachment.addresses;
    let mut gateways = Vec::new();
    for address in addresses {
        let subnet = config.subnet_of(address.addr()).filter(|subnet| {
            address.prefix_len() == subnet.net.prefix_len()
                && address.addr() != subnet.gateway
                && address.addr() != subnet.net.network()
                && (address.addr().is_ipv6() || address.addr() != subnet.net.broadcast())
        });
        let subnet = subnet.ok_or_else(|| BridgeError::Address {
            bridge: config.name().to_owned(),
            container_id: attachment.container_id.clone(),
            address: address.addr(),
        })?;
        if !gateways.contains(&subnet.gateway) {
            gateways.push(subnet.gateway);
        }
    }
    let mac = attachment.mac.or_else(|| MacAddress::of_addresses(addresses.iter().map(IpNet::addr)));
    if addresses.is_empty() {
        return Err(BridgeError::NoAddress { container_id: attachment.container_id.clone() });
    }
    Ok(Attached {
        interface: attachment.interface.clone(),
        mac,
        addresses: addresses.clone(),
        routes: default_routes(&gateways, attachment.leads),
        gateways,
        ports: attachment.ports.clone(),
        cni: None,
    })
}

/// One default route for each family that the link leads, to its first gateway.
fn default_routes(gateways: &[IpAddr], leads: Leads) -> Vec<Route> {
    let led = || gateways.iter().filter(|gateway| leads.has(gateway));
    let v4 = led().find(|gateway| gateway.is_ipv4());
    let v6 = led().find(|gateway| gateway.is_ipv6());
    let route = |gateway: &IpAddr| {
        let destination = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        Route { destination, gateway: Some(*gateway) }
    };
    v4.into_iter().chain(v6).map(route).collect()
}

/// The pod's end, in one datagram.
fn pod_requests(peer_index: u32, attached: &Attached) -> Vec<Request> {
    let name = &attached.interface;
    let addresses = attached.addresses.iter().map(|address| add_address(peer_index, name, *address));
    let gateways = attached.routes.iter().filter_map(|route| route.gateway);
    let routes = gateways.map(|gateway| add_default_route(peer_index, name, gateway));
    std::iter::once(set_up(peer_index, name)).chain(addresses).chain(routes).collect()
}

/// Whether a refused pair may mean that the bridge's number belongs to no bridge any more (`do_set_master` of the
/// kernel answers EINVAL for no link and EOPNOTSUPP for one that takes no ports).
fn bridge_may_be_gone(refused: &NetlinkError) -> bool {
    matches!(refused.errno(), Some(Errno::EINVAL | Errno::ENODEV | Errno::EOPNOTSUPP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> BridgeConfig {
        let subnets = ["10.88.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
        BridgeConfig::new("b0", &subnets, None, true).unwrap()
    }

    fn attachment(addresses: &[&str]) -> Attachment {
        Attachment {
            container_id: "pod".to_owned(),
            host_ifname: "ct0".to_owned(),
            interface: "eth0".to_owned(),
            leads: Leads::ALL,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            mac: None,
            ports: Vec::new(),
        }
    }

    #[test]
    fn a_pod_gets_a_default_route_for_each_family_it_has() {
        let attached = plan(&config(), &attachment(&["fd00:1::5/64", "10.88.0.5/24"])).unwrap();
        let routes: Vec<_> = attached
            .routes
            .iter()
            .map(|r| (r.destination.to_string(), r.gateway.unwrap().to_string()))
            .collect();
        assert_eq!(
            routes,
            [("0.0.0.0/0".to_owned(), "10.88.0.1".to_owned()), ("::/0".to_owned(), "fd00:1::1".to_owned())]
        );
        assert_eq!(attached.mac.unwrap().to_string(), "02:04:0a:58:00:05");
        let only_v4 = plan(&config(), &attachment(&["10.88.0.5/24"])).unwrap();
        assert_eq!(only_v4.routes.len(), 1);
        for (leads, count) in
            [(Leads::NONE, 0), (Leads { v6: false, ..Leads::ALL }, 1), (Leads { v4: false, ..Leads::ALL }, 1)]
        {
            let both = Attachment { leads, ..attachment(&["fd00:1::5/64", "10.88.0.5/24"]) };
            assert_eq!(plan(&config(), &both).unwrap().routes.len(), count, "{leads:?}");
        }
    }

    #[test]
    fn addresses_that_pods_cannot_have_are_refused() {
        for address in [
            "10.88.0.0/24",
            "10.88.0.1/24",
            "10.88.0.255/24",
            "10.88.1.5/24",
            "10.88.0.5/16",
            "fd00:1::1/64",
            "fd00:1::/64",
        ] {
            let refused = plan(&config(), &attachment(&[address]));
            assert!(matches!(refused, Err(BridgeError::Address { .. })), "{address}: {refused:?}");
        }
        assert!(matches!(plan(&config(), &attachment(&[])), Err(BridgeError::NoAddress { .. })));
    }
}
