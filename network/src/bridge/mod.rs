//! The built-in network: one bridge, its subnets, pods linked to it by veth pairs.
//!
//! ```text
//!   host                                     pod
//!   cleat0 (bridge; first host of each subnet)
//!     ├─ ct4f9a0c1d2e3 (veth) ───────────── eth0 (veth; the pod's addresses, default routes to cleat0)
//!     └─ ...
//!   inet cleat_cleat0 (nftables)             source of leaving traffic becomes the host's; the host's ports that
//!                                            lead to pods (`publish`)
//! ```
//!
//! | step of an attach | exchanges with the kernel |
//! |---|---|
//! | the nftables rules are still those that we left | 1 |
//! | make the pair, its peer in the pod from the first moment | 1 |
//! | set the port up, learn the peer's number | 1 |
//! | in the pod: up, addresses, default routes | 1 |
//! | in the pod: its IPv6 address is taken in | 1, and 1 after each announcement |
//! | the bridge passes the pod's packets and answers | 2, and 2 after each announcement |
//! | only with ports of the host: lead them to the pod | 1, and 1 for each of UDP and family |
//!
//! Forwarded packets pass the host's other firewall tables as well: one that drops them by default (Docker's does) has
//! to be told to accept the bridge, since an accept of ours ends nobody else's chain.
//!
//! The network lives in the namespace of the thread that calls. Everything in it is named after the bridge, so that
//! several networks, of one daemon or of several, do not touch one another.

mod attach;
mod config;
mod ensure;
mod error;
mod lead;
mod name;
mod ports;
mod publish;
mod settle;
mod sysctl;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

pub use attach::{Attachment, Leads};
pub use config::{BridgeConfig, ConfigError, Subnet, Walls};
use ensure::Ready;
pub use error::BridgeError;
pub use name::{host_ifname, host_ifname_on};
pub use sysctl::host_has_ipv6;

use crate::{
    netlink::{
        self, LinkState, NetlinkError, Protocol, Request, Socket, get_link, list_ports, name_of_port,
        read_link,
    },
    nft::{self, Nftables},
};

/// The built-in network in the network namespace of the threads that call it, which have to be of one namespace.
#[derive(Debug)]
pub struct Bridge {
    config: BridgeConfig,
    /// Held by whoever changes the nftables table, so that it is always made of all the ports there are.
    state: Mutex<State>,
    /// Held by nobody while [`Self::state`] is.
    claims: ports::Claims,
}

/// What changes.
#[derive(Debug, Default)]
struct State {
    /// What has been made, so that an attach need not look at all of it again.
    ready: Option<Ready>,
    /// The host's ports that lead to pods.
    ports: ports::Ports,
}

impl Bridge {
    /// The network that `config` describes; [`Self::ensure`] or the first attach makes it.
    #[must_use]
    pub fn new(config: BridgeConfig) -> Self {
        Self { config, state: Mutex::default(), claims: ports::Claims::default() }
    }

    /// The network that `config` describes on the host of `other`: a port of the host leads into one of them only.
    #[must_use]
    pub fn beside(other: &Self, config: BridgeConfig) -> Self {
        Self { config, state: Mutex::default(), claims: other.claims.clone() }
    }

    /// What it is made of.
    #[must_use]
    pub fn config(&self) -> &BridgeConfig {
        &self.config
    }

    /// Removes a pod's link by the name of the host's end; done where there is none.
    pub fn detach(&self, host_ifname: &str) -> Result<(), BridgeError> {
        remove_link(host_ifname)
    }

    /// Whether a pod's link is up and a port of the bridge.
    pub fn check(&self, host_ifname: &str) -> Result<(), BridgeError> {
        let socket = self.route()?;
        let link = self.find(&socket, host_ifname)?;
        let bridge = self.find(&socket, self.config.name())?;
        let problem = match (link, bridge) {
            (None, _) => "does not exist",
            (Some(link), _) if !link.is_up => "is down",
            (Some(link), Some(bridge)) if link.master_index != Some(bridge.index) => {
                "is not a port of the bridge"
            }
            (Some(_), None) => "is not a port of the bridge",
            (Some(link), _) if !link.is_forwarding => "does not forward",
            _ => return Ok(()),
        };
        Err(self.bad_link(host_ifname, problem))
    }

    /// Removes the links of all pods but these from the bridge: what an attach left that was never undone. Every pod
    /// that is being attached has to be among them.
    pub fn collect(&self, valid_pod_ids: &[String]) -> Result<(), BridgeError> {
        let socket = self.route()?;
        let Some(bridge) = self.find(&socket, self.config.name())? else { return Ok(()) };
        let valid: BTreeSet<String> = valid_pod_ids.iter().map(|id| host_ifname(id)).collect();
        let ports = self.ask(&socket, list_ports(bridge.index, self.config.name()))?;
        let names = ports.iter().filter_map(|port| name_of_port(port, bridge.index));
        let stale = names.filter(|port| name::is_of_pod(port) && !valid.contains(port));
        BridgeError::all_of(stale.map(|link| {
            tracing::warn!(link, bridge = self.config.name(), "a link of no pod is removed");
            remove_link(&link)
        }))
    }

    /// Removes the bridge and the nftables table; done where there is neither. Pods' links stay, without a bridge.
    pub fn teardown(&self) -> Result<(), BridgeError> {
        self.forget();
        let rules = Nftables::open().and_then(|nftables| nftables.remove(&self.table_name()));
        BridgeError::all_of([self.remove_bridge(), rules.map_err(|source| self.netlink(source))])
    }

    fn remove_bridge(&self) -> Result<(), BridgeError> {
        let Some(link) = self.find(&self.route()?, self.config.name())? else { return Ok(()) };
        self.require_bridge(&link)?;
        netlink::remove_link(self.config.name()).map_err(|source| self.netlink(source))
    }

    /// The link of this name, if there is one.
    fn find(&self, socket: &Socket, name: &str) -> Result<Option<LinkState>, BridgeError> {
        let answer = self.ask(socket, get_link(name).tolerating(nix::errno::Errno::ENODEV))?;
        if answer.is_empty() {
            return Ok(None);
        }
        read_link(name, &answer).map(Some).map_err(|source| self.netlink(source))
    }

    fn require_bridge(&self, link: &LinkState) -> Result<(), BridgeError> {
        match link.kind.as_deref() {
            Some("bridge") => Ok(()),
            other => Err(BridgeError::NotABridge {
                name: self.config.name().to_owned(),
                kind: other.unwrap_or("physical link").to_owned(),
            }),
        }
    }

    fn bad_link(&self, host_ifname: &str, problem: &'static str) -> BridgeError {
        let bridge = self.config.name().to_owned();
        BridgeError::Check { bridge, host_ifname: host_ifname.to_owned(), problem }
    }

    fn table_name(&self) -> String {
        nft::table_name(self.config.name())
    }

    fn ask(&self, socket: &Socket, request: Request) -> Result<Vec<Vec<u8>>, BridgeError> {
        socket.ask(request).map_err(|source| self.netlink(source))
    }

    fn route(&self) -> Result<Socket, BridgeError> {
        Socket::open(Protocol::Route).map_err(|source| self.netlink(source))
    }

    fn netlink(&self, source: NetlinkError) -> BridgeError {
        BridgeError::Netlink { bridge: self.config.name().to_owned(), source }
    }

    /// Makes the next attach look at everything again.
    fn forget(&self) {
        self.lock().ready = None;
    }

    /// Nothing that changes it can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes a pod's link by the name of the host's end, whichever bridge it is or was of; done where there is none.
pub fn remove_link(host_ifname: &str) -> Result<(), BridgeError> {
    netlink::remove_link(host_ifname)
        .map_err(|source| BridgeError::Link { host_ifname: host_ifname.to_owned(), source })
}
