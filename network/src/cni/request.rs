//! What a plugin is told: its environment and its standard input, as pure functions.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{CapabilityArgs, CniError, ValidAttachment, config::NetworkList, config::Plugin};
use crate::{POD_INTERFACE, PodNetwork};

/// What plugins are asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
}

impl Command {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }
}

/// The environment of a plugin that is asked about a pod (CNI specification, section 2, "Parameters").
pub(super) fn pod_environment(
    pod: &PodNetwork,
    dirs: &[PathBuf],
) -> Result<Vec<(&'static str, String)>, CniError> {
    let mut environment = network_environment(dirs);
    // A plugin that is asked to DEL without a namespace must get by: the variable is then empty.
    let netns = if pod.netns.exists() { pod.netns.display().to_string() } else { String::new() };
    environment.extend([
        ("CNI_CONTAINERID", pod.pod_id.clone()),
        ("CNI_NETNS", netns),
        ("CNI_IFNAME", POD_INTERFACE.to_owned()),
        ("CNI_ARGS", arguments(pod)?),
    ]);
    Ok(environment)
}

/// The environment of a plugin that is asked about its network.
pub(super) fn network_environment(dirs: &[PathBuf]) -> Vec<(&'static str, String)> {
    let path = dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":");
    vec![("CNI_PATH", path)]
}

/// `CNI_ARGS`: the pod's identity under the names that plugins for Kubernetes read. The values end at semicolons, so
/// that one within a value would be read as an argument of its own.
fn arguments(pod: &PodNetwork) -> Result<String, CniError> {
    let named = [
        ("K8S_POD_NAMESPACE", &pod.namespace),
        ("K8S_POD_NAME", &pod.name),
        ("K8S_POD_INFRA_CONTAINER_ID", &pod.pod_id),
        ("K8S_POD_UID", &pod.uid),
    ];
    let mut text = "IgnoreUnknown=1".to_owned();
    for (key, value) in named {
        if value.contains([';', '=']) || value.contains(char::is_control) {
            return Err(CniError::Argument { pod_id: pod.pod_id.clone(), key, value: value.clone() });
        }
        if !value.is_empty() {
            text.push_str(&format!(";{key}={value}"));
        }
    }
    Ok(text)
}

/// A plugin's standard input for a pod (CNI specification, section 3, "Deriving request configuration").
pub(super) fn pod_input(
    list: &NetworkList,
    plugin: &Plugin,
    capabilities: &CapabilityArgs,
    previous: Option<&Value>,
) -> Vec<u8> {
    let mut config = derived(list, plugin);
    let runtime: Map<String, Value> = capabilities
        .by_name()
        .into_iter()
        .filter(|(name, _)| plugin.declares(name))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    if !runtime.is_empty() {
        config.insert("runtimeConfig".to_owned(), Value::Object(runtime));
    }
    if let Some(previous) = previous {
        config.insert("prevResult".to_owned(), previous.clone());
    }
    encode(config)
}

/// A plugin's standard input for STATUS.
pub(super) fn status_input(list: &NetworkList, plugin: &Plugin) -> Vec<u8> {
    encode(derived(list, plugin))
}

/// A plugin's standard input for GC: everything that is not among `valid` shall go.
pub(super) fn gc_input(list: &NetworkList, plugin: &Plugin, valid: &[ValidAttachment]) -> Vec<u8> {
    let mut config = derived(list, plugin);
    config.insert("cni.dev/valid-attachments".to_owned(), json!(valid));
    encode(config)
}

fn derived(list: &NetworkList, plugin: &Plugin) -> Map<String, Value> {
    let mut config = plugin.config.clone();
    config.insert("name".to_owned(), list.name.clone().into());
    config.insert("cniVersion".to_owned(), list.version.as_str().into());
    config
}

fn encode(config: Map<String, Value>) -> Vec<u8> {
    Value::Object(config).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::{PortMapping, PortProtocol};

    fn list() -> NetworkList {
        let text = br#"{"cniVersion":"1.1.0","name":"net","plugins":[
            {"type":"bridge","name":"other","cniVersion":"0.3.1","capabilities":{"mac":true}},
            {"type":"portmap","snat":true,"capabilities":{"portMappings":true}}]}"#;
        NetworkList::parse(text).unwrap()
    }

    fn pod() -> PodNetwork {
        PodNetwork {
            pod_id: "abc".to_owned(),
            name: "web".to_owned(),
            namespace: "default".to_owned(),
            uid: "1-2".to_owned(),
            netns: "/proc/self/ns/net".into(),
            addresses: Vec::new(),
            capabilities: CapabilityArgs {
                port_mappings: vec![PortMapping {
                    host_port: 8080,
                    container_port: 80,
                    protocol: PortProtocol::Tcp,
                    host_ip: None,
                }],
                ..CapabilityArgs::default()
            },
        }
    }

    fn input(index: usize, previous: Option<&Value>) -> Value {
        let list = list();
        serde_json::from_slice(&pod_input(&list, &list.plugins[index], &pod().capabilities, previous))
            .unwrap()
    }

    #[test]
    fn the_environment_names_the_pod() {
        let environment = pod_environment(&pod(), &["/opt/cni/bin".into(), "/usr/lib/cni".into()]).unwrap();
        let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=abc;K8S_POD_UID=1-2";
        assert_eq!(
            environment,
            [
                ("CNI_PATH", "/opt/cni/bin:/usr/lib/cni".to_owned()),
                ("CNI_CONTAINERID", "abc".to_owned()),
                ("CNI_NETNS", "/proc/self/ns/net".to_owned()),
                ("CNI_IFNAME", "eth0".to_owned()),
                ("CNI_ARGS", arguments.to_owned()),
            ]
        );
        let gone = PodNetwork { netns: "/nonexistent/netns".into(), ..pod() };
        assert!(pod_environment(&gone, &[]).unwrap().contains(&("CNI_NETNS", String::new())));
    }

    #[test]
    fn a_value_cannot_smuggle_an_argument() {
        for value in ["a;K8S_POD_UID=0", "a=b", "a\nb", "a\0b"] {
            let pod = PodNetwork { name: value.to_owned(), ..pod() };
            assert!(matches!(pod_environment(&pod, &[]), Err(CniError::Argument { .. })), "{value:?}");
        }
    }

    #[test]
    fn the_lists_name_and_version_win_and_only_declared_capabilities_are_passed() {
        let previous = json!({"ips": []});
        let bridge = input(0, None);
        assert_eq!((&bridge["name"], &bridge["cniVersion"]), (&json!("net"), &json!("1.1.0")));
        assert_eq!((bridge.get("runtimeConfig"), bridge.get("prevResult")), (None, None));
        let portmap = input(1, Some(&previous));
        let mapping = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
        assert_eq!(portmap["runtimeConfig"], json!({ "portMappings": mapping }));
        assert_eq!((&portmap["prevResult"], &portmap["snat"]), (&previous, &json!(true)));
    }

    #[test]
    fn gc_lists_what_stays() {
        let list = list();
        let input: Value =
            serde_json::from_slice(&gc_input(&list, &list.plugins[0], &[ValidAttachment::of_pod("abc")]))
                .unwrap();
        assert_eq!(input["cni.dev/valid-attachments"], json!([{"containerID": "abc", "ifname": "eth0"}]));
    }
}
