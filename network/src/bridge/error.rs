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
    /// Several steps of a clean-up failed.
    #[error("{} failures: {}", .0.len(), chains(.0))]
    Several(Vec<BridgeError>),
}

impl BridgeError {
    /// The outcome of a clean-up, every step of which has been tried.
    pub(super) fn all_of(steps: impl IntoIterator<Item = Result<(), Self>>) -> Result<(), Self> {
        let mut failures: Vec<_> = steps.into_iter().filter_map(Result::err).collect();
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Self::Several(failures)),
        }
    }
}
