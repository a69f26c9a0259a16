//! Ports of the host that a container without a pod is published on when it asks for any that is free.
//!
//! The kernel names one that no process of the host uses. No process listens on a published port, so those of other
//! groups are left out here: the ones that readers see, and the ones of groups that are being made ready.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use super::model::{Id, PortMapping, Protocol};

/// How often the kernel is asked for another port.
const ATTEMPTS: usize = 64;

/// The ports of groups that are being made ready, and of those that are.
#[derive(Default)]
pub(crate) struct FreePorts(Mutex<BTreeMap<Id, Vec<(Protocol, u16)>>>);

impl FreePorts {
    /// The mappings of `group` with a port for each that names none. `in_use` are those of other groups.
    pub(crate) fn choose(
        &self,
        group: &Id,
        mappings: &[PortMapping],
        in_use: &[&PortMapping],
    ) -> io::Result<Vec<PortMapping>> {
        let mut reserved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<(Protocol, u16)> = reserved.values().flatten().copied().collect();
        let named = mappings.iter().filter(|mapping| mapping.host_port_last.is_none());
        taken.extend(in_use.iter().copied().chain(named).map(|known| (known.protocol, known.host_port)));
        let mut chosen = mappings.to_vec();
        for mapping in &mut chosen {
            let (protocol, address) = (mapping.protocol, mapping.host_ip);
            mapping.host_port = match (mapping.host_port, mapping.host_port_last.take()) {
                (0, _) => free(protocol, address, &taken)?,
                (first, Some(last)) => free_of(first..=last, protocol, address, &taken)?,
                (_, None) => continue,
            };
            taken.push((mapping.protocol, mapping.host_port));
        }
        reserved
            .insert(group.clone(), chosen.iter().map(|known| (known.protocol, known.host_port)).collect());
        Ok(chosen)
    }

    /// The group gives its ports back.
    pub(crate) fn release(&self, group: &Id) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(group);
    }
}

fn free(protocol: Protocol, address: Option<IpAddr>, taken: &[(Protocol, u16)]) -> io::Result<u16> {
    for _ in 0..ATTEMPTS {
        let port = ask(protocol, address, 0)?;
        if !taken.contains(&(protocol, port)) {
            return Ok(port);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "every port that the kernel names is published already"))
}

/// The first port of a range that nobody uses.
fn free_of(
    range: std::ops::RangeInclusive<u16>,
    protocol: Protocol,
    address: Option<IpAddr>,
    taken: &[(Protocol, u16)],
) -> io::Result<u16> {
    let (first, last) = (*range.start(), *range.end());
    let mut free = range.filter(|port| !taken.contains(&(protocol, *port)));
    let found = free.find(|port| ask(protocol, address, *port).is_ok());
    found.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::AddrInUse,
            format!("every port from {first} to {last} is already allocated"),
        )
    })
}

/// A port that no process uses at this moment, `port` or with 0 any: of both families where no address is named.
fn ask(protocol: Protocol, address: Option<IpAddr>, port: u16) -> io::Result<u16> {
    let bind = |address: IpAddr| match protocol {
        Protocol::Udp => UdpSocket::bind((address, port))?.local_addr(),
        // SCTP's ports are drawn from the same range.
        Protocol::Tcp | Protocol::Sctp => TcpListener::bind((address, port))?.local_addr(),
    };
    let bound = match address {
        Some(address) => bind(address),
        None => bind(Ipv6Addr::UNSPECIFIED.into()).or_else(|_| bind([0, 0, 0, 0].into())),
    };
    bound.map(|address| address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(container_port: u16, host_port: u16) -> PortMapping {
        PortMapping {
            protocol: Protocol::Tcp,
            container_port,
            host_port,
            host_port_last: None,
            host_ip: None,
        }
    }

    #[test]
    fn a_port_is_chosen_for_each_mapping_that_names_none() {
        let (ports, one, other) = (FreePorts::default(), Id::random().unwrap(), Id::random().unwrap());
        let chosen = ports.choose(&one, &[mapping(80, 0), mapping(81, 0), mapping(82, 8082)], &[]).unwrap();
        assert_eq!(chosen[2], mapping(82, 8082));
        assert!(chosen[0].host_port != 0 && chosen[0].host_port != chosen[1].host_port);
        let second = ports.choose(&other, &[mapping(80, 0)], &[]).unwrap();
        assert!(chosen.iter().all(|known| known.host_port != second[0].host_port));
    }

    #[test]
    fn one_of_a_range_is_chosen_until_there_is_none() {
        let (ports, first) = (FreePorts::default(), ask(Protocol::Tcp, None, 0).unwrap().min(u16::MAX - 1));
        let range = PortMapping { host_port_last: Some(first + 1), ..mapping(80, first) };
        let taken = [&mapping(80, first), &mapping(80, first + 1)];
        let chosen = ports.choose(&Id::random().unwrap(), std::slice::from_ref(&range), &taken[1..]);
        // Unless somebody took it meanwhile.
        if let Ok(chosen) = chosen {
            assert_eq!(chosen, [mapping(80, first)]);
        }
        let refused = ports.choose(&Id::random().unwrap(), &[range], &taken).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_taken_is_not_chosen() {
        let all: Vec<_> = (0..=u16::MAX).map(|port| (Protocol::Tcp, port)).collect();
        assert_eq!(free(Protocol::Tcp, None, &all).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
