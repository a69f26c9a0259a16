//! A pod's configuration.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use cleat_cri_api::v1::{
    self, DnsConfig, LinuxContainerResources, LinuxPodSandboxConfig, PodSandboxConfig, PodSandboxMetadata,
};

use super::field::{
    climbs, known, line, name, optional_absolute_path, ordered, present, refused, unsupported, word,
};
use super::{namespace, resources, security};
use crate::engine::Result;
use crate::engine::model::{
    Dns, Kind, Mode, Namespaces, PodConfig, PodName, PodResources, PortMapping, Protocol,
};

/// HOST_NAME_MAX of Linux.
const MAX_HOSTNAME_BYTES: usize = 64;

/// What a RunPodSandbox request asks for.
pub(in crate::cri) fn config(config: Option<PodSandboxConfig>, runtime_handler: String) -> Result<PodConfig> {
    let config = present("config", config)?;
    if config.windows.is_some() {
        return Err(unsupported("config.windows", "this node runs Linux"));
    }
    let linux = config.linux.unwrap_or_default();
    let mut context = linux.security_context.clone().unwrap_or_default();
    let namespaces = namespace::of_pod(context.namespace_options.take())?;
    Ok(PodConfig {
        is_unconnected: false,
        places: Vec::new(),
        network_of: None,
        ipc_of: None,
        extra_hosts: Vec::new(),
        kind: Kind::Pod,
        name: pod_name(config.metadata)?,
        hostname: hostname(config.hostname, &namespaces)?,
        log_directory: optional_absolute_path("config.log_directory", &config.log_directory)?,
        dns: config.dns_config.map(dns).transpose()?.filter(|dns| *dns != Dns::default()),
        port_mappings: config
            .port_mappings
            .into_iter()
            .enumerate()
            .map(port_mapping)
            .collect::<Result<_>>()?,
        labels: ordered(config.labels),
        annotations: ordered(config.annotations),
        cgroup_parent: cgroup_parent(&linux)?,
        sysctls: sysctls(linux.sysctls)?,
        security: security::of_pod(context)?,
        namespaces,
        shm_size_bytes: None,
        runtime_handler: line("runtime_handler", runtime_handler)?,
        overhead: linux.overhead.map(resources::stated).transpose()?,
        resources: linux.resources.map(resources::stated).transpose()?,
    })
}

/// What a pod is said to need from now on. A message that is absent changes nothing.
pub(in crate::cri) fn resources(
    overhead: Option<LinuxContainerResources>,
    resources: Option<LinuxContainerResources>,
) -> Result<PodResources> {
    Ok(PodResources {
        overhead: overhead.map(resources::stated).transpose()?,
        resources: resources.map(resources::stated).transpose()?,
    })
}

/// A pod's name as the CRI's message.
pub(super) fn metadata(name: &PodName) -> PodSandboxMetadata {
    PodSandboxMetadata {
        name: name.name.clone(),
        uid: name.uid.clone(),
        namespace: name.namespace.clone(),
        attempt: name.attempt,
    }
}

fn pod_name(metadata: Option<PodSandboxMetadata>) -> Result<PodName> {
    let metadata = present("config.metadata", metadata)?;
    Ok(PodName {
        name: name("config.metadata.name", metadata.name)?,
        namespace: name("config.metadata.namespace", metadata.namespace)?,
        uid: name("config.metadata.uid", metadata.uid)?,
        attempt: metadata.attempt,
    })
}

/// A pod on the host's network has the host's name: the CRI wants this field empty then, and the peers drop what it
/// says.
fn hostname(hostname: String, namespaces: &Namespaces) -> Result<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if hostname.len() > MAX_HOSTNAME_BYTES || !hostname.chars().all(is_part) {
        let why = "at most 64 letters, digits, dots, dashes and underscores are expected";
        return Err(refused("config.hostname", hostname, why));
    }
    Ok(if namespaces.network == Mode::Node { String::new() } else { hostname })
}

fn dns(config: DnsConfig) -> Result<Dns> {
    let address = |text: String| -> Result<IpAddr> {
        text.parse().map_err(|_| refused("config.dns_config.servers", &text, "an IP address is expected"))
    };
    let words = |field: &str, texts: Vec<String>| -> Result<Vec<String>> {
        texts.into_iter().map(|text| word(field, text)).collect()
    };
    Ok(Dns {
        servers: config.servers.into_iter().map(address).collect::<Result<_>>()?,
        searches: words("config.dns_config.searches", config.searches)?,
        options: words("config.dns_config.options", config.options)?,
    })
}

fn port_mapping((index, mapping): (usize, v1::PortMapping)) -> Result<PortMapping> {
    let field = |part: &str| format!("config.port_mappings[{index}].{part}");
    let port = |part: &str, number: i32| {
        u16::try_from(number).map_err(|_| refused(&field(part), number, "a port is at most 65535"))
    };
    let container_port = port("container_port", mapping.container_port)?;
    if container_port == 0 {
        return Err(refused(&field("container_port"), 0, "a port from 1 to 65535 is expected"));
    }
    let host_ip = match mapping.host_ip.as_str() {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| refused(&field("host_ip"), text, "an IP address is expected"))?)
        }
    };
    let protocol = match known(&field("protocol"), mapping.protocol)? {
        v1::Protocol::Tcp => Protocol::Tcp,
        v1::Protocol::Udp => Protocol::Udp,
        v1::Protocol::Sctp => Protocol::Sctp,
    };
    let host_port = port("host_port", mapping.host_port)?;
    Ok(PortMapping { protocol, container_port, host_port, host_port_last: None, host_ip })
}

/// A path in every hierarchy; `..` would lead out of the folder the daemon may write to.
fn cgroup_parent(linux: &LinuxPodSandboxConfig) -> Result<Option<String>> {
    const FIELD: &str = "config.linux.cgroup_parent";
    let parent = line(FIELD, linux.cgroup_parent.clone())?;
    if climbs(parent.as_ref()) {
        return Err(refused(FIELD, parent, "a path without `..` is expected"));
    }
    Ok(Some(parent).filter(|parent| !parent.is_empty()))
}

/// Names become paths below /proc/sys. Which of them a pod may set is judged with its namespaces, in `spec`.
fn sysctls(sysctls: HashMap<String, String>) -> Result<BTreeMap<String, String>> {
    const FIELD: &str = "config.linux.sysctls";
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '/' | '@' | ':');
    let check = |(key, value): (String, String)| {
        let odd =
            key.is_empty() || key.starts_with(['/', '.']) || key.contains("..") || !key.chars().all(is_part);
        if odd {
            return Err(refused(FIELD, key, "a name such as `net.ipv4.ip_forward` is expected"));
        }
        Ok((key, line("config.linux.sysctls's value", value)?))
    };
    sysctls.into_iter().map(check).collect()
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::{
        LinuxContainerResources, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
        WindowsPodSandboxConfig,
    };

    use super::*;
    use crate::engine::model::PidMode;

    fn request() -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "web".into(),
                uid: "u-1".into(),
                namespace: "default".into(),
                attempt: 2,
            }),
            ..PodSandboxConfig::default()
        }
    }

    fn linux(change: impl FnOnce(&mut LinuxPodSandboxConfig)) -> PodSandboxConfig {
        let mut linux = LinuxPodSandboxConfig::default();
        change(&mut linux);
        PodSandboxConfig { linux: Some(linux), ..request() }
    }

    fn on_the_hosts_network(hostname: &str) -> PodSandboxConfig {
        let options = NamespaceOption { network: NamespaceMode::Node as i32, ..NamespaceOption::default() };
        let context = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
        PodSandboxConfig {
            hostname: hostname.into(),
            ..linux(|linux| linux.security_context = Some(context))
        }
    }

    #[test]
    fn a_bare_pod_needs_a_name_only() {
        let pod = config(Some(request()), String::new()).unwrap();
        let name = PodName { name: "web".into(), namespace: "default".into(), uid: "u-1".into(), attempt: 2 };
        let namespaces = Namespaces { pid: PidMode::Pod, ..Namespaces::default() };
        assert_eq!(pod, PodConfig { name: name.clone(), namespaces, ..PodConfig::default() });
        assert_eq!(Some(metadata(&name)), request().metadata);
    }

    #[test]
    fn every_field_arrives() {
        let mapping =
            v1::PortMapping { protocol: 1, container_port: 53, host_port: 5353, host_ip: "127.0.0.1".into() };
        let asked = PodSandboxConfig {
            hostname: "web-0".into(),
            log_directory: "/var/log/pods/x".into(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.0.0.10".into(), "fd00::a".into()],
                searches: vec!["svc.cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            port_mappings: vec![mapping],
            labels: [("app".to_owned(), "web".to_owned())].into(),
            annotations: [("a".to_owned(), "b\nc".to_owned())].into(),
            ..linux(|linux| {
                linux.cgroup_parent = "/kubepods/burstable/podx".into();
                linux.sysctls = [("kernel.shm_rmid_forced".to_owned(), "1".to_owned())].into();
                linux.overhead = Some(LinuxContainerResources { cpu_shares: 2, ..Default::default() });
            })
        };
        let pod = config(Some(asked), "runc".into()).unwrap();
        assert_eq!(pod.hostname, "web-0");
        assert_eq!(pod.log_directory, Some("/var/log/pods/x".into()));
        assert_eq!(pod.dns.unwrap().options, ["ndots:5"]);
        let host_ip = Some(IpAddr::from([127, 0, 0, 1]));
        let mapping = PortMapping {
            protocol: Protocol::Udp,
            container_port: 53,
            host_port: 5353,
            host_port_last: None,
            host_ip,
        };
        assert_eq!(pod.port_mappings, [mapping]);
        assert_eq!((pod.labels["app"].as_str(), pod.annotations["a"].as_str()), ("web", "b\nc"));
        assert_eq!(pod.cgroup_parent.as_deref(), Some("/kubepods/burstable/podx"));
        assert_eq!(pod.sysctls["kernel.shm_rmid_forced"], "1");
        assert_eq!((pod.runtime_handler.as_str(), pod.overhead.unwrap().cpu_shares), ("runc", Some(2)));
    }

    #[test]
    fn a_pods_needs_are_checked_and_may_be_absent() {
        let message = |cpu_quota| Some(LinuxContainerResources { cpu_quota, ..Default::default() });
        let told = resources(None, message(50_000)).unwrap();
        assert_eq!((told.overhead, told.resources.unwrap().cpu_quota_us), (None, Some(50_000)));
        assert!(resources(message(-2), None).is_err());
    }

    #[test]
    fn an_empty_dns_config_means_the_hosts() {
        let asked = PodSandboxConfig { dns_config: Some(DnsConfig::default()), ..request() };
        assert_eq!(config(Some(asked), String::new()).unwrap().dns, None);
    }

    #[test]
    fn a_pod_on_the_hosts_network_has_the_hosts_name() {
        assert_eq!(config(Some(on_the_hosts_network("web")), String::new()).unwrap().hostname, "");
    }

    #[test]
    fn malformed_pods_are_refused_by_field() {
        let metadata = |change: fn(&mut PodSandboxMetadata)| {
            let mut asked = request();
            change(asked.metadata.as_mut().unwrap());
            asked
        };
        let mapping = |container_port, host_port, host_ip: &str| PodSandboxConfig {
            port_mappings: vec![v1::PortMapping {
                protocol: 0,
                container_port,
                host_port,
                host_ip: host_ip.into(),
            }],
            ..request()
        };
        let dns = |servers: &str, searches: &str| PodSandboxConfig {
            dns_config: Some(DnsConfig {
                servers: vec![servers.into()],
                searches: vec![searches.into()],
                options: Vec::new(),
            }),
            ..request()
        };
        let sysctl = |key: &str, value: &str| {
            linux(|linux| linux.sysctls = [(key.to_owned(), value.to_owned())].into())
        };
        for (asked, field) in [
            (PodSandboxConfig { metadata: None, ..request() }, "a request without config.metadata"),
            (metadata(|metadata| metadata.name.clear()), "a request without config.metadata.name"),
            (metadata(|metadata| metadata.uid = "../x".into()), "config.metadata.uid"),
            (metadata(|metadata| metadata.namespace = "a\n".into()), "config.metadata.namespace"),
            (PodSandboxConfig { hostname: "a b".into(), ..request() }, "config.hostname"),
            (PodSandboxConfig { hostname: "a".repeat(65), ..request() }, "config.hostname"),
            (PodSandboxConfig { log_directory: "logs".into(), ..request() }, "config.log_directory"),
            (dns("ns1", "a"), "config.dns_config.servers"),
            (dns("::1", "a\nnameserver 6.6.6.6"), "config.dns_config.searches"),
            (mapping(0, 0, ""), "config.port_mappings[0].container_port"),
            (mapping(80, 65_536, ""), "config.port_mappings[0].host_port"),
            (mapping(80, -1, ""), "config.port_mappings[0].host_port"),
            (mapping(80, 80, "localhost"), "config.port_mappings[0].host_ip"),
            (linux(|linux| linux.cgroup_parent = "/a/../..".into()), "config.linux.cgroup_parent"),
            (sysctl("kernel/../../x", "1"), "config.linux.sysctls"),
            (sysctl("kernel.domainname", "a\nb"), "config.linux.sysctls"),
        ] {
            let error = config(Some(asked), String::new()).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
        assert!(config(None, String::new()).is_err());
        let windows = Some(WindowsPodSandboxConfig::default());
        assert!(config(Some(PodSandboxConfig { windows, ..request() }), String::new()).is_err());
    }
}
