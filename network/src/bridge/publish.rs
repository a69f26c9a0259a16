//! Ports of the host that lead to pods.
//!
//! Everything is in the bridge's own nftables table: nothing listens on the port, and no process is in the way. What the
//! kernel has is always made from the ledger; after a start the ledger is made from the engine's records.
//!
//! | from | how |
//! |---|---|
//! | elsewhere | destination translated before routing |
//! | the host, also over 127.0.0.1 | destination translated on output; sources of 127.0.0.0/8 masqueraded, and accepted as such by the bridge (`route_localnet`), which drops what pods send to 127.0.0.0/8 (CVE-2020-8558) |
//! | another pod, or the pod itself | translated before routing, and masqueraded: the answer would else go straight to the asker, under an address it never called |
//!
//! Where bridged packets pass iptables (`br_netfilter`, which Kubernetes asks for), a pod's call of itself is turned around
//! inside the bridge: the ports of such pods may send a frame back to where it came from.
//!
//! `::1` leads nowhere: the kernel has no `route_localnet` for IPv6. A program of the host that listens on the same port
//! is not looked for, as no other implementation does either: connections go to the pod while the pod has the port.

use super::{Bridge, BridgeError, ensure, ports, sysctl};
use crate::{Attached, cni::PortMapping, conntrack, netlink::set_port_hairpin, nft::Nftables};

impl Bridge {
    /// Leads the host's ports to an attached pod; all or none.
    pub fn publish(&self, pod_id: &str, host_ifname: &str, attached: &Attached) -> Result<(), BridgeError> {
        if attached.ports.is_empty() {
            return Ok(());
        }
        let wanted = ports::plan(pod_id, &attached.addresses, &attached.ports)?;
        self.claims.claim(&wanted)?;
        let published = self.lead(pod_id, host_ifname, &wanted);
        if published.is_err() {
            self.claims.release(pod_id);
            return published;
        }
        conntrack::forget_before_publishing(&wanted);
        Ok(())
    }

    fn lead(
        &self,
        pod_id: &str,
        host_ifname: &str,
        wanted: &[crate::nft::Forwarded],
    ) -> Result<(), BridgeError> {
        let mut state = self.lock();
        state.ports.claim(wanted)?;
        let published = self.add_ports(&state.ports.all(), wanted);
        if published.is_err() {
            state.ports.release(pod_id);
        }
        drop(state);
        published?;
        let looped = self.route().and_then(|socket| self.ask(&socket, set_port_hairpin(host_ifname)));
        if looped.is_err() {
            self.lock().ports.release(pod_id);
            self.forget();
        }
        looped.map(drop)
    }

    fn add_ports(
        &self,
        all: &[crate::nft::Forwarded],
        wanted: &[crate::nft::Forwarded],
    ) -> Result<(), BridgeError> {
        let nftables = Nftables::open().map_err(|source| self.netlink(source))?;
        // The table, and with it the rule that makes the setting below harmless, is there since the attach began. What
        // has happened to it since, its replacement mends.
        nftables
            .add_ports(&self.table_name(), wanted)
            .or_else(|_| nftables.replace(&ensure::table(&self.config, self.table_name(), all.to_vec())))
            .map_err(|source| self.netlink(source))?;
        if wanted.iter().any(|port| port.to.is_ipv4()) {
            sysctl::route_loopback(self.config.name())?;
        }
        Ok(())
    }

    /// Leads no port of the host to this pod any more; done where none does. `mappings` are what the pod was to have: an
    /// earlier daemon may have led them to it without a word to anybody.
    pub fn unpublish(&self, pod_id: &str, mappings: &[PortMapping]) -> Result<(), BridgeError> {
        let mut state = self.lock();
        let mut gone = state.ports.release(pod_id);
        if !gone.is_empty() {
            self.claims.release(pod_id);
        }
        let gateways: Vec<_> = self.config.subnets().iter().map(super::Subnet::gateway_net).collect();
        // Removing takes the key alone: any address of the family stands for the pod's.
        if gone.is_empty()
            && let Ok(planned) = ports::plan(pod_id, &gateways, mappings)
        {
            gone.extend(planned.into_iter().filter(|port| !state.ports.has(port)));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let removed = Nftables::open().and_then(|nftables| nftables.remove_ports(&self.table_name(), &gone));
        if let Err(source) = removed {
            // Still owed: whoever tries again finds them here.
            if let Err(error) = state.ports.claim(&gone) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "keep ports that could not be removed"
                );
            }
            drop(state);
            if let Err(error) = self.claims.restore(pod_id, &gone) {
                tracing::warn!(error = &error as &dyn std::error::Error, "keep ports from other networks");
            }
            return Err(self.netlink(source));
        }
        drop(state);
        conntrack::forget_after_removing(&gone);
        Ok(())
    }

    /// Takes over the ports of a pod that an earlier daemon attached, before anything else is asked of this network.
    pub fn restore(&self, pod_id: &str, attached: &Attached) -> Result<(), BridgeError> {
        let wanted = ports::plan(pod_id, &attached.addresses, &attached.ports)?;
        self.claims.restore(pod_id, &wanted)?;
        let mut state = self.lock();
        state.ports.release(pod_id);
        state.ports.claim(&wanted)
    }
}
