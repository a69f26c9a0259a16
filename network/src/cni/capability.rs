//! What the caller can tell plugins at run time: the capability arguments of the CNI conventions.
//!
//! A plugin is given an argument only where its configuration declares the capability of that name.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::MacAddress;

/// Arguments for plugins (CNI conventions, "Dynamic Plugin specific fields (Capabilities / Runtime Configuration)").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapabilityArgs {
    /// `portMappings`.
    pub port_mappings: Vec<PortMapping>,
    /// `bandwidth`.
    pub bandwidth: Option<Bandwidth>,
    /// `ips`: addresses wanted, with or without a prefix.
    pub ips: Vec<String>,
    /// `mac`: the hardware address wanted.
    pub mac: Option<MacAddress>,
    /// `dns`.
    pub dns: Option<Dns>,
    /// `ipRanges`: sets of ranges to take addresses from, such as the node's pod CIDRs.
    pub ip_ranges: Vec<Vec<IpRange>>,
    /// `cgroupPath`: the pod's cgroup.
    pub cgroup_path: Option<String>,
}

/// A port of the host that leads to one of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The host's port.
    pub host_port: u16,
    /// The pod's port.
    pub container_port: u16,
    /// Of which protocol.
    pub protocol: PortProtocol,
    /// The one address of the host that it is open on; none for all.
    #[serde(rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
}

/// The protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Limits of a pod's traffic: rates in bits a second, bursts in bits. 0 sets no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bandwidth {
    /// Into the pod.
    pub ingress_rate: u64,
    /// Into the pod, at once.
    pub ingress_burst: u64,
    /// Out of the pod.
    pub egress_rate: u64,
    /// Out of the pod, at once.
    pub egress_burst: u64,
}

/// The pod's resolver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// Addresses of name servers.
    pub servers: Vec<String>,
    /// Domains to search in.
    pub searches: Vec<String>,
    /// Options of `resolv.conf(5)`.
    pub options: Vec<String>,
}

/// A range of addresses for IPAM plugins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IpRange {
    /// The subnet.
    pub subnet: ipnet::IpNet,
    /// The first address; none for the subnet's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_start: Option<IpAddr>,
    /// The last address; none for the subnet's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range_end: Option<IpAddr>,
    /// The gateway; none for the plugin's choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

impl CapabilityArgs {
    /// Every argument that has been given, under the name of its capability.
    pub(super) fn by_name(&self) -> Vec<(&'static str, Value)> {
        let mut named = Vec::new();
        if !self.port_mappings.is_empty() {
            named.push(("portMappings", json!(self.port_mappings)));
        }
        if !self.ips.is_empty() {
            named.push(("ips", json!(self.ips)));
        }
        if !self.ip_ranges.is_empty() {
            named.push(("ipRanges", json!(self.ip_ranges)));
        }
        named.extend(self.bandwidth.map(|bandwidth| ("bandwidth", json!(bandwidth))));
        named.extend(self.mac.map(|mac| ("mac", json!(mac))));
        named.extend(self.dns.as_ref().map(|dns| ("dns", json!(dns))));
        named.extend(self.cgroup_path.as_ref().map(|path| ("cgroupPath", json!(path))));
        named
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_have_the_form_of_the_conventions() {
        assert_eq!(CapabilityArgs::default().by_name(), []);
        let all = CapabilityArgs {
            port_mappings: vec![PortMapping {
                host_port: 53,
                container_port: 5353,
                protocol: PortProtocol::Udp,
                host_ip: Some("::1".parse().unwrap()),
            }],
            bandwidth: Some(Bandwidth { ingress_rate: 1, ingress_burst: 2, egress_rate: 3, egress_burst: 4 }),
            ips: vec!["10.1.2.3/24".to_owned()],
            mac: Some("02:00:00:00:00:01".parse().unwrap()),
            dns: Some(Dns { servers: vec!["192.0.2.1".to_owned()], ..Dns::default() }),
            ip_ranges: vec![vec![IpRange {
                subnet: "10.1.2.0/24".parse().unwrap(),
                range_start: None,
                range_end: None,
                gateway: None,
            }]],
            cgroup_path: Some("/pods/a".to_owned()),
        };
        let expected = [
            (
                "portMappings",
                json!([{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "::1"}]),
            ),
            ("ips", json!(["10.1.2.3/24"])),
            ("ipRanges", json!([[{"subnet": "10.1.2.0/24"}]])),
            ("bandwidth", json!({"ingressRate": 1, "ingressBurst": 2, "egressRate": 3, "egressBurst": 4})),
            ("mac", json!("02:00:00:00:00:01")),
            ("dns", json!({"servers": ["192.0.2.1"], "searches": [], "options": []})),
            ("cgroupPath", json!("/pods/a")),
        ];
        assert_eq!(all.by_name(), expected);
    }
}
