//! A container's places in networks, as Docker's clients read them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;

use super::describe::{network_mode, request, runs};
use crate::docker::networks;
use crate::engine::One;
use crate::engine::model::{Joined, Mode, Place, PlaceIn};
use crate::engine::user_networks::names;

/// A container's place in a network; what it has not is empty.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<BTreeMap<&'static str, String>>,
    links: Option<()>,
    aliases: Option<Vec<String>>,
    mac_address: String,
    driver_opts: Option<()>,
    gw_priority: i32,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
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
    dns_names: Option<Vec<String>>,
}

impl Endpoint {
    /// Of what was asked for.
    fn asked(one: &One, place: &Place) -> Self {
        let key = |address: &IpAddr| if address.is_ipv4() { "IPv4Address" } else { "IPv6Address" };
        let asked = place.addresses.iter().map(|address| (key(address), address.to_string()));
        let is_own = place.network != PlaceIn::Default;
        let some = |list: Vec<String>| Some(list).filter(|list| !list.is_empty());
        Self {
            ipam_config: is_own.then(|| asked.collect()),
            aliases: some(place.aliases.clone()),
            mac_address: place.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            gw_priority: place.priority,
            dns_names: some(names(&one.group, place)),
            ..Self::default()
        }
    }

    /// The same with what it has got.
    fn joined(self, joined: &Joined) -> Self {
        let family = |v4: bool| joined.addresses.iter().find(|net| net.addr().is_ipv4() == v4);
        let address = |v4| family(v4).map(|net| net.addr().to_string()).unwrap_or_default();
        let prefix = |v4| family(v4).map(ipnet::IpNet::prefix_len).unwrap_or_default();
        let gateway = |v4: bool| {
            let found = joined.gateways.iter().find(|gateway| gateway.is_ipv4() == v4);
            found.map(ToString::to_string).unwrap_or_default()
        };
        Self {
            mac_address: joined.mac.map(|mac| mac.to_string()).unwrap_or(self.mac_address),
            network_id: joined.network.as_ref().map_or_else(networks::default_id, ToString::to_string),
            endpoint_id: joined.endpoint.to_string(),
            gateway: gateway(true),
            ip_address: address(true),
            ip_prefix_len: prefix(true),
            ipv6_gateway: gateway(false),
            global_ipv6_address: address(false),
            global_ipv6_prefix_len: prefix(false),
            ..self
        }
    }
}

/// All its places, by the networks' names; one that has no networks of its own has one in the network it uses.
pub(super) fn endpoints(one: &One) -> BTreeMap<String, Endpoint> {
    let places = one.group.config.places();
    if places.is_empty() {
        let mode = network_mode_of(one);
        // Somebody has taken it off all its networks.
        let is_nowhere = one.group.config.owns_network() && mode != "none";
        return if is_nowhere { BTreeMap::new() } else { [(mode, Endpoint::default())].into() };
    }
    let told = places.iter().map(|place| {
        let name = place.network.name();
        let joined = one.group.joined.iter().filter(|_| runs(one)).find(|joined| joined.name == name);
        let asked = Endpoint::asked(one, place);
        let told = match joined {
            Some(joined) => asked.joined(joined),
            None => asked,
        };
        (name.to_owned(), told)
    });
    told.collect()
}

/// Its network as the client named it, or would have. The request is read for the kinds that the group does not keep: a
/// list has to be quick.
pub(in crate::docker) fn network_mode_of(one: &One) -> String {
    let config = &one.group.config;
    match (config.places.first(), config.namespaces.network) {
        (Some(place), _) => place.network.name().to_owned(),
        (None, Mode::Node) => "host".to_owned(),
        _ if config.network_of.is_some() || config.is_unconnected => network_mode(&request(one)).to_owned(),
        (None, Mode::Pod) => "bridge".to_owned(),
    }
}
