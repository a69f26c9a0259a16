//! What the built-in network looks like, checked when it is made.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::ipam;

/// Longest name of an interface in bytes (`IFNAMSIZ` less the terminating zero).
pub(crate) const MAX_IFNAME_BYTES: usize = 15;

/// Smallest MTU in bytes that a link with IPv6 may have (RFC 8200 section 5).
const MIN_MTU_IPV6_BYTES: u32 = 1280;

/// Smallest and largest MTU in bytes of an Ethernet-like link.
const MTU_RANGE_BYTES: std::ops::RangeInclusive<u32> = 68..=65_535;

/// The built-in network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeConfig {
    name: String,
    subnets: Vec<Subnet>,
    mtu: Option<u32>,
    masquerade: bool,
    walls: Option<Walls>,
}

/// What keeps a network apart. Without walls whoever routes a packet to a pod reaches it, as Kubernetes wants it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Walls {
    /// Whether nothing leads out of the network, or into it. Else what comes from elsewhere gets in by published ports
    /// only, and what goes out may go anywhere but to `closed_to`.
    pub is_internal: bool,
    /// Whether those on the network cannot reach one another.
    pub parts_members: bool,
    /// Bridges of this host without walls of their own that it does not lead to, but by ports that are published there.
    pub closed_to: Vec<String>,
}

/// A subnet with its gateway, which is the bridge itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// The subnet, without host bits.
    pub net: IpNet,
    /// Its first host address.
    pub gateway: IpAddr,
}

/// A configuration that no bridge can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The kernel or nftables would refuse the name.
    #[error("bridge name {0:?}: 1 to {MAX_IFNAME_BYTES} characters of [A-Za-z0-9_.-], a letter first")]
    Name(String),
    /// No subnet was given.
    #[error("bridge {0} has no subnet")]
    NoSubnet(String),
    /// Two subnets contain a common address.
    #[error("subnets {0} and {1} overlap")]
    Overlap(IpNet, IpNet),
    /// There is no room for a gateway and a pod.
    #[error("subnet {0} has no room for a gateway and a pod")]
    TooSmall(IpNet),
    /// The gateway is no address that the bridge could have.
    #[error("gateway {gateway} is no host's address of subnet {subnet}")]
    Gateway {
        /// The gateway.
        gateway: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
    /// The link would not carry the subnets' packets.
    #[error("MTU {0} is not between 68 (1280 with IPv6) and 65535 bytes")]
    Mtu(u32),
}

impl BridgeConfig {
    /// Checks and makes a configuration. `mtu` is in bytes; none leaves the kernel's default of 1500. `masquerade`
    /// gives traffic that leaves by another interface the host's address.
    pub fn new(
        name: &str,
        subnets: &[IpNet],
        mtu: Option<u32>,
        masquerade: bool,
    ) -> Result<Self, ConfigError> {
        let subnets = subnets.iter().map(|net| Subnet::new(*net)).collect::<Result<_, _>>();
        Self::with_subnets(name, subnets?, mtu, masquerade)
    }

    /// The same with gateways that are not the first host's addresses.
    pub fn with_subnets(
        name: &str,
        subnets: Vec<Subnet>,
        mtu: Option<u32>,
        masquerade: bool,
    ) -> Result<Self, ConfigError> {
        if !is_usable_name(name) {
            return Err(ConfigError::Name(name.to_owned()));
        }
        if subnets.is_empty() {
            return Err(ConfigError::NoSubnet(name.to_owned()));
        }
        for (index, a) in subnets.iter().map(|subnet| subnet.net).enumerate() {
            let mut before = subnets[..index].iter().map(|subnet| subnet.net);
            if let Some(b) = before.find(|b| a.contains(b) || b.contains(&a)) {
                return Err(ConfigError::Overlap(b, a));
            }
        }
        let has_ipv6 = subnets.iter().any(|subnet| subnet.gateway.is_ipv6());
        if let Some(mtu) =
            mtu.filter(|mtu| !MTU_RANGE_BYTES.contains(mtu) || has_ipv6 && *mtu < MIN_MTU_IPV6_BYTES)
        {
            return Err(ConfigError::Mtu(mtu));
        }
        Ok(Self { name: name.to_owned(), subnets, mtu, masquerade, walls: None })
    }

    /// The same, kept apart by `walls`.
    #[must_use]
    pub fn walled(self, walls: Walls) -> Self {
        Self { walls: Some(walls), ..self }
    }

    pub(crate) fn walls(&self) -> Option<&Walls> {
        self.walls.as_ref()
    }

    /// The bridge's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The subnets in the order given; a pod's main address is of the first.
    #[must_use]
    pub fn subnets(&self) -> &[Subnet] {
        &self.subnets
    }

    /// The MTU in bytes, where one was asked for.
    #[must_use]
    pub fn mtu(&self) -> Option<u32> {
        self.mtu
    }

    /// Whether leaving traffic gets the host's address.
    #[must_use]
    pub fn masquerade(&self) -> bool {
        self.masquerade
    }

    /// `address` with the prefix of the subnet it belongs to; none where it belongs to no subnet.
    #[must_use]
    pub fn with_prefix(&self, address: IpAddr) -> Option<IpNet> {
        let subnet = self.subnet_of(address)?;
        Some(IpNet::new(address, subnet.net.prefix_len()).expect("the prefix is of the address's family"))
    }

    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<&Subnet> {
        self.subnets.iter().find(|subnet| subnet.net.contains(&address))
    }

    pub(crate) fn has_ipv6(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.gateway.is_ipv6())
    }

    pub(crate) fn has_ipv4(&self) -> bool {
        self.subnets.iter().any(|subnet| subnet.gateway.is_ipv4())
    }
}

impl Subnet {
    /// `net` with its gateway: the first address for hosts.
    ///
    /// # Errors
    /// When there is no room for a gateway and a pod.
    pub fn new(net: IpNet) -> Result<Self, ConfigError> {
        let net = net.trunc();
        ipam::gateway(net).map(|gateway| Self { net, gateway }).ok_or(ConfigError::TooSmall(net))
    }

    /// `net` with this gateway.
    ///
    /// # Errors
    /// When the gateway is no host's address in it, or there is no room for a pod beside it.
    pub fn with_gateway(net: IpNet, gateway: IpAddr) -> Result<Self, ConfigError> {
        let net = Self::new(net)?.net;
        if ipam::is_host(net, gateway) {
            Ok(Self { net, gateway })
        } else {
            Err(ConfigError::Gateway { gateway, subnet: net })
        }
    }

    /// The bridge's own address with the subnet's prefix.
    #[must_use]
    pub fn gateway_net(&self) -> IpNet {
        IpNet::new(self.gateway, self.net.prefix_len()).expect("the prefix is of the gateway's family")
    }
}

/// Whether the kernel takes the name for a link, `/proc/sys` for a folder and `nft` for an identifier.
fn is_usable_name(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (1..=MAX_IFNAME_BYTES).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(allowed)
        && !matches!(name, "all" | "default" | "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn gateways_are_the_first_hosts() {
        let config =
            BridgeConfig::new("cleat0", &[net("10.88.3.4/16"), net("fd00:1::/64")], None, true).unwrap();
        let gateways: Vec<_> = config.subnets().iter().map(|s| s.gateway_net()).collect();
        assert_eq!(gateways, [net("10.88.0.1/16"), net("fd00:1::1/64")]);
        assert_eq!(config.with_prefix("10.88.9.9".parse().unwrap()), Some(net("10.88.9.9/16")));
        assert_eq!(config.with_prefix("10.89.9.9".parse().unwrap()), None);
    }

    #[test]
    fn a_gateway_is_a_hosts_address_of_its_subnet() {
        for (subnet, gateway, is_good) in [
            ("10.88.0.0/16", "10.88.0.1", true),
            ("10.88.0.0/16", "10.88.255.254", true),
            ("10.88.0.0/16", "10.88.0.0", false),
            ("10.88.0.0/16", "10.88.255.255", false),
            ("10.88.0.0/16", "10.89.0.1", false),
            ("10.88.0.0/16", "fd00::1", false),
            ("fd00:1::/64", "fd00:1::ff", true),
        ] {
            let made = Subnet::with_gateway(net(subnet), gateway.parse().unwrap());
            assert_eq!(made.is_ok(), is_good, "{gateway} of {subnet}");
        }
    }

    #[test]
    fn unusable_configurations_are_refused() {
        let v4 = net("10.88.0.0/16");
        let v6 = net("fd00:1::/64");
        for name in ["", "0cleat", "averylongbridge0", "a/b", "a b", "all", "default", "..", "br\u{e9}"] {
            assert_eq!(BridgeConfig::new(name, &[v4], None, true), Err(ConfigError::Name(name.to_owned())));
        }
        for (subnets, mtu, error) in [
            (vec![], None, ConfigError::NoSubnet("b0".to_owned())),
            (vec![v4, net("10.88.1.0/24")], None, ConfigError::Overlap(v4, net("10.88.1.0/24"))),
            (vec![net("10.0.0.0/31")], None, ConfigError::TooSmall(net("10.0.0.0/31"))),
            (vec![v4], Some(67), ConfigError::Mtu(67)),
            (vec![v4, v6], Some(1279), ConfigError::Mtu(1279)),
            (vec![v4], Some(65_536), ConfigError::Mtu(65_536)),
        ] {
            assert_eq!(BridgeConfig::new("b0", &subnets, mtu, true), Err(error));
        }
    }
}
