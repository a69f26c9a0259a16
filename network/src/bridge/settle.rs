//! Waiting for what the kernel does after it has answered.
//!
//! Each wait looks, and looks again at every announcement that may be the one: nothing sleeps, and nothing is missed,
//! since listening begins before the first look.

use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::{Bridge, BridgeError};
use crate::netlink::{Events, Socket, is_local, look_up_route};

/// How long the kernel may take: a millisecond on a quiet host, more where many links change at once.
const LIMIT_SECONDS: u32 = 5;

impl Bridge {
    /// Waits until the pod's packets pass and the bridge answers them. The kernel opens a port some time after both its
    /// ends are up, and a bridge sends some time after its first port is open (both in its linkwatch work, which takes
    /// its turn for the lock of all links). A packet before that is lost, and a connection made then takes the second
    /// that the sender waits before its next try.
    pub(super) fn await_forwarding(&self, socket: &Socket, host_ifname: &str) -> Result<(), BridgeError> {
        let bridge = self.config.name();
        let deadline = deadline();
        let events = Events::of_links(LIMIT_SECONDS.into()).map_err(|source| self.netlink(source))?;
        loop {
            let (Some(port), Some(master)) = (self.find(socket, host_ifname)?, self.find(socket, bridge)?)
            else {
                return Err(self.bad_link(host_ifname, "has been removed, or its bridge has"));
            };
            if port.is_forwarding && master.is_operational {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(self.bad_link(host_ifname, "does not forward"));
            }
            events.wait_for_links([host_ifname, bridge]).map_err(|source| self.netlink(source))?;
        }
    }

    /// Waits until packets to the interface's IPv6 addresses are taken in. The kernel makes the route that does so in
    /// the work that probes for duplicates, also where there is nothing to probe; the first answer to the interface's
    /// own questions (neighbour discovery) would be dropped before, and be asked for again after a second.
    pub(super) fn await_addresses(
        &self,
        socket: &Socket,
        interface: &str,
        addresses: &[IpNet],
    ) -> Result<(), BridgeError> {
        let ipv6 = || addresses.iter().map(IpNet::addr).filter(std::net::IpAddr::is_ipv6);
        if ipv6().next().is_none() {
            return Ok(());
        }
        let deadline = deadline();
        let events = Events::of_ipv6_routes(LIMIT_SECONDS.into()).map_err(|source| self.netlink(source))?;
        for address in ipv6() {
            while !is_local(&self.ask(socket, look_up_route(address))?) {
                if Instant::now() >= deadline {
                    return Err(self.bad_link(interface, "does not take in its IPv6 address"));
                }
                events.wait_for_route().map_err(|source| self.netlink(source))?;
            }
        }
        Ok(())
    }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(LIMIT_SECONDS.into())
}
