//! From what is asked of a network to what it is: names and ranges, judged and chosen. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use cleat_network::{bridge::Subnet, ipam};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::engine::error::{EngineError, Result};
use crate::engine::model::{AddressRange, Id, NetworkWish, RangeWish, UserNetwork};
use crate::time::now_ns;

/// Where ranges of IPv4 are chosen from that nobody names, with the prefix of each: Docker's.
const POOLS: [(Ipv4Addr, u8, u8); 2] =
    [(Ipv4Addr::new(172, 16, 0, 0), 12, 16), (Ipv4Addr::new(192, 168, 0, 0), 16, 20)];

/// The first of them: those below are what other engines have for their default networks.
const FIRST: Ipv4Addr = Ipv4Addr::new(172, 18, 0, 0);

/// The prefix of a unique local range of IPv6 (RFC 4193), and where its global id of 40 bits ends.
const UNIQUE_LOCAL: u128 = 0xfd << 120;
const GLOBAL_ID_SHIFT: u32 = 80;
const IPV6_PREFIX: u8 = 64;

/// What else there is on the host.
pub(super) struct Around<'a> {
    /// The other networks.
    pub others: Vec<&'a UserNetwork>,
    /// The bridge of the default network.
    pub default_bridge: &'a str,
    /// Its ranges.
    pub default_subnets: Vec<IpNet>,
    /// Where the host has routes to.
    pub routes: Vec<IpNet>,
}

/// The network that is asked for.
pub(super) fn settle(wish: NetworkWish, around: &Around<'_>) -> Result<UserNetwork> {
    if let Some(other) = around.others.iter().find(|other| other.name == wish.name) {
        let id = other.id.clone();
        return Err(EngineError::Exists { kind: "network", name: wish.name, id });
    }
    let id = Id::random().map_err(|error| EngineError::step("make an id", "a network", &error))?;
    let bridge = wish.bridge.clone().unwrap_or_else(|| format!("br-{}", id.short()));
    let has_it = |other: &&&UserNetwork| other.bridge == bridge;
    if let Some(other) = around.others.iter().find(has_it) {
        return Err(EngineError::InUse { what: format!("bridge {bridge}"), by: other.name.clone() });
    }
    if bridge == around.default_bridge {
        return Err(EngineError::InUse {
            what: format!("bridge {bridge}"),
            by: "the default network".to_owned(),
        });
    }
    Ok(UserNetwork {
        ranges: ranges(&wish, around, &id)?,
        id,
        name: wish.name,
        bridge,
        manners: wish.manners,
        is_attachable: wish.is_attachable,
        labels: wish.labels,
        options: wish.options,
        created_at_ns: now_ns(),
    })
}

/// One range of each family that is wanted, IPv4 first.
fn ranges(wish: &NetworkWish, around: &Around<'_>, id: &Id) -> Result<Vec<AddressRange>> {
    let mut ranges = Vec::new();
    for is_ipv4 in [true, false] {
        let mut asked = wish.ranges.iter().filter(|range| range.subnet.addr().is_ipv4() == is_ipv4);
        match (asked.next(), asked.next()) {
            (Some(one), None) => ranges.push(checked(one, around)?),
            (Some(_), Some(second)) => {
                return Err(invalid(second.subnet, "a bridge has one range of each family"));
            }
            (None, _) if is_ipv4 && wish.wants_ipv4 => ranges.push(whole(free_ipv4(around)?)?),
            (None, _) if !is_ipv4 && wish.wants_ipv6 => ranges.push(whole(free_ipv6(around, id)?)?),
            (None, _) => {}
        }
    }
    if ranges.is_empty() {
        let why = "IPv4 or IPv6 must be enabled".to_owned();
        return Err(EngineError::Invalid { what: format!("network {}", wish.name), why });
    }
    Ok(ranges)
}

/// A range that was asked for. One that the host has a route to is its client's decision; another network's is not.
fn checked(wish: &RangeWish, around: &Around<'_>) -> Result<AddressRange> {
    let subnet = wish.subnet;
    if subnet != subnet.trunc() {
        return Err(invalid(subnet, &format!("it should be {}", subnet.trunc())));
    }
    let of_others = around.others.iter().flat_map(|other| other.ranges.iter().map(|range| range.subnet));
    let mut taken = of_others.chain(around.default_subnets.iter().copied());
    if let Some(other) = taken.find(|other| overlap(*other, subnet)) {
        let by = format!("another network, which has {other}");
        return Err(EngineError::InUse { what: format!("a part of subnet {subnet}"), by });
    }
    let room = Subnet::new(subnet).map_err(|error| EngineError::invalid("a subnet", &error))?;
    let gateway = wish.gateway.unwrap_or(room.gateway);
    Subnet::with_gateway(subnet, gateway).map_err(|error| EngineError::invalid("a gateway", &error))?;
    if let Some(within) = wish.within.filter(|within| !subnet.contains(within)) {
        return Err(invalid(within, &format!("it is no part of subnet {subnet}")));
    }
    if let Some(address) = wish.reserved.values().find(|address| !ipam::is_host(subnet, **address)) {
        let why = format!("no host of subnet {subnet} has it");
        return Err(EngineError::Invalid { what: format!("auxiliary address {address}"), why });
    }
    Ok(AddressRange { subnet, gateway, within: wish.within, reserved: wish.reserved.clone() })
}

fn whole(subnet: IpNet) -> Result<AddressRange> {
    let room = Subnet::new(subnet).map_err(|error| EngineError::invalid("a subnet", &error))?;
    Ok(AddressRange { subnet, gateway: room.gateway, within: None, reserved: Default::default() })
}

/// The first range of the pools that nobody has.
fn free_ipv4(around: &Around<'_>) -> Result<IpNet> {
    let pools = POOLS.iter().flat_map(|(address, prefix, of_each)| {
        let pool = Ipv4Net::new_assert(*address, *prefix);
        pool.subnets(*of_each).expect("each is smaller than its pool")
    });
    let mut free = pools.filter(|net| net.addr() >= FIRST).map(IpNet::V4).filter(|net| is_free(*net, around));
    free.next().ok_or_else(|| EngineError::InUse {
        what: "every range of addresses".to_owned(),
        by: "networks and routes of this host; name a subnet".to_owned(),
    })
}

/// A range that the id gives: random, as RFC 4193 wants it. Should somebody have it, the next.
fn free_ipv6(around: &Around<'_>, id: &Id) -> Result<IpNet> {
    let digits = u128::from_str_radix(&id.as_str()[..10], 16).expect("an id is of hexadecimal digits");
    let mut candidates = (0..1_u128 << 16).map(|subnet| {
        let bits = UNIQUE_LOCAL | digits << GLOBAL_ID_SHIFT | subnet << 64;
        IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(bits), IPV6_PREFIX))
    });
    candidates.find(|net| is_free(*net, around)).ok_or_else(|| EngineError::InUse {
        what: "every subnet of a random range".to_owned(),
        by: "networks and routes of this host".to_owned(),
    })
}

fn is_free(net: IpNet, around: &Around<'_>) -> bool {
    let of_others = around.others.iter().flat_map(|other| other.ranges.iter().map(|range| range.subnet));
    let mut taken =
        of_others.chain(around.default_subnets.iter().copied()).chain(around.routes.iter().copied());
    !taken.any(|other| overlap(other, net))
}

fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn invalid(net: IpNet, why: &str) -> EngineError {
    EngineError::Invalid { what: format!("subnet {net}"), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn wish(subnets: &[&str]) -> NetworkWish {
        let range = |text: &&str| RangeWish {
            subnet: net(text),
            gateway: None,
            within: None,
            reserved: Default::default(),
        };
        NetworkWish {
            name: "n1".into(),
            ranges: subnets.iter().map(range).collect(),
            wants_ipv4: true,
            ..NetworkWish::default()
        }
    }

    fn around<'a>(others: &'a [UserNetwork], routes: &[&str]) -> Around<'a> {
        Around {
            others: others.iter().collect(),
            default_bridge: "cleat0",
            default_subnets: vec![net("10.88.0.0/16")],
            routes: routes.iter().map(|text| net(text)).collect(),
        }
    }

    fn subnets(network: &UserNetwork) -> Vec<String> {
        network.ranges.iter().map(|range| range.subnet.to_string()).collect()
    }

    #[test]
    fn a_range_is_chosen_that_nobody_has() {
        let first = settle(wish(&[]), &around(&[], &[])).unwrap();
        assert_eq!(subnets(&first), ["172.18.0.0/16"]);
        assert_eq!(first.ranges[0].gateway.to_string(), "172.18.0.1");
        assert_eq!(first.bridge, format!("br-{}", first.id.short()));
        let others = [UserNetwork { name: "n0".into(), ..first }];
        for (routes, expected) in [
            (vec![], "172.19.0.0/16"),
            (vec!["172.19.5.0/24", "172.20.0.0/14"], "172.24.0.0/16"),
            (vec!["172.16.0.0/12"], "192.168.0.0/20"),
            (vec!["172.16.0.0/12", "192.168.1.7/32"], "192.168.16.0/20"),
        ] {
            let made = settle(wish(&[]), &around(&others, &routes)).unwrap();
            assert_eq!(subnets(&made), [expected], "{routes:?}");
        }
        let full = settle(wish(&[]), &around(&[], &["172.16.0.0/12", "192.168.0.0/16"]));
        assert!(matches!(full, Err(EngineError::InUse { .. })), "{full:?}");
    }

    #[test]
    fn ipv6_is_chosen_where_it_is_wanted() {
        let both =
            settle(NetworkWish { wants_ipv6: true, ..wish(&["10.1.0.0/24"]) }, &around(&[], &[])).unwrap();
        assert_eq!(both.ranges.len(), 2);
        let chosen = both.ranges[1].subnet;
        assert!(net("fd00::/8").contains(&chosen) && chosen.prefix_len() == 64, "{chosen}");
        let alone = NetworkWish { wants_ipv4: false, ..wish(&["fd00:5::/64"]) };
        assert_eq!(subnets(&settle(alone, &around(&[], &[])).unwrap()), ["fd00:5::/64"]);
        let neither = NetworkWish { wants_ipv4: false, ..wish(&[]) };
        assert!(matches!(settle(neither, &around(&[], &[])), Err(EngineError::Invalid { .. })));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let other = settle(wish(&["10.1.0.0/16"]), &around(&[], &[])).unwrap();
        let others = [UserNetwork { name: "n0".into(), ..other }];
        let judged = |wish| settle(wish, &around(&others, &["10.9.0.0/16"]));
        for subnets in [&["10.1.2.0/24"][..], &["10.0.0.0/8"], &["10.88.1.0/24"]] {
            assert!(matches!(judged(wish(subnets)), Err(EngineError::InUse { .. })), "{subnets:?}");
        }
        for subnets in [&["10.2.0.5/24"][..], &["10.2.0.0/31"], &["10.2.0.0/24", "10.3.0.0/24"]] {
            assert!(matches!(judged(wish(subnets)), Err(EngineError::Invalid { .. })), "{subnets:?}");
        }
        assert!(judged(wish(&["10.9.0.0/24"])).is_ok(), "a route of the host is its client's decision");
        let same_name = NetworkWish { name: "n0".into(), ..wish(&[]) };
        assert!(matches!(judged(same_name), Err(EngineError::Exists { .. })));
        for bridge in [others[0].bridge.as_str(), "cleat0"] {
            let same_bridge = NetworkWish { bridge: Some(bridge.to_owned()), ..wish(&[]) };
            assert!(matches!(judged(same_bridge), Err(EngineError::InUse { .. })), "{bridge}");
        }
    }

    #[test]
    fn what_belongs_to_a_range_lies_in_it() {
        let judged = |change: fn(&mut RangeWish)| {
            let mut wish = wish(&["10.2.0.0/24"]);
            change(&mut wish.ranges[0]);
            settle(wish, &around(&[], &[])).is_ok()
        };
        assert!(judged(|range| range.gateway = Some("10.2.0.254".parse().unwrap())));
        assert!(!judged(|range| range.gateway = Some("10.3.0.1".parse().unwrap())));
        assert!(judged(|range| range.within = Some(net("10.2.0.128/25"))));
        assert!(!judged(|range| range.within = Some(net("10.2.0.0/16"))));
        assert!(judged(|range| range.reserved = [("a".to_owned(), "10.2.0.9".parse().unwrap())].into()));
        assert!(!judged(|range| range.reserved = [("a".to_owned(), "10.2.0.255".parse().unwrap())].into()));
    }
}
