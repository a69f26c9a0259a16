//! What an attached pod has: the answer to attach, kept by the engine until detach.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    MacAddress,
    cni::{CniRecord, PortMapping},
};

/// A pod's connection to its network.
///
/// The engine persists it as a whole: [`crate::Network::detach`] and [`crate::Network::check`] take it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The interface's name inside the pod.
    pub interface: String,
    /// Its hardware address; a CNI plugin need not tell.
    pub mac: Option<MacAddress>,
    /// Its addresses with their prefixes, the pod's main address first.
    pub addresses: Vec<IpNet>,
    /// The gateways of those addresses, without repetition.
    pub gateways: Vec<IpAddr>,
    /// The routes set inside the pod beyond those that its addresses imply.
    pub routes: Vec<Route>,
    /// Ports of the host that the built-in bridge leads to the pod; plugins keep theirs themselves.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// What plugins that made the connection need to remove it again; none for the built-in bridge.
    pub cni: Option<CniRecord>,
}

/// A route inside the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where it leads.
    pub destination: IpNet,
    /// The next hop; none where the destination is on the link.
    pub gateway: Option<IpAddr>,
}
