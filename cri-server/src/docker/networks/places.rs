//! Containers' places in networks: what a creation asks for, `docker network connect` and `disconnect`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cleat_network::MacAddress;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{Network, find};
use crate::docker::Door;
use crate::docker::containers::{EndpointRequest, network_mode_of, or_default};
use crate::docker::dispatch::Ask;
use crate::docker::refusal::{Answer, Refusal};
use crate::docker::wire::{empty, read_json};
use crate::engine::model::{Mode, Place, PlaceIn};
use crate::engine::{EngineError, One};

/// A container that is to be connected.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Connect {
    #[serde(deserialize_with = "or_default")]
    container: String,
    #[serde(deserialize_with = "or_default")]
    endpoint_config: EndpointRequest,
}

/// A container that is to be disconnected.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Disconnect {
    #[serde(deserialize_with = "or_default")]
    container: String,
    #[serde(deserialize_with = "or_default")]
    force: bool,
}

/// `POST /networks/{name}/connect`.
pub(in crate::docker) async fn connect(door: &Door, name: &str, ask: Ask) -> Answer {
    let request: Connect = read_json(ask.body).await?;
    let one = door.engine.one(&request.container)?;
    let network = checked(door, name, &one)?;
    check_sharing(&one)?;
    let place = place(network, &request.endpoint_config)?;
    check_addresses(door, &place)?;
    let network = place.network.name().to_owned();
    door.engine.connect_one(&one, place).await.map_err(|error| match error {
        EngineError::InUse { what, .. } if what.starts_with("a place") => {
            let name = one.name();
            Refusal::forbidden(format!("endpoint with name {name} already exists in network {network}"))
        }
        EngineError::InUse { what, .. } if what.starts_with("address") => {
            Refusal::forbidden("Address already in use")
        }
        other => other.into(),
    })?;
    Ok(empty(StatusCode::OK))
}

/// `POST /networks/{name}/disconnect`. With force a network that is gone may be named, and a container that is.
pub(in crate::docker) async fn disconnect(door: &Door, name: &str, ask: Ask) -> Answer {
    let request: Disconnect = read_json(ask.body).await?;
    let one = door.engine.one(&request.container)?;
    let network = match checked(door, name, &one) {
        Err(missing) if request.force && missing.status() == StatusCode::NOT_FOUND => {
            PlaceIn::Named(name.to_owned())
        }
        found => found?,
    };
    check_sharing(&one)?;
    let told = network.name().to_owned();
    door.engine.disconnect_one(&one, network).await.map_err(|error| match error {
        EngineError::NotFound { kind: "place in network", .. } => {
            let id = &one.container.id;
            Refusal::forbidden(format!("container {id} is not connected to network {told}"))
        }
        other => other.into(),
    })?;
    Ok(empty(StatusCode::OK))
}

/// The network that a container is to come to or to leave.
fn checked(door: &Door, name: &str, one: &One) -> Result<PlaceIn, Refusal> {
    match find(door, name)? {
        Network::Own(known) => Ok(PlaceIn::Named(known.record.name.clone())),
        Network::Builtin(network) if network.name == "bridge" => Ok(PlaceIn::Default),
        Network::Builtin(network) if network.name == "host" => Err(Refusal::bad(
            "container cannot be disconnected from host network or connected to host network",
        )),
        Network::Builtin(_) => {
            let name = one.name();
            Err(Refusal::bad(format!(
                "container {name} cannot be connected to multiple networks with one of the networks in private (none) mode"
            )))
        }
    }
}

/// What has no network of its own cannot be on any.
fn check_sharing(one: &One) -> Result<(), Refusal> {
    let config = &one.group.config;
    if config.network_of.is_some() {
        return Err(Refusal::bad(
            "container sharing network namespace with another container or host cannot be connected to any other network",
        ));
    }
    if config.namespaces.network == Mode::Node {
        return Err(Refusal::bad(
            "container cannot be disconnected from host network or connected to host network",
        ));
    }
    if network_mode_of(one) == "none" {
        return Err(Refusal::bad(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode",
        ));
    }
    Ok(())
}

/// The places that a creation asks for, the main one first: by its mode, by `endpoints` with networks' names or ids, and
/// by the hardware address of the main one. None for the default network without further wishes, and without networks.
pub(in crate::docker) fn wanted(
    door: &Door,
    mode: &str,
    endpoints: &BTreeMap<String, Option<EndpointRequest>>,
    main_mac: &str,
) -> Result<Vec<Place>, Refusal> {
    let none = EndpointRequest::default();
    let mut places = Vec::new();
    for (name, endpoint) in endpoints {
        let network = if has_networks(mode) { network(door, name)? } else { PlaceIn::Default };
        let place = place(network, endpoint.as_ref().unwrap_or(&none))?;
        check_addresses(door, &place)?;
        places.push(place);
    }
    if !has_networks(mode) {
        return Ok(Vec::new());
    }
    let main = network(door, mode)?;
    // A mode that names a network is one more; the default one is only where no other is named.
    if places.is_empty() || (main != PlaceIn::Default && places.iter().all(|place| place.network != main)) {
        places.push(Place::plain(main.clone()));
    }
    places.sort_by(|a, b| (a.network != main, &a.network).cmp(&(b.network != main, &b.network)));
    places.dedup_by(|a, b| a.network == b.network);
    if let Some(first) = places.first_mut().filter(|_| !main_mac.is_empty()) {
        first.mac = Some(mac(main_mac)?);
    }
    if places == [Place::plain(PlaceIn::Default)] {
        places.clear();
    }
    Ok(places)
}

fn has_networks(mode: &str) -> bool {
    !matches!(mode, "host" | "none") && !mode.starts_with("container:")
}

/// The network that a creation names. One that is not there may be by the time of the start.
fn network(door: &Door, name: &str) -> Result<PlaceIn, Refusal> {
    if matches!(name, "" | "default") {
        return Ok(PlaceIn::Default);
    }
    match find(door, name) {
        Ok(Network::Own(known)) => Ok(PlaceIn::Named(known.record.name.clone())),
        Ok(Network::Builtin(network)) if network.name == "bridge" => Ok(PlaceIn::Default),
        Ok(Network::Builtin(network)) => Err(Refusal::bad(format!(
            "conflicting options: cannot attach both user-defined and non-user-defined network-modes ({})",
            network.name
        ))),
        Err(refusal) if refusal.status() == StatusCode::NOT_FOUND => Ok(PlaceIn::Named(name.to_owned())),
        Err(refusal) => Err(refusal),
    }
}

/// A place as its client wants it.
pub(in crate::docker) fn place(network: PlaceIn, request: &EndpointRequest) -> Result<Place, Refusal> {
    let EndpointRequest { ipam_config, aliases, links, mac_address, driver_opts, gw_priority } = request;
    let text = |key: &str| ipam_config.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut addresses = Vec::new();
    for (key, is_ipv4, what) in [("IPv4Address", true, "IPv4"), ("IPv6Address", false, "IPv6")] {
        if let Some(text) = text(key) {
            let parsed: Option<IpAddr> =
                text.parse().ok().filter(|address: &IpAddr| address.is_ipv4() == is_ipv4);
            addresses.push(parsed.ok_or_else(|| Refusal::bad(format!("invalid {what} address: {text}")))?);
        }
    }
    let link_locals = ipam_config.get("LinkLocalIPs").and_then(Value::as_array);
    let is_default = network == PlaceIn::Default;
    if is_default && (!addresses.is_empty() || link_locals.is_some_and(|list| !list.is_empty())) {
        return Err(Refusal::bad("user specified IP address is supported on user defined networks only"));
    }
    if is_default && !aliases.is_empty() {
        return Err(Refusal::bad(
            "network-scoped alias is supported only for containers in user defined networks",
        ));
    }
    let missing = [
        (!links.is_empty(), "links"),
        (link_locals.is_some_and(|list| !list.is_empty()), "link-local addresses of its own"),
        (!driver_opts.is_empty(), "options of a network's driver"),
    ];
    if let Some((_, what)) = missing.iter().find(|(wanted, _)| *wanted) {
        return Err(Refusal::not_built(format!("a container with {what}")));
    }
    let mac = match mac_address.as_str() {
        "" => None,
        text => Some(mac(text)?),
    };
    Ok(Place { network, aliases: aliases.clone(), addresses, mac, priority: *gw_priority })
}

fn mac(text: &str) -> Result<MacAddress, Refusal> {
    text.parse().map_err(|_| Refusal::bad(format!("invalid MAC address: {text}")))
}

/// An address has to be one of its network, where there is the network.
fn check_addresses(door: &Door, place: &Place) -> Result<(), Refusal> {
    let PlaceIn::Named(name) = &place.network else { return Ok(()) };
    let Ok(known) = door.engine.user_network(name) else { return Ok(()) };
    match place.addresses.iter().find(|address| known.subnet_of(**address).is_none()) {
        Some(address) => Err(Refusal::bad(format!(
            "invalid endpoint settings: no configured subnet contains IP address {address}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(network: PlaceIn, text: &str) -> Result<Place, u16> {
        place(network, &serde_json::from_str(text).unwrap()).map_err(|refusal| refusal.status().as_u16())
    }

    #[test]
    fn a_place_is_what_its_client_wants() {
        let own = || PlaceIn::Named("n1".into());
        let whole = of(
            own(),
            r#"{"IPAMConfig":{"IPv4Address":"10.8.0.7","IPv6Address":"fd00::7","LinkLocalIPs":null},"Aliases":["a"],
            "MacAddress":"02:00:00:00:00:07","GwPriority":5,"Links":null,"DriverOpts":null,"NetworkID":""}"#,
        );
        let whole = whole.unwrap();
        assert_eq!(whole.addresses.len(), 2);
        assert_eq!((whole.aliases.len(), whole.priority), (1, 5));
        assert_eq!(whole.mac.unwrap().to_string(), "02:00:00:00:00:07");
        for (network, text, status) in [
            (own(), r#"{"IPAMConfig":{"IPv4Address":"x"}}"#, 400),
            (own(), r#"{"IPAMConfig":{"IPv4Address":"fd00::7"}}"#, 400),
            (own(), r#"{"MacAddress":"x"}"#, 400),
            (own(), r#"{"Links":["a:b"]}"#, 501),
            (own(), r#"{"DriverOpts":{"a":"b"}}"#, 501),
            (own(), r#"{"IPAMConfig":{"LinkLocalIPs":["169.254.1.1"]}}"#, 501),
            (PlaceIn::Default, r#"{"IPAMConfig":{"IPv4Address":"10.8.0.7"}}"#, 400),
            (PlaceIn::Default, r#"{"Aliases":["a"]}"#, 400),
        ] {
            assert_eq!(of(network, text), Err(status), "{text}");
        }
        assert_eq!(of(PlaceIn::Default, "{}"), Ok(Place::plain(PlaceIn::Default)));
    }
}
