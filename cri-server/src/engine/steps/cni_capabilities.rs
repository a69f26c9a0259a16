//! What CNI plugins that declare a capability are told of a pod (CNI conventions, "dynamic plugin specific fields").

use cleat_network::cni::{CapabilityArgs, Dns, PortMapping, PortProtocol};

use crate::engine::model::{PodConfig, Protocol};

/// The capability arguments of a pod.
pub(super) fn of(config: &PodConfig) -> CapabilityArgs {
    CapabilityArgs {
        port_mappings: published(config),
        dns: config.dns.as_ref().map(|dns| Dns {
            servers: dns.servers.iter().map(ToString::to_string).collect(),
            searches: dns.searches.clone(),
            options: dns.options.clone(),
        }),
        cgroup_path: config.cgroup_parent.clone(),
        ..CapabilityArgs::default()
    }
}

/// The ports of the host that are to lead into the pod. A mapping without one only names a port of the pod.
fn published(config: &PodConfig) -> Vec<PortMapping> {
    let mappings = config.port_mappings.iter().filter(|mapping| mapping.host_port != 0);
    mappings
        .map(|mapping| PortMapping {
            host_port: mapping.host_port,
            container_port: mapping.container_port,
            protocol: match mapping.protocol {
                Protocol::Tcp => PortProtocol::Tcp,
                Protocol::Udp => PortProtocol::Udp,
                Protocol::Sctp => PortProtocol::Sctp,
            },
            host_ip: mapping.host_ip,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model;

    #[test]
    fn a_port_without_one_of_the_host_is_not_published() {
        let mapping = |host_port| model::PortMapping {
            host_port_last: None,
            protocol: Protocol::Udp,
            container_port: 53,
            host_port,
            host_ip: None,
        };
        let config = PodConfig { port_mappings: vec![mapping(0), mapping(5353)], ..PodConfig::default() };
        let expected =
            PortMapping { host_port: 5353, container_port: 53, protocol: PortProtocol::Udp, host_ip: None };
        assert_eq!(of(&config).port_mappings, [expected]);
    }
}
