//! Which ports of the host lead to which pod, and who may have one: decisions only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

use super::BridgeError;
use crate::{
    cni::{PortMapping, PortProtocol},
    nft::Forwarded,
};

/// The ports that lead to pods, as the kernel should have them.
#[derive(Debug, Default)]
pub(super) struct Ports(BTreeMap<(u8, u16), Vec<Forwarded>>);

impl Ports {
    /// Gives a pod its ports: all or, where another pod has one of them, none.
    pub(super) fn claim(&mut self, wanted: &[Forwarded]) -> Result<(), BridgeError> {
        for port in wanted {
            if let Some(taken) = self.same_port(port).find(|taken| overlap(taken, port)) {
                return Err(BridgeError::PortTaken {
                    port: describe(port),
                    container_id: port.owner.clone(),
                    owner: taken.owner.clone(),
                });
            }
        }
        for port in wanted {
            self.0.entry((port.protocol, port.host_port)).or_default().push(port.clone());
        }
        Ok(())
    }

    /// Takes a pod's ports back; those it had.
    pub(super) fn release(&mut self, owner: &str) -> Vec<Forwarded> {
        let mut released = Vec::new();
        self.0.retain(|_, ports| {
            released.extend(ports.extract_if(.., |port| port.owner == owner));
            !ports.is_empty()
        });
        released
    }

    /// Whether any pod has this very port.
    pub(super) fn has(&self, port: &Forwarded) -> bool {
        self.same_port(port)
            .any(|taken| taken.host_ip == port.host_ip && taken.to.is_ipv4() == port.to.is_ipv4())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn all(&self) -> Vec<Forwarded> {
        self.0.values().flatten().cloned().collect()
    }

    fn same_port(&self, port: &Forwarded) -> impl Iterator<Item = &Forwarded> {
        self.0.get(&(port.protocol, port.host_port)).into_iter().flatten()
    }
}

/// Who has which port of the host, on all networks that share it: each has rules of its own, and a packet would find its
/// way by whichever come first.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims(Arc<Mutex<Ports>>);

impl Claims {
    /// Gives a pod its ports: all or, where another pod has one of them on any network, none.
    pub(super) fn claim(&self, wanted: &[Forwarded]) -> Result<(), BridgeError> {
        self.lock().claim(wanted)
    }

    /// Takes a pod's ports back.
    pub(super) fn release(&self, owner: &str) {
        self.lock().release(owner);
    }

    /// Gives a pod back what it had.
    pub(super) fn restore(&self, owner: &str, wanted: &[Forwarded]) -> Result<(), BridgeError> {
        let mut ports = self.lock();
        ports.release(owner);
        ports.claim(wanted)
    }

    /// Nothing that changes it can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Ports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pod's mappings come to. Without an address of the host, or with the unspecified one of a family, a port is open
/// on all addresses of the families that the pod has. The same mapping twice counts once.
pub(super) fn plan(
    owner: &str,
    addresses: &[IpNet],
    mappings: &[PortMapping],
) -> Result<Vec<Forwarded>, BridgeError> {
    let v4 = addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv4);
    let v6 = addresses.iter().map(IpNet::addr).find(IpAddr::is_ipv6);
    let mut planned: Vec<Forwarded> = Vec::new();
    for mapping in mappings {
        let targets: Vec<IpAddr> = match mapping.host_ip {
            None => v4.into_iter().chain(v6).collect(),
            Some(IpAddr::V4(_)) => v4.into_iter().collect(),
            Some(IpAddr::V6(_)) => v6.into_iter().collect(),
        };
        let is_loopback = mapping.host_ip.is_some_and(|ip| ip.is_ipv6() && ip.is_loopback());
        if targets.is_empty() || is_loopback {
            return Err(BridgeError::PortAddress {
                host_ip: mapping.host_ip,
                host_port: mapping.host_port,
                container_id: owner.to_owned(),
            });
        }
        for to in targets {
            let forwarded = forwarded(owner, to, mapping);
            match planned.iter().find(|other| overlap(other, &forwarded)) {
                None => planned.push(forwarded),
                Some(same) if *same == forwarded => {}
                Some(_) => {
                    return Err(BridgeError::PortTaken {
                        port: describe(&forwarded),
                        container_id: owner.to_owned(),
                        owner: owner.to_owned(),
                    });
                }
            }
        }
    }
    Ok(planned)
}

fn forwarded(owner: &str, to: IpAddr, mapping: &PortMapping) -> Forwarded {
    Forwarded {
        protocol: match mapping.protocol {
            PortProtocol::Tcp => 6,
            PortProtocol::Udp => 17,
            PortProtocol::Sctp => 132,
        },
        host_ip: mapping.host_ip.filter(|ip| !ip.is_unspecified()),
        host_port: mapping.host_port,
        to,
        port: mapping.container_port,
        owner: owner.to_owned(),
    }
}

/// Whether one packet could mean either.
fn overlap(a: &Forwarded, b: &Forwarded) -> bool {
    a.protocol == b.protocol
        && a.host_port == b.host_port
        && a.to.is_ipv4() == b.to.is_ipv4()
        && (a.host_ip.is_none() || b.host_ip.is_none() || a.host_ip == b.host_ip)
}

/// `8080/tcp` of all addresses, `8080/tcp of 192.0.2.1` of one.
fn describe(port: &Forwarded) -> String {
    let protocol = match port.protocol {
        6 => "tcp",
        17 => "udp",
        _ => "sctp",
    };
    let number = port.host_port;
    port.host_ip.map_or_else(|| format!("{number}/{protocol}"), |ip| format!("{number}/{protocol} of {ip}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: [&str; 2] = ["10.88.0.2/24", "fd00:88::2/64"];

    fn mapping(host_port: u16, protocol: PortProtocol, host_ip: Option<&str>) -> PortMapping {
        let host_ip = host_ip.map(|text| text.parse().unwrap());
        PortMapping { host_port, container_port: 80, protocol, host_ip }
    }

    fn of(owner: &str, addresses: &[&str], mappings: &[PortMapping]) -> Result<Vec<Forwarded>, BridgeError> {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        plan(owner, &addresses, mappings)
    }

    #[test]
    fn a_port_is_open_on_the_families_that_host_and_pod_have() {
        for (addresses, host_ip, expected) in [
            (&DUAL[..], None, &["any 10.88.0.2", "any fd00:88::2"][..]),
            (&DUAL[..1], None, &["any 10.88.0.2"]),
            (&DUAL[..], Some("0.0.0.0"), &["any 10.88.0.2"]),
            (&DUAL[..], Some("::"), &["any fd00:88::2"]),
            (&DUAL[..], Some("192.0.2.1"), &["192.0.2.1 10.88.0.2"]),
            (&DUAL[..], Some("127.0.0.1"), &["127.0.0.1 10.88.0.2"]),
            (&DUAL[..], Some("2001:db8::1"), &["2001:db8::1 fd00:88::2"]),
        ] {
            let planned = of("pod", addresses, &[mapping(8080, PortProtocol::Tcp, host_ip)]).unwrap();
            let told: Vec<_> = planned
                .iter()
                .map(|port| {
                    format!("{} {}", port.host_ip.map_or("any".to_owned(), |ip| ip.to_string()), port.to)
                })
                .collect();
            assert_eq!(told, expected, "{host_ip:?}");
        }
    }

    #[test]
    fn an_address_that_cannot_lead_to_the_pod_is_refused() {
        for (addresses, host_ip) in
            [(&DUAL[..1], "2001:db8::1"), (&DUAL[1..], "192.0.2.1"), (&DUAL[..], "::1"), (&DUAL[..1], "::")]
        {
            let refused = of("pod", addresses, &[mapping(8080, PortProtocol::Tcp, Some(host_ip))]);
            assert!(matches!(refused, Err(BridgeError::PortAddress { .. })), "{host_ip}: {refused:?}");
        }
    }

    #[test]
    fn a_port_belongs_to_one_pod_until_it_is_given_back() {
        let (tcp, udp) = (PortProtocol::Tcp, PortProtocol::Udp);
        for (first, second, is_refused) in [
            (mapping(80, tcp, None), mapping(80, tcp, None), true),
            (mapping(80, tcp, None), mapping(80, udp, None), false),
            (mapping(80, tcp, None), mapping(81, tcp, None), false),
            (mapping(80, tcp, None), mapping(80, tcp, Some("192.0.2.1")), true),
            (mapping(80, tcp, Some("192.0.2.1")), mapping(80, tcp, Some("0.0.0.0")), true),
            (mapping(80, tcp, Some("192.0.2.1")), mapping(80, tcp, Some("192.0.2.2")), false),
            (mapping(80, tcp, Some("0.0.0.0")), mapping(80, tcp, Some("::")), false),
        ] {
            let mut ports = Ports::default();
            ports.claim(&of("a", &DUAL, std::slice::from_ref(&first)).unwrap()).unwrap();
            let wanted = of("b", &DUAL, std::slice::from_ref(&second)).unwrap();
            let claimed = ports.claim(&wanted);
            assert_eq!(claimed.is_err(), is_refused, "{first:?} {second:?}");
            if let Err(error) = claimed {
                assert!(error.to_string().contains("pod a"), "{error}");
                ports.release("a");
                ports.claim(&wanted).unwrap();
            }
        }
    }

    #[test]
    fn a_pod_may_repeat_itself_and_not_contradict_itself() {
        let once = mapping(80, PortProtocol::Tcp, None);
        assert_eq!(of("pod", &DUAL, &[once.clone(), once.clone()]).unwrap().len(), 2);
        let other = PortMapping { container_port: 81, ..once.clone() };
        assert!(matches!(of("pod", &DUAL, &[once, other]), Err(BridgeError::PortTaken { .. })));
    }
}
