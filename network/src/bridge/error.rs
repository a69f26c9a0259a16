//! What can go wrong with the built-in network.

use std::{io, net::IpAddr, path::PathBuf};

use crate::{chain::chains, netlink::NetlinkError, netns::NetnsError};

/// The built-in network failed.
#[derive(Debug, thiserror::Error)]
pub enum BridgeError {
    /// The kernel refused a request about a link, an address, a route or nftables.
    #[error("bridge {bridge}")]
    Netlink {
        /// The bridge.
        bridge: String,
        /// What was refused.
        #[source]
        source: NetlinkError,
    },
    /// A pod's link could not be removed.
    #[error("remove the link {host_ifname}")]
    Link {
        /// The host's end.
        host_ifname: String,
        /// Why.
        #[source]
        source: NetlinkError,
    },
    /// A setting of the kernel could not be written.
    #[error("set {path} to {value}")]
    Sysctl {
        /// The file below `/proc/sys`.
        path: PathBuf,
        /// What was to be written.
        value: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host's interfaces could not be listed.
    #[error("list the interfaces in {path}")]
    ListInterfaces {
        /// The folder below `/proc/sys`.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link of the bridge's name exists and is something else.
    #[error("{name} exists and is a {kind}, not a bridge: remove it or give the network another name")]
    NotABridge {
        /// The link.
        name: String,
        /// What it is.
        kind: String,
    },
    /// No address was given for the pod.
    #[error("no address is given for {container_id}")]
    NoAddress {
        /// The pod.
        container_id: String,
    },
    /// An address is of none of the bridge's subnets, or is the bridge's own.
    #[error("address {address} for {container_id} cannot be had on bridge {bridge}")]
    Address {
        /// The bridge.
        bridge: String,
        /// The pod.
        container_id: String,
        /// The address.
        address: IpAddr,
    },
    /// The pod's namespace could not be entered.
    #[error("enter the network namespace of {container_id}")]
    Netns {
        /// The pod.
        container_id: String,
        /// Why.
        #[source]
        source: NetnsError,
    },
    /// The pod's link is not as it was made.
    #[error("link {host_ifname} of bridge {bridge} {problem}")]
    Check {
        /// The bridge.
        bridge: String,
        /// The host's end.
        host_ifname: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A port of the host leads to another pod, or the pod wants it twice.
    #[error("host port {port} for {container_id} is taken: it leads to pod {owner} already")]
    PortTaken {
        /// The port, with its protocol and its address of the host.
        port: String,
        /// The pod that wants it.
        container_id: String,
        /// The pod that has it.
        owner: String,
    },
    /// An address of the host cannot lead to the pod.
    #[error("host port {host_port} for {container_id} cannot be opened on {}: {}", address(*host_ip), why_not(*host_ip))]
    PortAddress {
        /// The address.
        host_ip: Option<IpAddr>,
        /// The port.
        host_port: u16,
        /// The pod that wants it.
        container_id: String,
    },
    /// Several steps of a clean-up failed.
    #[error("{} failures: {}", .0.len(), chains(.0))]
    Several(Vec<BridgeError>),
}

impl BridgeError {
    /// The outcome of a clean-up, every step of which has been tried.
    pub(crate) fn all_of(steps: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        let mut failures: Vec<_> = steps.into_iter().filter_map(Result::err).collect();
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }
}

fn address(host_ip: Option<IpAddr>) -> String {
    host_ip.map_or_else(|| "any address".to_owned(), |ip| ip.to_string())
}

fn why_not(host_ip: Option<IpAddr>) -> &'static str {
    match host_ip {
        Some(ip) if ip.is_ipv6() && ip.is_loopback() => {
            "the kernel routes nothing from ::1 to a pod; use 127.0.0.1"
        }
        _ => "the pod has no address of that family",
    }
}
