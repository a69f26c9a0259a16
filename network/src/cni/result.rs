//! What a plugin's result says about the pod.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use crate::{Attached, POD_INTERFACE, Route};

/// What a plugin printed is no result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// ADD printed nothing.
    #[error("it is empty")]
    Empty,
    /// It is no JSON, or a field has the wrong type.
    #[error("it is not JSON of the form of a result")]
    Json(#[from] serde_json::Error),
    /// An address refers to an interface that is not in the result.
    #[error("address {address} is of interface {index}, and there are {count}")]
    Interface {
        /// The address.
        address: IpNet,
        /// Its interface's number.
        index: usize,
        /// How many interfaces there are.
        count: usize,
    },
}

/// The fields that all versions from 0.3.0 on have in common.
#[derive(Deserialize)]
struct RawResult {
    #[serde(default)]
    interfaces: Vec<RawInterface>,
    #[serde(default)]
    ips: Vec<RawIp>,
    #[serde(default)]
    routes: Vec<RawRoute>,
}

#[derive(Deserialize)]
struct RawInterface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mac: String,
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct RawIp {
    address: IpNet,
    gateway: Option<IpAddr>,
    interface: Option<usize>,
}

#[derive(Deserialize)]
struct RawRoute {
    dst: IpNet,
    gw: Option<IpAddr>,
}

/// Reads what ADD printed as a JSON object, which is passed on unchanged.
pub(super) fn parse(printed: &[u8]) -> Result<Value, ResultError> {
    if printed.trim_ascii().is_empty() {
        return Err(ResultError::Empty);
    }
    Ok(Value::Object(serde_json::from_slice(printed)?))
}

/// What the last plugin's result says about the pod's interface.
pub(super) fn attached(result: &Value) -> Result<Attached, ResultError> {
    let raw = RawResult::deserialize(result)?;
    let in_pod = |interface: &RawInterface| interface.name == POD_INTERFACE && !interface.sandbox.is_empty();
    let mut attached = Attached {
        ports: Vec::new(),
        interface: POD_INTERFACE.to_owned(),
        mac: raw
            .interfaces
            .iter()
            .find(|interface| in_pod(interface))
            .and_then(|found| found.mac.parse().ok()),
        addresses: Vec::new(),
        gateways: Vec::new(),
        routes: raw.routes.iter().map(|route| Route { destination: route.dst, gateway: route.gw }).collect(),
        cni: None,
    };
    for ip in &raw.ips {
        let is_of_pod = match ip.interface {
            // A plugin without interfaces of its own, or an old one, says nothing: there is one interface.
            None => true,
            Some(index) => raw.interfaces.get(index).map(in_pod).ok_or(ResultError::Interface {
                address: ip.address,
                index,
                count: raw.interfaces.len(),
            })?,
        };
        if is_of_pod {
            attached.addresses.push(ip.address);
            attached.gateways.extend(ip.gateway.filter(|gateway| !attached.gateways.contains(gateway)));
        }
    }
    Ok(attached)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_pods_interface_counts() {
        let result = json!({
            "cniVersion": "0.4.0",
            "interfaces": [
                {"name": "cni0", "mac": "00:11:22:33:44:55"},
                {"name": "eth0", "mac": "66:77:88:99:aa:bb", "sandbox": "/run/netns/a"},
                {"name": "net1", "sandbox": "/run/netns/a"}],
            "ips": [
                {"version": "4", "address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
                {"version": "4", "address": "10.9.0.5/16", "gateway": "10.9.0.1", "interface": 2},
                {"version": "6", "address": "fd00::5/64", "gateway": "fd00::1", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}],
            "dns": {}
        });
        let attached = attached(&result).unwrap();
        let text = |addresses: &[IpNet]| addresses.iter().map(IpNet::to_string).collect::<Vec<_>>();
        assert_eq!(text(&attached.addresses), ["10.1.0.5/16", "fd00::5/64"]);
        assert_eq!(
            attached.gateways.iter().map(IpAddr::to_string).collect::<Vec<_>>(),
            ["10.1.0.1", "fd00::1"]
        );
        assert_eq!(attached.mac.unwrap().to_string(), "66:77:88:99:aa:bb");
        assert_eq!(attached.routes.len(), 2);
    }

    #[test]
    fn a_result_without_interfaces_is_about_the_one_there_is() {
        let attached =
            attached(&json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.5/16"}]})).unwrap();
        assert_eq!((attached.addresses.len(), attached.mac), (1, None));
    }

    #[test]
    fn other_answers_are_refused() {
        for printed in [b"".as_slice(), b" \n", b"[]", b"{", b"true"] {
            assert!(parse(printed).is_err(), "{printed:?}");
        }
        for result in [
            json!({"ips": [{"address": "10.1.0.5"}]}),
            json!({"ips": [{"address": "10.1.0.5/16", "interface": 0}]}),
            json!({"ips": [{"address": "10.1.0.5/16", "interface": -1}]}),
            json!({"routes": [{"dst": "elsewhere"}]}),
            json!({"ips": {}}),
        ] {
            assert!(attached(&result).is_err(), "{result}");
        }
    }
}
