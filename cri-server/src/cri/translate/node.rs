//! The node: version, readiness, what its runtime can do.

use std::collections::HashMap;

use cleat_cri_api::v1::{
    CgroupDriver, LinuxRuntimeConfiguration, RuntimeCondition, RuntimeConfig, RuntimeConfigResponse,
    RuntimeFeatures, RuntimeHandler, RuntimeHandlerFeatures, RuntimeStatus, StatusResponse, VersionResponse,
};
use ipnet::IpNet;
use serde_json::Value;

use super::field::refused;
use crate::engine::Result;

/// Version of the kubelet's runtime API, since its first days; clients send it and peers answer it.
const KUBELET_API: &str = "0.1.0";

/// The condition types every kubelet asks for, and the reason it knows for the second.
const RUNTIME_READY: &str = "RuntimeReady";
const NETWORK_READY: &str = "NetworkReady";
const NETWORK_NOT_READY: &str = "NetworkPluginNotReady";

/// Name and version.
pub(in crate::cri) fn version() -> VersionResponse {
    VersionResponse {
        version: KUBELET_API.to_owned(),
        runtime_name: "cleat".to_owned(),
        runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
        runtime_api_version: "v1".to_owned(),
    }
}

/// The ranges that the cluster has given the node's pods; a kubelet that knows of none says nothing.
pub(in crate::cri) fn pod_ranges(config: Option<RuntimeConfig>) -> Result<Vec<IpNet>> {
    let text = config.and_then(|config| config.network_config).unwrap_or_default().pod_cidr;
    let range = |text: &str| {
        let why = "address ranges such as `10.244.1.0/24` are expected, with commas between them";
        text.trim().parse().map_err(|_| refused("runtime_config.network_config.pod_cidr", text, why))
    };
    text.split(',').filter(|text| !text.trim().is_empty()).map(range).collect()
}

/// What not every kernel can.
#[derive(Clone, Copy, Debug)]
pub(in crate::cri) struct Abilities {
    /// Mounts can be made read-only with all below them.
    pub recursive_read_only: bool,
    /// Pods can have user namespaces of their own, on the host's network, too.
    pub user_namespaces: bool,
}

/// The node's status. `network` is what keeps the network from being ready.
pub(in crate::cri) fn status<'a>(
    network: std::result::Result<(), String>,
    abilities: Abilities,
    handlers: impl Iterator<Item = &'a String>,
) -> StatusResponse {
    let network_message = network.err();
    let network_reason = network_message.as_ref().map_or("", |_| NETWORK_NOT_READY);
    let conditions = vec![
        condition(RUNTIME_READY, true, "", String::new()),
        condition(
            NETWORK_READY,
            network_message.is_none(),
            network_reason,
            network_message.unwrap_or_default(),
        ),
    ];
    let Abilities { recursive_read_only, user_namespaces } = abilities;
    let features =
        RuntimeHandlerFeatures { recursive_read_only_mounts: recursive_read_only, user_namespaces };
    let built_in = RuntimeHandler { name: String::new(), features: Some(features) };
    // What others can do on this host is not known: nothing is promised.
    let other = |name: &String| RuntimeHandler {
        name: name.clone(),
        features: Some(RuntimeHandlerFeatures::default()),
    };
    StatusResponse {
        status: Some(RuntimeStatus { conditions }),
        info: HashMap::new(),
        runtime_handlers: std::iter::once(built_in).chain(handlers.map(other)).collect(),
        features: Some(RuntimeFeatures {
            supplemental_groups_policy: true,
            user_namespaces_host_network: user_namespaces,
        }),
    }
}

/// What `crictl info` shows besides.
pub(in crate::cri) fn info(report: &Value) -> HashMap<String, String> {
    [("host".to_owned(), report.to_string())].into()
}

/// How cgroups are made.
pub(in crate::cri) fn runtime_config(cgroup_driver: &str) -> RuntimeConfigResponse {
    let driver = if cgroup_driver == "systemd" { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs };
    RuntimeConfigResponse { linux: Some(LinuxRuntimeConfiguration { cgroup_driver: driver as i32 }) }
}

fn condition(kind: &str, status: bool, reason: &str, message: String) -> RuntimeCondition {
    RuntimeCondition { r#type: kind.to_owned(), status, reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::NetworkConfig;
    use serde_json::json;

    use super::*;

    fn abilities(can: bool) -> Abilities {
        Abilities { recursive_read_only: can, user_namespaces: can }
    }

    #[test]
    fn the_nodes_ranges_are_read_one_by_one() {
        let config = |text: &str| {
            let network_config = Some(NetworkConfig { pod_cidr: text.to_owned() });
            pod_ranges(Some(RuntimeConfig { network_config }))
        };
        assert_eq!(pod_ranges(None).unwrap(), []);
        assert_eq!(config("").unwrap(), []);
        let both = config("10.244.1.0/24, fd00:1::/64").unwrap();
        assert_eq!(
            both.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.244.1.0/24", "fd00:1::/64"]
        );
        for nonsense in ["10.244.1.0", "10.244.1.0/33", "x"] {
            assert!(config(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn the_network_keeps_the_node_from_being_ready_with_a_reason() {
        for (network, ready, reason, message) in [
            (Ok(()), true, "", ""),
            (Err("no bridge".to_owned()), false, "NetworkPluginNotReady", "no bridge"),
        ] {
            let conditions = status(network, abilities(true), [].iter()).status.unwrap().conditions;
            assert_eq!((conditions[0].r#type.as_str(), conditions[0].status), ("RuntimeReady", true));
            assert_eq!((conditions[1].r#type.as_str(), conditions[1].status), ("NetworkReady", ready));
            assert_eq!((conditions[1].reason.as_str(), conditions[1].message.as_str()), (reason, message));
        }
    }

    #[test]
    fn what_the_runtime_can_do_is_told_as_it_is() {
        for can in [true, false] {
            let status = status(Ok(()), abilities(can), [].iter());
            let handler = &status.runtime_handlers[0];
            assert_eq!(handler.features.unwrap().recursive_read_only_mounts, can);
            assert!(handler.name.is_empty());
            assert_eq!(handler.features.unwrap().user_namespaces, can);
            assert_eq!(status.features.unwrap().user_namespaces_host_network, can);
            assert!(status.features.unwrap().supplemental_groups_policy);
        }
    }

    #[test]
    fn names_and_drivers() {
        assert_eq!(
            (version().runtime_name.as_str(), version().runtime_api_version.as_str()),
            ("cleat", "v1")
        );
        for (driver, expected) in [("cgroupfs", CgroupDriver::Cgroupfs), ("systemd", CgroupDriver::Systemd)] {
            assert_eq!(runtime_config(driver).linux.unwrap().cgroup_driver, expected as i32);
        }
    }

    #[test]
    fn the_report_is_json() {
        assert_eq!(info(&json!({ "kernel": "6.1" }))["host"], r#"{"kernel":"6.1"}"#);
    }
}
