//! A container's place in its network, as Docker's clients read it. Pure.

use cleat_network::bridge::Subnet;
use ipnet::IpNet;
use serde::Serialize;

use super::describe::{network_mode, request, runs};
use crate::engine::One;
use crate::engine::model::Mode;

/// A container's place in a network; what the engine has no notion of is empty.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<()>,
    links: Option<()>,
    aliases: Option<()>,
    mac_address: &'static str,
    driver_opts: Option<()>,
    gw_priority: u32,
    #[serde(rename = "NetworkID")]
    network_id: &'static str,
    #[serde(rename = "EndpointID")]
    endpoint_id: &'static str,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<()>,
}

impl Endpoint {
    /// Of a container, in the network with these `subnets`.
    pub(super) fn of(one: &One, subnets: &[IpNet]) -> Self {
        let addresses = if runs(one) { one.group.addresses.as_slice() } else { &[] };
        let of_family = |v4: bool| {
            let found = addresses.iter().find(|address| address.is_ipv4() == v4);
            found.map(ToString::to_string).unwrap_or_default()
        };
        let subnet = |v4: bool| {
            let address = addresses.iter().find(|address| address.is_ipv4() == v4)?;
            let subnet = subnets.iter().find(|subnet| subnet.contains(address))?;
            let gateway = Subnet::new(*subnet).ok()?.gateway.to_string();
            Some((gateway, subnet.prefix_len()))
        };
        let (gateway, ip_prefix_len) = subnet(true).unwrap_or_default();
        let (ipv6_gateway, global_ipv6_prefix_len) = subnet(false).unwrap_or_default();
        Self {
            gateway,
            ip_prefix_len,
            ipv6_gateway,
            global_ipv6_prefix_len,
            ip_address: of_family(true),
            global_ipv6_address: of_family(false),
            ..Self::default()
        }
    }
}

/// Its network as the client named it, or would have. The request is read for the one kind that the group does not keep: a
/// list has to be quick.
pub(super) fn network(one: &One) -> String {
    let config = &one.group.config;
    match config.namespaces.network {
        _ if config.network_of.is_some() => network_mode(&request(one)).to_owned(),
        Mode::Node => "host".to_owned(),
        _ if config.is_unconnected => "none".to_owned(),
        Mode::Pod => "bridge".to_owned(),
    }
}
