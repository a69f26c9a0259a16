//! The group of a container that is to be created: its network and the files that tell of it. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cleat_network::bridge::Subnet;
use ipnet::IpNet;
use oci_spec::image::Config;

use super::others::Others;
use super::request::{Create, HostConfig, PortBinding};
use crate::docker::Facts;
use crate::docker::refusal::Refusal;
use crate::engine::model::{
    Dns, HostAlias, Mode, Namespaces, Place, PodConfig, PortMapping, Protocol, Security,
};

/// The parameter of the UTS namespace that is the domain's name.
const DOMAIN_NAME: &str = "kernel.domainname";

/// The address that stands for the host, in an extra host.
const GATEWAY: &str = "host-gateway";

/// What a group is decided from besides the request.
pub(super) struct Around<'a> {
    /// The image's settings.
    pub image: &'a Config,
    /// The daemon's network.
    pub facts: &'a Facts,
    /// The containers whose namespaces it is to use.
    pub others: &'a Others,
    /// Its places in networks.
    pub places: Vec<Place>,
}

/// The group of the container that is asked for.
pub(super) fn config(request: &Create, around: Around<'_>) -> Result<PodConfig, Refusal> {
    let host = &request.host_config;
    let on_host = host.network_mode == "host";
    let (ipc, ipc_of) = around.others.ipc(&host.ipc_mode);
    let hostname = match &around.others.network {
        Some(other) => {
            check_shared(request)?;
            other.group.config.hostname.clone()
        }
        None => request.hostname.clone(),
    };
    Ok(PodConfig {
        hostname,
        is_unconnected: host.network_mode == "none",
        places: around.places,
        network_of: around
            .others
            .network
            .as_ref()
            .map(|other| other.group.config.network_of.clone().unwrap_or(other.group.id.clone())),
        ipc_of,
        cgroup_parent: cgroup_parent(&host.cgroup_parent),
        extra_hosts: host
            .extra_hosts
            .iter()
            .map(|text| alias(text, around.facts))
            .collect::<Result<_, _>>()?,
        dns: dns(host)?,
        port_mappings: ports(request, around.image)?,
        labels: request.labels.clone(),
        sysctls: sysctls(request),
        namespaces: Namespaces {
            network: if on_host { Mode::Node } else { Mode::Pod },
            ipc,
            uts: if host.uts_mode == "host" { Mode::Node } else { Mode::Pod },
            ..Namespaces::default()
        },
        security: Security { privileged: host.privileged, ..Security::default() },
        shm_size_bytes: Some(host.shm_size).filter(|size| *size > 0),
        ..PodConfig::default()
    })
}

/// The cgroup to be below, from the root of each hierarchy; what goes up from there stays there.
fn cgroup_parent(asked: &str) -> Option<String> {
    if asked.is_empty() {
        return None;
    }
    let mut parts = Vec::new();
    for part in asked.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(format!("/{}", parts.join("/")))
}

/// The kernel's parameters; the domain's name is one.
fn sysctls(request: &Create) -> BTreeMap<String, String> {
    let mut sysctls = request.host_config.sysctls.clone();
    if !request.domainname.is_empty() {
        sysctls.insert(DOMAIN_NAME.to_owned(), request.domainname.clone());
    }
    sysctls
}

/// What belongs to a network cannot be chosen with that of another container.
fn check_shared(request: &Create) -> Result<(), Refusal> {
    let host = &request.host_config;
    let has_dns = !(host.dns.is_empty() && host.dns_search.is_empty() && host.dns_options.is_empty());
    let conflicts = [
        (!request.hostname.is_empty(), "hostname and the network mode"),
        (has_dns, "dns and the network mode"),
        (!host.extra_hosts.is_empty(), "custom host-to-IP mapping and the network mode"),
        (
            !host.port_bindings.is_empty() || host.publish_all_ports,
            "port publishing and the container type network mode",
        ),
        (!request.exposed_ports.is_empty(), "port exposing and the container type network mode"),
    ];
    match conflicts.iter().find(|(wanted, _)| *wanted) {
        Some((_, what)) => Err(Refusal::bad(format!("conflicting options: {what}"))),
        None => Ok(()),
    }
}

/// `name:address`, `name=address`, or `host-gateway` for the address.
fn alias(text: &str, facts: &Facts) -> Result<HostAlias, Refusal> {
    let wrong = |what: &str| Refusal::bad(format!("bad format for add-host: {what:?}"));
    let (name, address) = text.split_once([':', '=']).ok_or_else(|| wrong(text))?;
    let address = match address {
        GATEWAY => gateway(facts).ok_or_else(|| wrong("host-gateway: the network has no IPv4 address"))?,
        address => {
            let bare = address.strip_prefix('[').and_then(|bare| bare.strip_suffix(']'));
            let parsed = bare.unwrap_or(address).parse();
            parsed.map_err(|_| Refusal::bad(format!("invalid IP address in add-host: {address:?}")))?
        }
    };
    Ok(HostAlias { name: name.to_owned(), address })
}

fn gateway(facts: &Facts) -> Option<IpAddr> {
    let subnet = facts.subnets.iter().find(|subnet| matches!(subnet, IpNet::V4(_)))?;
    Some(Subnet::new(*subnet).ok()?.gateway)
}

fn dns(host: &HostConfig) -> Result<Option<Dns>, Refusal> {
    if host.dns.is_empty() && host.dns_search.is_empty() && host.dns_options.is_empty() {
        return Ok(None);
    }
    let address =
        |text: &String| text.parse().map_err(|_| Refusal::bad(format!("invalid DNS server {text:?}")));
    let servers = host.dns.iter().map(address).collect::<Result<_, _>>()?;
    Ok(Some(Dns { servers, searches: host.dns_search.clone(), options: host.dns_options.clone() }))
}

/// The published ports: those that are named, and with `-P` every other one that the image or the request exposes.
fn ports(request: &Create, image: &Config) -> Result<Vec<PortMapping>, Refusal> {
    let host = &request.host_config;
    let mut mappings = Vec::new();
    for (text, bindings) in &host.port_bindings {
        for binding in bindings.iter().flatten() {
            mappings.push(mapping(text, binding)?);
        }
    }
    if !host.publish_all_ports {
        return Ok(mappings);
    }
    let exposed = request.exposed_ports.keys().chain(image.exposed_ports().iter().flatten());
    for text in exposed {
        let free = mapping(text, &PortBinding::default())?;
        let same = |known: &PortMapping| {
            (known.protocol, known.container_port) == (free.protocol, free.container_port)
        };
        if !mappings.iter().any(same) {
            mappings.push(free);
        }
    }
    Ok(mappings)
}

/// A port of the container, `80` or `80/tcp`, on one of the host: without a number, on one that is free.
fn mapping(text: &str, binding: &PortBinding) -> Result<PortMapping, Refusal> {
    let wrong = |what: &str| Refusal::bad(format!("invalid {what} to publish port {text} on"));
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let container_port = number.parse().map_err(|_| Refusal::bad(format!("invalid port {text:?}")))?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return Err(Refusal::bad(format!("invalid port {text:?}"))),
    };
    let number = |text: &str| text.parse::<u16>().map_err(|_| wrong("port"));
    let (host_port, host_port_last) = match binding.host_port.split_once('-') {
        None if binding.host_port.is_empty() => (0, None),
        None => (number(&binding.host_port)?, None),
        Some((first, last)) => (number(first)?, Some(number(last)?)),
    };
    if host_port_last.is_some_and(|last| last < host_port || host_port == 0) {
        return Err(wrong("range"));
    }
    let host_ip = match binding.host_ip.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| wrong("address"))?),
    };
    Ok(PortMapping { protocol, container_port, host_port, host_port_last, host_ip })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(text: &str) -> Create {
        serde_json::from_str(text).unwrap()
    }

    fn facts() -> Facts {
        let subnets = vec!["10.213.0.0/16".parse().unwrap()];
        Facts { bridge: "cleat0".into(), subnets, root: "/r".into(), debug: false }
    }

    #[test]
    fn published_ports_are_named_or_free() {
        let named =
            request(r#"{"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"81"}]}}}"#);
        let found = ports(&named, &Config::default()).unwrap();
        assert_eq!((found[0].container_port, found[0].host_port), (80, 81));
        let all = request(
            r#"{"ExposedPorts":{"80/tcp":{},"53/udp":{}},
            "HostConfig":{"PublishAllPorts":true,"PortBindings":{"80/tcp":[{"HostPort":"81"}]}}}"#,
        );
        let mut image = Config::default();
        image.set_exposed_ports(Some(vec!["53/udp".into(), "90".into()]));
        let found = ports(&all, &image).unwrap();
        let pairs: Vec<_> = found.iter().map(|known| (known.container_port, known.host_port)).collect();
        assert_eq!(pairs, [(80, 81), (53, 0), (90, 0)]);
        for (text, status) in [("80/x", 400), ("x", 400)] {
            assert_eq!(
                mapping(text, &PortBinding::default()).unwrap_err().status().as_u16(),
                status,
                "{text}"
            );
        }
    }

    #[test]
    fn a_cgroup_parent_is_below_the_root() {
        for (asked, expected) in [
            ("", None),
            ("/", Some("/")),
            ("a", Some("/a")),
            ("/a//./b/", Some("/a/b")),
            ("../../a/../b", Some("/b")),
            ("my.slice", Some("/my.slice")),
        ] {
            assert_eq!(cgroup_parent(asked).as_deref(), expected, "{asked:?}");
        }
    }

    #[test]
    fn extra_hosts_are_names_with_addresses() {
        for (text, address) in
            [("a:1.2.3.4", "1.2.3.4"), ("a=::1", "::1"), ("a:[::1]", "::1"), ("a:host-gateway", "10.213.0.1")]
        {
            assert_eq!(alias(text, &facts()).unwrap().address.to_string(), address, "{text}");
        }
        for text in ["a", "a:b", "a:"] {
            assert_eq!(alias(text, &facts()).unwrap_err().status().as_u16(), 400, "{text}");
        }
    }

    #[test]
    fn what_is_of_a_network_is_not_chosen_with_anothers() {
        for text in [
            r#"{"Hostname":"x"}"#,
            r#"{"HostConfig":{"Dns":["1.1.1.1"]}}"#,
            r#"{"HostConfig":{"ExtraHosts":["a:1.2.3.4"]}}"#,
            r#"{"HostConfig":{"PublishAllPorts":true}}"#,
        ] {
            assert_eq!(check_shared(&request(text)).unwrap_err().status().as_u16(), 400, "{text}");
        }
        assert!(check_shared(&request("{}")).is_ok());
    }
}
