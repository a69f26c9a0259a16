//! Which of a pod's links leads out of it, changed while the pod runs.
//!
//! A pod on several networks has one default route for each family. The link that has it may go, or another may come that
//! is to have it.

use std::net::IpAddr;

use nix::errno::Errno;

use super::{Bridge, BridgeError};
use crate::{
    Netns,
    netlink::{get_link, read_link, remove_default_route, replace_default_route},
};

impl Bridge {
    /// Has everything of the gateway's family that leaves the pod go to `gateway` by its link `interface`, whatever way it
    /// took before.
    pub fn lead_out(&self, netns: &Netns, interface: &str, gateway: IpAddr) -> Result<(), BridgeError> {
        let lead = || {
            let socket = self.route()?;
            let answer = self.ask(&socket, get_link(interface))?;
            let link = read_link(interface, &answer).map_err(|source| self.netlink(source))?;
            self.ask(&socket, replace_default_route(link.index, interface, gateway)).map(drop)
        };
        netns.run(lead).map_err(|source| self.in_netns(netns, source))?
    }

    /// Takes the pod's default route of a family away; done where there is none.
    pub fn lead_nowhere(&self, netns: &Netns, is_ipv4: bool) -> Result<(), BridgeError> {
        let leave = || match self.route()?.ask(remove_default_route(is_ipv4)) {
            // What IPv4 and IPv6 say where there is none.
            Err(error) if matches!(error.errno(), Some(Errno::ESRCH | Errno::ENOENT)) => Ok(()),
            removed => removed.map(drop).map_err(|source| self.netlink(source)),
        };
        netns.run(leave).map_err(|source| self.in_netns(netns, source))?
    }

    fn in_netns(&self, netns: &Netns, source: crate::netns::NetnsError) -> BridgeError {
        BridgeError::Netns { container_id: netns.path().display().to_string(), source }
    }
}
