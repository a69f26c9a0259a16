//! Networks: the three that every engine has. Those of one's own are not built.

use cleat_image::Digest;
use cleat_network::bridge::Subnet;
use hyper::StatusCode;
use ipnet::IpNet;
use serde_json::{Value, json};

use super::dispatch::Ask;
use super::refusal::{Answer, Refusal};
use super::wire::{Filters, json as in_json};
use super::{Door, Facts};

/// What lists of networks are filtered by.
const KNOWN: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// A network that is always there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Builtin {
    name: &'static str,
    driver: &'static str,
}

const BUILTIN: [Builtin; 3] = [
    Builtin { name: "bridge", driver: "bridge" },
    Builtin { name: "host", driver: "host" },
    Builtin { name: "none", driver: "null" },
];

impl Builtin {
    /// Its id: nothing but its name goes into it, so that it stays through restarts.
    fn id(self) -> String {
        let digest = Digest::of(format!("network {}", self.name).as_bytes()).to_string();
        digest.strip_prefix("sha256:").unwrap_or(&digest).to_owned()
    }

    fn fits(self, filters: &Filters) -> bool {
        let any = |key: &str, fits: &dyn Fn(&str) -> bool| {
            filters.get(key).is_none_or(|values| values.iter().any(|value| fits(value)))
        };
        any("driver", &|value| value == self.driver)
            && any("name", &|value| self.name.contains(value))
            && any("id", &|value| self.id().starts_with(value))
            && any("scope", &|value| value == "local")
            && any("type", &|value| value == "builtin")
            && filters.fits_labels(|_| None)
    }
}

/// `GET /networks`.
pub(super) fn list(door: &Door, ask: &Ask) -> Answer {
    let filters = Filters::parse(ask.query.get("filters"), KNOWN)?;
    // A network is dangling when nothing uses it and it can be removed.
    let all_wanted = filters.flag("dangling")? != Some(true);
    let fitting = BUILTIN.iter().filter(|network| all_wanted && network.fits(&filters));
    let networks: Vec<Value> = fitting.map(|network| describe(*network, &door.facts)).collect();
    Ok(in_json(StatusCode::OK, &networks))
}

/// The network that `name` means: its name, its id, or the start of its id.
fn find(name: &str) -> Result<Builtin, Refusal> {
    let by_name = BUILTIN.iter().find(|network| network.name == name);
    let found = by_name.or_else(|| BUILTIN.iter().find(|network| network.id().starts_with(name)));
    found.copied().ok_or_else(|| Refusal::missing(format!("network {name} not found")))
}

/// `GET /networks/{name}`.
pub(super) fn inspect(door: &Door, name: &str) -> Answer {
    Ok(in_json(StatusCode::OK, &describe(find(name)?, &door.facts)))
}

/// `DELETE /networks/{name}`: there is none that may go.
pub(super) fn remove(name: &str) -> Answer {
    let name = find(name)?.name;
    Err(Refusal::forbidden(format!("{name} is a pre-defined network and cannot be removed")))
}

fn describe(network: Builtin, facts: &Facts) -> Value {
    let is_bridge = network.driver == "bridge";
    let subnets: &[IpNet] = if is_bridge { &facts.subnets } else { &[] };
    let config: Vec<Value> = subnets.iter().map(range).collect();
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
        "ConfigOnly": false, "Containers": {}, "Options": options, "Labels": {},
    })
}

fn range(subnet: &IpNet) -> Value {
    let gateway = Subnet::new(*subnet).ok().map(|subnet| subnet.gateway.to_string());
    json!({"Subnet": subnet.to_string(), "Gateway": gateway})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let subnets = vec!["10.213.0.0/16".parse().unwrap(), "fdc4::/64".parse().unwrap()];
        Facts { bridge: "cleat0".into(), subnets, root: "/r".into(), debug: false }
    }

    #[test]
    fn the_bridge_tells_its_ranges_and_the_others_have_none() {
        let bridge = describe(BUILTIN[0], &facts());
        assert_eq!(bridge["IPAM"]["Config"][0], json!({"Subnet": "10.213.0.0/16", "Gateway": "10.213.0.1"}));
        assert_eq!(bridge["IPAM"]["Config"][1]["Gateway"], "fdc4::1");
        assert_eq!(bridge["EnableIPv6"], true);
        assert_eq!(bridge["Id"].as_str().unwrap().len(), 64);
        assert_eq!(describe(BUILTIN[1], &facts())["IPAM"]["Config"], json!([]));
    }

    #[test]
    fn filters_choose() {
        for (filters, names) in [
            ("", vec!["bridge", "host", "none"]),
            (r#"{"driver":["bridge"]}"#, vec!["bridge"]),
            (r#"{"name":["o"]}"#, vec!["host", "none"]),
            (r#"{"label":["a"]}"#, vec![]),
            (r#"{"type":["custom"]}"#, vec![]),
        ] {
            let filters = Filters::parse(filters, KNOWN).unwrap();
            let found: Vec<_> = BUILTIN.iter().filter(|one| one.fits(&filters)).map(|one| one.name).collect();
            assert_eq!(found, names, "{filters:?}");
        }
    }
}
