//! Networks of their users' own, and a container's places in networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cleat_network::MacAddress;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Id;

/// A network that somebody has made: a bridge of its own, apart from all others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserNetwork {
    /// Its id.
    pub id: Id,
    /// Its name, which no other network has.
    pub name: String,
    /// The kernel's name of its bridge.
    pub bridge: String,
    /// Its address ranges, at most one of each family, at least one.
    pub ranges: Vec<AddressRange>,
    /// What else was asked of it.
    pub manners: Manners,
    /// Whether containers of a swarm may be connected; there is none, so it is only returned.
    pub is_attachable: bool,
    /// Labels, for selection.
    pub labels: BTreeMap<String, String>,
    /// The driver's options as its maker wrote them, returned unread.
    pub options: BTreeMap<String, String>,
    /// When it was made, nanoseconds since the Unix epoch.
    pub created_at_ns: i64,
}

/// What addresses a network hands out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AddressRange {
    /// The subnet.
    pub subnet: IpNet,
    /// The bridge's address in it.
    pub gateway: IpAddr,
    /// The part of the subnet that addresses are chosen from; all of it when absent. Who names an address may have one of
    /// the rest.
    pub within: Option<IpNet>,
    /// Addresses that nobody gets, by their users' names.
    pub reserved: BTreeMap<String, IpAddr>,
}

/// How a network behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manners {
    /// Whether nothing leads out of it, or into it.
    pub is_internal: bool,
    /// Whether its containers may reach one another.
    pub lets_containers_talk: bool,
    /// Whether what leaves it gets the host's address.
    pub masquerade: bool,
    /// The links' MTU, bytes; the kernel's default when absent.
    pub mtu: Option<u32>,
    /// The host's address that ports are published on which name none; all when absent.
    pub publish_on: Option<IpAddr>,
}

impl Default for Manners {
    fn default() -> Self {
        Self { is_internal: false, lets_containers_talk: true, masquerade: true, mtu: None, publish_on: None }
    }
}

/// A network that is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkWish {
    /// Its name.
    pub name: String,
    /// The kernel's name of its bridge; one that goes with its id when absent.
    pub bridge: Option<String>,
    /// The ranges asked for; without one of IPv4 the engine chooses one where [`Self::wants_ipv4`].
    pub ranges: Vec<RangeWish>,
    /// Whether it has IPv4.
    pub wants_ipv4: bool,
    /// Whether it has IPv6; without a range of it the engine chooses one.
    pub wants_ipv6: bool,
    /// How it is to behave.
    pub manners: Manners,
    /// Whether containers of a swarm may be connected.
    pub is_attachable: bool,
    /// Labels, for selection.
    pub labels: BTreeMap<String, String>,
    /// The driver's options as its maker wrote them.
    pub options: BTreeMap<String, String>,
}

/// An address range that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RangeWish {
    /// The subnet.
    pub subnet: IpNet,
    /// The bridge's address; the subnet's first when absent.
    pub gateway: Option<IpAddr>,
    /// The part that addresses are chosen from.
    pub within: Option<IpNet>,
    /// Addresses that nobody gets, by their users' names.
    pub reserved: BTreeMap<String, IpAddr>,
}

/// A place in a network that a container without a pod is to have whenever it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// In which network.
    pub network: PlaceIn,
    /// Names it has there besides its own.
    pub aliases: Vec<String>,
    /// Addresses that it asks for, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The hardware address that it asks for.
    pub mac: Option<MacAddress>,
    /// The greater, the rather this network is the one that leads out of the container.
    pub priority: i32,
}

/// Which network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PlaceIn {
    /// The one that everybody is on who names none.
    Default,
    /// The user's own of this name. Looked up at each start: it may have been made anew.
    Named(String),
}

impl Place {
    /// A place in `network` that asks for nothing.
    pub(crate) fn plain(network: PlaceIn) -> Self {
        Self { network, aliases: Vec::new(), addresses: Vec::new(), mac: None, priority: 0 }
    }
}

impl PlaceIn {
    /// The network's name; that of the default one is Docker's.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Default => DEFAULT_NETWORK,
            Self::Named(name) => name,
        }
    }
}

/// What the default network is called among those with names.
pub(crate) const DEFAULT_NETWORK: &str = "bridge";

/// A place in a network that a running container has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Joined {
    /// The network; none for the default one.
    pub network: Option<Id>,
    /// Its name.
    pub name: String,
    /// The id of this place, another one at each start.
    pub endpoint: Id,
    /// The interface's name in the container.
    pub interface: String,
    /// Its hardware address; a CNI plugin need not tell.
    pub mac: Option<MacAddress>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The network's gateways, for those addresses; none where nothing leads out of it.
    pub gateways: Vec<IpAddr>,
}
