//! A pod's network: its namespace, and the link that connects it.
//!
//! The engine decides (which network, which address, when) and writes its decision down; this crate carries it out and
//! keeps no state of its own. Everything is plain blocking code and opens no connection to anything but the kernel,
//! except that [`cni`] executes the plugins of an operator's configuration.
//!
//! ```text
//! Network::attach(PodNetwork)
//!   ├─ Bridge   bridge ── veth ── eth0     netlink and nftables, nothing executed
//!   └─ Cni      plugin ADD, chained        the specification's protocol
//!        └──▶ Attached                     what the engine writes down and hands back at detach
//! ```
//!
//! | room | owns |
//! |---|---|
//! | [`netns`] | a network namespace pinned at a path |
//! | [`bridge`] | the built-in network |
//! | [`ipam`] | the next free address, as a pure function |
//! | [`names`] | the sockets of a container's name server |
//! | [`cni`] | configurations, plugins, results |
//! | [`netlink`] | requests to the kernel about links, addresses and routes |
//! | `nft` | requests to the kernel about nftables |
#![forbid(unsafe_code)]

mod attached;
pub mod bridge;
mod chain;
pub mod cni;
mod conntrack;
pub mod ipam;
mod mac;
pub mod names;
pub mod netlink;
pub mod netns;
mod network;
mod nft;

pub use attached::{Attached, Route};
pub use mac::{MacAddress, ParseMacError};
pub use netns::Netns;
pub use network::{Network, NetworkError, PodNetwork};

/// The interface a pod gets besides `lo`.
pub const POD_INTERFACE: &str = "eth0";
