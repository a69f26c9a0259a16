//! `docker network create`: from Docker's request to what the engine is asked for.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::StatusCode;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::options;
use crate::docker::Door;
use crate::docker::containers::or_default;
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{json as in_json, read_json};
use crate::engine::EngineError;
use crate::engine::model::{Manners, NetworkWish, RangeWish};

/// The longest name.
const MAX_NAME_BYTES: usize = 255;

/// Names that mean something else.
const RESERVED: [&str; 4] = ["bridge", "default", "host", "none"];

/// A network that is to be made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Create {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    driver: String,
    #[serde(deserialize_with = "or_default")]
    scope: String,
    #[serde(deserialize_with = "or_default")]
    internal: bool,
    #[serde(deserialize_with = "or_default")]
    attachable: bool,
    #[serde(deserialize_with = "or_default")]
    ingress: bool,
    #[serde(deserialize_with = "or_default")]
    config_only: bool,
    #[serde(deserialize_with = "or_default")]
    config_from: BTreeMap<String, Value>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM", deserialize_with = "or_default")]
    ipam: Ipam,
    #[serde(deserialize_with = "or_default")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
}

/// Who hands addresses out, and which.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Ipam {
    #[serde(deserialize_with = "or_default")]
    driver: String,
    #[serde(deserialize_with = "or_default")]
    options: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    config: Vec<Range>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Range {
    #[serde(deserialize_with = "or_default")]
    subnet: String,
    #[serde(rename = "IPRange", deserialize_with = "or_default")]
    ip_range: String,
    #[serde(deserialize_with = "or_default")]
    gateway: String,
    #[serde(alias = "AuxAddress", deserialize_with = "or_default")]
    auxiliary_addresses: BTreeMap<String, String>,
}

/// `POST /networks/create`.
pub(in crate::docker) async fn create(door: &Door, ask: Ask) -> Answer {
    let request: Create = read_json(ask.body).await?;
    check(&request)?;
    let made = door.engine.create_network(wish(request)?).await.map_err(told)?;
    super::note(door, "create", &made);
    Ok(in_json(StatusCode::CREATED, &json!({"Id": made.record.id.as_str(), "Warning": ""})))
}

/// What clients look for is told in dockerd's words.
fn told(error: EngineError) -> Refusal {
    match error {
        EngineError::Exists { name, .. } => {
            Refusal::conflict(format!("network with name {name} already exists"))
        }
        EngineError::InUse { what, by } if what.contains("subnet") => Refusal::forbidden(format!(
            "invalid pool request: Pool overlaps with other one on this address space: {what} is in use by {by}"
        )),
        other => other.into(),
    }
}

fn check(request: &Create) -> Result<(), Refusal> {
    let name = &request.name;
    if RESERVED.contains(&name.as_str()) {
        return Err(Refusal::forbidden(format!("operation is not permitted on predefined {name} network ")));
    }
    // A colon or a slash would make it another kind of network's name, or another path.
    let is_bad = |letter: char| letter.is_control() || matches!(letter, '/' | ':');
    if name.trim().is_empty() || name.len() > MAX_NAME_BYTES || name.contains(is_bad) {
        return Err(Refusal::bad(format!("invalid network name: {name:?}")));
    }
    match request.driver.as_str() {
        "" | "bridge" | "default" => {}
        one @ ("host" | "null") => {
            return Err(Refusal::forbidden(format!("only one instance of {one:?} network is allowed")));
        }
        "overlay" => return Err(Refusal::no_swarm()),
        known @ ("macvlan" | "ipvlan") => {
            return Err(Refusal::not_built(format!("a network of the driver {known:?}")));
        }
        other => return Err(Refusal::missing(format!("plugin {other:?} not found"))),
    }
    if !matches!(request.scope.as_str(), "" | "local") || request.ingress {
        return Err(Refusal::no_swarm());
    }
    let missing = [
        (request.config_only || request.config_from.values().any(is_set), "a configuration of networks"),
        (
            !matches!(request.ipam.driver.as_str(), "" | "default"),
            "a network with another driver of addresses",
        ),
        (!request.ipam.options.is_empty(), "a network with options of its driver of addresses"),
    ];
    match missing.iter().find(|(wanted, _)| *wanted) {
        Some((_, what)) => Err(Refusal::not_built(what)),
        None => Ok(()),
    }
}

fn is_set(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

fn wish(request: Create) -> Result<NetworkWish, Refusal> {
    let options::Chosen { bridge, manners } = options::read(&request.options)?;
    let wants_ipv6 = request.enable_ipv6.unwrap_or_default();
    let configs = request.ipam.config.iter().filter(|config| !is_empty(config));
    let ranges: Vec<RangeWish> = configs.map(range).collect::<Result<_, _>>()?;
    if let Some(range) = ranges.iter().find(|range| range.subnet.addr().is_ipv6() && !wants_ipv6) {
        let subnet = range.subnet;
        return Err(Refusal::bad(format!(
            "invalid network config: subnet {subnet} needs IPv6 to be enabled"
        )));
    }
    Ok(NetworkWish {
        name: request.name,
        bridge,
        ranges,
        wants_ipv4: request.enable_ipv4.unwrap_or(true),
        wants_ipv6,
        manners: Manners { is_internal: request.internal, ..manners },
        is_attachable: request.attachable,
        labels: request.labels,
        options: request.options,
    })
}

fn is_empty(range: &Range) -> bool {
    range.subnet.is_empty()
        && range.ip_range.is_empty()
        && range.gateway.is_empty()
        && range.auxiliary_addresses.is_empty()
}

fn range(range: &Range) -> Result<RangeWish, Refusal> {
    let net = |text: &str, what: &str| {
        text.parse::<IpNet>()
            .map_err(|_| Refusal::bad(format!("invalid {what} {text}: invalid CIDR address")))
    };
    let address = |text: &str, what: &str| {
        text.parse::<IpAddr>().map_err(|_| Refusal::bad(format!("invalid {what} {text}: invalid address")))
    };
    let reserved = range.auxiliary_addresses.iter();
    let reserved = reserved.map(|(name, text)| Ok((name.clone(), address(text, "auxiliary address")?)));
    Ok(RangeWish {
        subnet: net(&range.subnet, "subnet")?,
        gateway: match range.gateway.as_str() {
            "" => None,
            text => Some(address(text, "gateway address")?),
        },
        within: match range.ip_range.as_str() {
            "" => None,
            text => Some(net(text, "IP range")?),
        },
        reserved: reserved.collect::<Result<_, Refusal>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> Result<NetworkWish, u16> {
        let request: Create = serde_json::from_str(text).unwrap();
        let status = |refusal: Refusal| refusal.status().as_u16();
        check(&request).map_err(status)?;
        wish(request).map_err(status)
    }

    #[test]
    fn a_request_becomes_a_wish() {
        let plain = judged(
            r#"{"Name":"n1","CheckDuplicate":true,"Driver":"bridge","Scope":"","EnableIPv6":false,"IPAM":{"Driver":"default",
            "Options":{},"Config":[]},"Internal":false,"Attachable":false,"Ingress":false,"ConfigOnly":false,
            "ConfigFrom":{"Network":""},"Options":{},"Labels":null}"#,
        );
        let plain = plain.unwrap();
        assert!(plain.ranges.is_empty() && plain.wants_ipv4 && !plain.wants_ipv6);
        let whole = judged(
            r#"{"Name":"n1","EnableIPv6":true,"Internal":true,"IPAM":{"Config":[{},{"Subnet":"10.8.0.0/24","Gateway":"10.8.0.9",
            "IPRange":"10.8.0.128/25","AuxiliaryAddresses":{"a":"10.8.0.8"}},{"Subnet":"fd00::/64"}]}}"#,
        );
        let whole = whole.unwrap();
        assert_eq!((whole.ranges.len(), whole.manners.is_internal), (2, true));
        assert_eq!(whole.ranges[0].within, Some("10.8.0.128/25".parse().unwrap()));
        assert_eq!(whole.ranges[0].reserved["a"].to_string(), "10.8.0.8");
    }

    #[test]
    fn what_cannot_be_is_refused_with_dockerds_status() {
        for (text, status) in [
            (r#"{}"#, 400),
            (r#"{"Name":" "}"#, 400),
            (r#"{"Name":"a/b"}"#, 400),
            (r#"{"Name":"container:x"}"#, 400),
            (r#"{"Name":"bridge"}"#, 403),
            (r#"{"Name":"none"}"#, 403),
            (r#"{"Name":"n","Driver":"host"}"#, 403),
            (r#"{"Name":"n","Driver":"overlay"}"#, 503),
            (r#"{"Name":"n","Scope":"swarm"}"#, 503),
            (r#"{"Name":"n","Driver":"macvlan"}"#, 501),
            (r#"{"Name":"n","Driver":"nosuch"}"#, 404),
            (r#"{"Name":"n","ConfigOnly":true}"#, 501),
            (r#"{"Name":"n","ConfigFrom":{"Network":"other"}}"#, 501),
            (r#"{"Name":"n","IPAM":{"Driver":"nosuch"}}"#, 501),
            (r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"x"}]}}"#, 400),
            (r#"{"Name":"n","IPAM":{"Config":[{"Gateway":"10.8.0.1"}]}}"#, 400),
            (r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"10.8.0.0/24","Gateway":"x"}]}}"#, 400),
            (r#"{"Name":"n","IPAM":{"Config":[{"Subnet":"fd00::/64"}]}}"#, 400),
        ] {
            assert_eq!(judged(text).map(|_| ()), Err(status), "{text}");
        }
    }
}
