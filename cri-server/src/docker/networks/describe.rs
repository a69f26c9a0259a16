//! Networks as Docker's clients read them. Pure.

use cleat_network::bridge::Subnet;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::builtin::Builtin;
use crate::docker::Facts;
use crate::docker::wire::rfc3339;
use crate::engine::One;
use crate::engine::model::{AddressRange, Joined, UserNetwork};

/// A network that is always there, with who is on it.
pub(super) fn builtin(network: Builtin, facts: &Facts, members: &[(One, Joined)]) -> Value {
    let is_bridge = network.driver == "bridge";
    let subnets: &[IpNet] = if is_bridge { &facts.subnets } else { &[] };
    let config: Vec<Value> = subnets.iter().map(subnet).collect();
    let options = if is_bridge {
        json!({
            "com.docker.network.bridge.default_bridge": "true",
            "com.docker.network.bridge.enable_icc": "true",
            "com.docker.network.bridge.name": facts.bridge,
        })
    } else {
        json!({})
    };
    json!({
        "Name": network.name, "Id": network.id(), "Created": "0001-01-01T00:00:00Z", "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": true, "EnableIPv6": subnets.iter().any(|subnet| matches!(subnet, IpNet::V6(_))),
        "IPAM": {"Driver": "default", "Options": null, "Config": config},
        "Internal": false, "Attachable": false, "Ingress": false, "ConfigFrom": {"Network": ""},
        "ConfigOnly": false, "Containers": containers(members), "Options": options, "Labels": {},
    })
}

/// A network of a user's own, with who is on it.
pub(super) fn own(network: &UserNetwork, members: &[(One, Joined)]) -> Value {
    let has = |v4: bool| network.ranges.iter().any(|range| range.subnet.addr().is_ipv4() == v4);
    let config: Vec<Value> = network.ranges.iter().map(range).collect();
    json!({
        "Name": network.name, "Id": network.id.as_str(), "Created": rfc3339(network.created_at_ns),
        "Scope": "local", "Driver": super::DRIVER, "EnableIPv4": has(true), "EnableIPv6": has(false),
        "IPAM": {"Driver": "default", "Options": {}, "Config": config},
        "Internal": network.manners.is_internal, "Attachable": network.is_attachable, "Ingress": false,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": false, "Containers": containers(members),
        "Options": network.options, "Labels": network.labels,
    })
}

fn containers(members: &[(One, Joined)]) -> Value {
    let told = members.iter().map(|(one, place)| {
        let address = |v4: bool| {
            let found = place.addresses.iter().find(|address| address.addr().is_ipv4() == v4);
            found.map(ToString::to_string).unwrap_or_default()
        };
        let mac = place.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let told = json!({
            "Name": one.name(), "EndpointID": place.endpoint.as_str(), "MacAddress": mac,
            "IPv4Address": address(true), "IPv6Address": address(false),
        });
        (one.container.id.to_string(), told)
    });
    Value::Object(told.collect::<Map<_, _>>())
}

fn subnet(subnet: &IpNet) -> Value {
    let gateway = Subnet::new(*subnet).ok().map(|subnet| subnet.gateway.to_string());
    json!({"Subnet": subnet.to_string(), "Gateway": gateway})
}

fn range(range: &AddressRange) -> Value {
    let mut told = json!({"Subnet": range.subnet.to_string(), "Gateway": range.gateway.to_string()});
    if let Some(within) = range.within {
        told["IPRange"] = json!(within.to_string());
    }
    if !range.reserved.is_empty() {
        told["AuxiliaryAddresses"] = json!(range.reserved);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::BUILTIN;
    use super::*;
    use crate::engine::model::{Id, Manners};

    #[test]
    fn the_bridge_tells_its_ranges_and_the_others_have_none() {
        let subnets = vec!["10.213.0.0/16".parse().unwrap(), "fdc4::/64".parse().unwrap()];
        let facts = Facts { bridge: "cleat0".into(), subnets, root: "/r".into(), debug: false };
        let bridge = builtin(BUILTIN[0], &facts, &[]);
        assert_eq!(bridge["IPAM"]["Config"][0], json!({"Subnet": "10.213.0.0/16", "Gateway": "10.213.0.1"}));
        assert_eq!(bridge["IPAM"]["Config"][1]["Gateway"], "fdc4::1");
        assert_eq!(bridge["EnableIPv6"], true);
        assert_eq!(builtin(BUILTIN[1], &facts, &[])["IPAM"]["Config"], json!([]));
    }

    #[test]
    fn a_network_of_ones_own_tells_what_it_was_made_of() {
        let network = UserNetwork {
            id: Id::random().unwrap(),
            name: "n1".into(),
            bridge: "br-n1".into(),
            ranges: vec![AddressRange {
                subnet: "10.8.0.0/24".parse().unwrap(),
                gateway: "10.8.0.1".parse().unwrap(),
                within: Some("10.8.0.128/25".parse().unwrap()),
                reserved: [("printer".to_owned(), "10.8.0.9".parse().unwrap())].into(),
            }],
            manners: Manners { is_internal: true, ..Manners::default() },
            is_attachable: false,
            labels: [("a".to_owned(), "1".to_owned())].into(),
            options: Default::default(),
            created_at_ns: 5_000_000_000,
        };
        let told = own(&network, &[]);
        let config = json!([{
            "Subnet": "10.8.0.0/24", "Gateway": "10.8.0.1", "IPRange": "10.8.0.128/25",
            "AuxiliaryAddresses": {"printer": "10.8.0.9"},
        }]);
        assert_eq!(told["IPAM"]["Config"], config);
        assert_eq!((&told["Internal"], &told["EnableIPv6"]), (&json!(true), &json!(false)));
        assert_eq!(
            (&told["Labels"]["a"], &told["Created"]),
            (&json!("1"), &json!("1970-01-01T00:00:05.000000000Z"))
        );
    }
}
