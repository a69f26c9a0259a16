//! Which address is next: a pure function over what is in use.
//!
//! The caller owns the rows. It writes an address down before a pod gets it, and deletes the row after the pod has been
//! detached.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use ipnet::IpNet;

/// Every address of a subnet is in use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no free address is left in {subnet}, {used} are in use: remove pods or give the network a larger subnet"
)]
pub struct Exhausted {
    /// The subnet.
    pub subnet: IpNet,
    /// How many of its assignable addresses are taken.
    pub used: usize,
}

/// The next free address of `subnet` after `last`, starting over at the subnet's end, so that a released address is
/// handed out again as late as possible.
///
/// Never handed out: the gateway ([`gateway`]), the network's own address (IPv6: the subnet-router anycast address,
/// RFC 4291 section 2.6.1) and IPv4's broadcast address. Addresses outside the subnet in `used` or `last` are ignored.
pub fn allocate(subnet: IpNet, used: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Result<IpAddr, Exhausted> {
    search(subnet, assignable(subnet), used, last)
}

/// The same for a subnet whose gateway is one of `used`, from its part `within` only. Never handed out: the network's own
/// address and IPv4's broadcast address.
pub fn allocate_within(
    subnet: IpNet,
    within: IpNet,
    used: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Result<IpAddr, Exhausted> {
    let range = hosts(subnet).filter(|_| within.addr().is_ipv4() == subnet.addr().is_ipv4()).map(|hosts| {
        let (first, end) = (number(within.network()), number(within.broadcast()));
        first.max(*hosts.start())..=end.min(*hosts.end())
    });
    search(subnet, range.filter(|range| !range.is_empty()), used, last)
}

/// Whether an address of `subnet` can be somebody's: it is neither the network's own nor IPv4's broadcast address.
#[must_use]
pub fn is_host(subnet: IpNet, address: IpAddr) -> bool {
    subnet.contains(&address) && hosts(subnet).is_some_and(|hosts| hosts.contains(&number(address)))
}

fn search(
    subnet: IpNet,
    range: Option<RangeInclusive<u128>>,
    used: &BTreeSet<IpAddr>,
    last: Option<IpAddr>,
) -> Result<IpAddr, Exhausted> {
    let Some(range) = range else { return Err(Exhausted { subnet, used: 0 }) };
    let (first, end) = (*range.start(), *range.end());
    let bounds = address_like(subnet, first)..=address_like(subnet, end);
    let taken = || used.range(bounds.clone()).copied().map(number);
    let last = last.filter(|last| bounds.contains(last)).map(number);
    let found = match last {
        None => first_gap(taken(), range),
        // `last + 1` cannot overflow: the range ends below the largest number, or the first search is empty.
        Some(last) if last < end => {
            first_gap(taken(), last + 1..=end).or_else(|| first_gap(taken(), first..=last))
        }
        Some(_) => first_gap(taken(), range),
    };
    found.map(|free| address_like(subnet, free)).ok_or_else(|| Exhausted { subnet, used: taken().count() })
}

/// The gateway of a subnet: its first host address. None where the subnet has no room for a gateway and one pod.
#[must_use]
pub fn gateway(subnet: IpNet) -> Option<IpAddr> {
    assignable(subnet).map(|range| address_like(subnet, range.start() - 1))
}

/// The first number of `range` that is not among `taken`, which ascends. It looks at no more numbers than are taken.
fn first_gap(taken: impl Iterator<Item = u128>, range: RangeInclusive<u128>) -> Option<u128> {
    let mut candidate = *range.start();
    for number in taken.skip_while(|number| number < range.start()) {
        if number != candidate {
            break;
        }
        candidate = candidate.checked_add(1)?;
    }
    range.contains(&candidate).then_some(candidate)
}

/// The addresses pods may have, as numbers: all but the network's, the gateway's and IPv4's broadcast address.
fn assignable(subnet: IpNet) -> Option<RangeInclusive<u128>> {
    let hosts = hosts(subnet)?;
    let (first, last) = (hosts.start().checked_add(1)?, *hosts.end());
    (first <= last).then_some(first..=last)
}

/// The addresses somebody may have, as numbers: all but the network's and IPv4's broadcast address.
fn hosts(subnet: IpNet) -> Option<RangeInclusive<u128>> {
    let last = match subnet {
        IpNet::V4(v4) => u128::from(u32::from(v4.broadcast())).checked_sub(1)?,
        IpNet::V6(v6) => u128::from(v6.broadcast()),
    };
    let first = number(subnet.network()).checked_add(1)?;
    (first <= last).then_some(first..=last)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// `number` as an address of the family of `subnet`; it lies within the subnet.
fn address_like(subnet: IpNet, number: u128) -> IpAddr {
    match subnet {
        IpNet::V4(_) => {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(number).expect("an IPv4 subnet's number has 32 bits")))
        }
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_address_comes_after_the_gateway() {
        for (subnet, gateway_ip, first) in [
            ("10.88.0.0/16", "10.88.0.1", "10.88.0.2"),
            ("10.88.0.0/30", "10.88.0.1", "10.88.0.2"),
            ("255.255.255.0/24", "255.255.255.1", "255.255.255.2"),
            ("fd00:1::/64", "fd00:1::1", "fd00:1::2"),
            ("fd00:1::/126", "fd00:1::1", "fd00:1::2"),
        ] {
            assert_eq!(gateway(net(subnet)), Some(ip(gateway_ip)), "{subnet}");
            assert_eq!(allocate(net(subnet), &BTreeSet::new(), None), Ok(ip(first)), "{subnet}");
        }
    }

    #[test]
    fn subnets_without_room_for_a_pod_are_exhausted_at_once() {
        for subnet in ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"] {
            assert_eq!(gateway(net(subnet)), None, "{subnet}");
            assert!(allocate(net(subnet), &BTreeSet::new(), None).is_err(), "{subnet}");
        }
    }

    #[test]
    fn the_search_goes_on_after_the_last_address_and_wraps() {
        let subnet = net("10.0.0.0/29");
        let used = BTreeSet::from([ip("10.0.0.3"), ip("10.0.0.6")]);
        for (last, next) in [
            (None, "10.0.0.2"),
            (Some("10.0.0.2"), "10.0.0.4"),
            (Some("10.0.0.5"), "10.0.0.2"),
            (Some("10.0.0.6"), "10.0.0.2"),
            (Some("10.0.0.7"), "10.0.0.2"),
            (Some("192.168.0.1"), "10.0.0.2"),
            (Some("fd00::5"), "10.0.0.2"),
        ] {
            assert_eq!(allocate(subnet, &used, last.map(ip)), Ok(ip(next)), "{last:?}");
        }
    }

    #[test]
    fn the_whole_of_the_address_space_does_not_overflow() {
        assert_eq!(
            allocate(net("::/0"), &BTreeSet::new(), Some(IpAddr::V6(Ipv6Addr::from(u128::MAX)))),
            Ok(ip("::2"))
        );
        assert_eq!(
            allocate(net("0.0.0.0/0"), &BTreeSet::new(), Some(ip("255.255.255.254"))),
            Ok(ip("0.0.0.2"))
        );
    }

    #[test]
    fn a_part_of_a_subnet_is_searched_alone() {
        let used = BTreeSet::from([ip("10.0.0.1"), ip("10.0.5.1"), ip("fd00::1")]);
        for (subnet, within, last, next) in [
            ("10.0.0.0/16", "10.0.5.0/24", None, Some("10.0.5.0")),
            ("10.0.0.0/16", "10.0.5.0/24", Some("10.0.5.0"), Some("10.0.5.2")),
            ("10.0.0.0/16", "10.0.5.0/24", Some("10.0.5.255"), Some("10.0.5.0")),
            ("10.0.0.0/16", "10.0.0.0/24", None, Some("10.0.0.2")),
            ("10.0.0.0/24", "10.0.0.252/30", Some("10.0.0.254"), Some("10.0.0.252")),
            ("10.0.0.0/24", "10.0.5.0/24", None, None),
            ("10.0.0.0/24", "fd00::/64", None, None),
            ("fd00::/64", "fd00::/64", None, Some("fd00::2")),
            ("10.0.0.0/31", "10.0.0.0/31", None, None),
        ] {
            let found = allocate_within(net(subnet), net(within), &used, last.map(ip));
            assert_eq!(found.ok(), next.map(ip), "{within} of {subnet} after {last:?}");
        }
    }

    #[test]
    fn hosts_are_neither_the_network_nor_all_of_it() {
        for (address, is_so) in [
            ("10.0.0.0", false),
            ("10.0.0.1", true),
            ("10.0.0.255", false),
            ("10.0.1.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_host(net("10.0.0.0/24"), ip(address)), is_so, "{address}");
        }
    }

    fn small_subnet() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<u32>(), 24u8..=30).prop_map(|(bits, prefix)| {
                IpNet::new(IpAddr::V4(Ipv4Addr::from(bits)), prefix).unwrap().trunc()
            }),
            (any::<u128>(), 120u8..=126).prop_map(|(bits, prefix)| {
                IpNet::new(IpAddr::V6(Ipv6Addr::from(bits)), prefix).unwrap().trunc()
            }),
        ]
    }

    proptest! {
        /// Against a plain model: walk the host addresses after the last one, then from the start.
        #[test]
        fn allocation_agrees_with_a_walk(
            subnet in small_subnet(),
            used_picks in proptest::collection::vec(any::<u8>(), 0..200),
            last_pick in proptest::option::of(any::<u8>()),
        ) {
            let all: Vec<IpAddr> = match subnet {
                IpNet::V4(v4) => v4.hosts().map(IpAddr::V4).skip(1).collect(),
                // An IPv6 subnet's hosts include its network address.
                IpNet::V6(v6) => v6.hosts().map(IpAddr::V6).skip(2).collect(),
            };
            let pick = |index: u8| all[usize::from(index) % all.len()];
            let used: BTreeSet<IpAddr> = used_picks.into_iter().map(pick).collect();
            let last = last_pick.map(pick);
            let start = last.map_or(0, |last| all.iter().position(|ip| *ip == last).unwrap() + 1);
            let expected = all[start..].iter().chain(&all[..start]).find(|ip| !used.contains(ip)).copied();
            let got = allocate(subnet, &used, last);
            prop_assert_eq!(got.clone().ok(), expected);
            if let Err(exhausted) = got {
                prop_assert_eq!(exhausted.used, all.len());
            }
        }

        /// Handing out until the end gives each address once.
        #[test]
        fn a_subnet_is_handed_out_without_repetition(subnet in small_subnet()) {
            let (mut used, mut last) = (BTreeSet::new(), None);
            while let Ok(next) = allocate(subnet, &used, last) {
                prop_assert!(subnet.contains(&next));
                prop_assert_ne!(Some(next), gateway(subnet));
                prop_assert!(used.insert(next));
                last = Some(next);
            }
            let hosts = 1usize << (subnet.max_prefix_len() - subnet.prefix_len());
            prop_assert_eq!(used.len(), hosts - if subnet.addr().is_ipv4() { 3 } else { 2 });
        }
    }
}
