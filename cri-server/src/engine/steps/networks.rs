//! A group's places in networks: given when it is made ready, taken away with it, and changed while it runs.
//!
//! ```text
//!  place ──▶ network (looked up by name) ──▶ addresses (reserved) ──▶ owed detach (written down) ──▶ link
//! ```
//!
//! One of the networks leads out, for each family; the ports of the host come by it. When a place comes or goes while the
//! program runs, that is decided anew and the routes and ports are moved.

use std::net::IpAddr;
use std::sync::Arc;

use cleat_network::bridge::{Attachment, Bridge, Leads, host_ifname, host_ifname_on, remove_link};
use cleat_network::{Attached, Netns, Network, NetworkError, PodNetwork};

use super::cleanup::Cleanup;
use super::cni_capabilities;
use super::run_pod::pod_network;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Id, Joined, Place, PlaceIn, PortMapping};
use crate::engine::pod::Pod;
use crate::engine::records::{Owed, RecordsError};
use crate::engine::shared::{Shared, subnets};
use crate::engine::user_networks::{Candidate, Known, Ways, ways};

/// A place with the network it is in.
pub(super) struct Chosen {
    place: Place,
    on: On,
}

/// A network that is there.
enum On {
    Default(Arc<Network>),
    User(Arc<Known>),
}

impl On {
    fn id(&self) -> Option<&Id> {
        match self {
            Self::Default(_) => None,
            Self::User(known) => Some(&known.record.id),
        }
    }

    /// The bridge, where it is no plugin's affair.
    fn bridge(&self) -> Option<&Bridge> {
        match self {
            Self::Default(network) => match &**network {
                Network::Bridge(bridge) => Some(bridge),
                Network::Cni(_) => None,
            },
            Self::User(known) => Some(&known.bridge),
        }
    }

    fn leads_out(&self) -> Leads {
        match (self, self.bridge()) {
            (Self::User(known), _) if known.record.manners.is_internal => Leads::NONE,
            (_, Some(bridge)) => {
                let has = |v4| bridge.config().subnets().iter().any(|subnet| subnet.gateway.is_ipv4() == v4);
                Leads { v4: has(true), v6: has(false) }
            }
            (_, None) => Leads::ALL,
        }
    }

    fn host_ifname(&self, group: &Id) -> String {
        match self.id() {
            None => host_ifname(group.as_str()),
            Some(network) => host_ifname_on(group.as_str(), network.as_str()),
        }
    }
}

/// The networks of these places, as they are now.
pub(super) fn choose(shared: &Shared, places: Vec<Place>) -> Result<Vec<Chosen>> {
    let found = |place: Place| {
        let on = match &place.network {
            PlaceIn::Default => {
                let current = shared.networks.current();
                On::Default(current.map_err(|error| EngineError::step("find", "the network", &error))?)
            }
            PlaceIn::Named(name) => On::User(shared.user_networks.find(name)?),
        };
        Ok(Chosen { place, on })
    };
    places.into_iter().map(found).collect()
}

/// Which of them leads out.
pub(super) fn ways_of(chosen: &[Chosen]) -> Ways {
    let candidates: Vec<_> = chosen
        .iter()
        .map(|Chosen { place, on }| Candidate {
            name: place.network.name(),
            priority: place.priority,
            leads: on.leads_out(),
            is_settled: on.bridge().is_none(),
        })
        .collect();
    ways(&candidates)
}

/// The ports with the host's address that their network has for those which name none; none where no network publishes.
pub(super) fn published(chosen: &[Chosen], ways: Ways, ports: &[PortMapping]) -> Vec<PortMapping> {
    let Some(publisher) = ways.publisher().and_then(|index| chosen.get(index)) else { return Vec::new() };
    let usual = match &publisher.on {
        On::User(known) => known.record.manners.publish_on,
        On::Default(_) => None,
    };
    let with_address = |port: &PortMapping| PortMapping { host_ip: port.host_ip.or(usual), ..port.clone() };
    ports.iter().map(with_address).collect()
}

/// Puts a group that is being made ready on all its networks.
pub(super) fn join_all(shared: &Shared, pod: &Pod, chosen: &[Chosen], ways: Ways) -> Result<Vec<Joined>> {
    let mut joined = Vec::with_capacity(chosen.len());
    for (index, one) in chosen.iter().enumerate() {
        let ports: &[PortMapping] =
            if ways.publisher() == Some(index) { &pod.config.port_mappings } else { &[] };
        joined.push(join(shared, pod, one, &format!("eth{index}"), (ways.of(index), ports))?);
    }
    Ok(joined)
}

/// Puts a group on one network.
fn join(
    shared: &Shared,
    pod: &Pod,
    Chosen { place, on }: &Chosen,
    interface: &str,
    (leads, ports): (Leads, &[PortMapping]),
) -> Result<Joined> {
    let object = || format!("pod {}", pod.id);
    let _attaching = shared.networks.attaching();
    let paths = shared.paths.pod(&pod.id);
    let addresses = reserve(shared, pod, place, on)?;
    let mut told = pod.clone();
    told.config.port_mappings = ports.to_vec();
    let mut request = pod_network(&told, &paths, addresses.clone());
    request.capabilities.mac = place.mac;
    // Written down before: from now on the detach is owed, whatever happens in between.
    let record = |attached: &Attached| {
        let written = shared.records.put_attachment(&pod.id, on.id(), attached);
        written.map_err(|error| EngineError::step("record the network attachment", object(), &error))
    };
    let intent = match on {
        On::Default(network) => network.intent(&request),
        On::User(_) => Attached {
            interface: interface.to_owned(),
            mac: None,
            addresses: addresses.clone(),
            gateways: Vec::new(),
            routes: Vec::new(),
            ports: request.capabilities.port_mappings.clone(),
            cni: None,
        },
    };
    record(&intent)?;
    let attachment = Attachment {
        container_id: pod.id.to_string(),
        host_ifname: on.host_ifname(&pod.id),
        interface: interface.to_owned(),
        leads,
        addresses,
        mac: place.mac,
        ports: request.capabilities.port_mappings.clone(),
    };
    let attached = attach(on, &attachment, &request)
        .map_err(|error| EngineError::step("attach to the network", object(), &error))?;
    record(&attached)?;
    let own = match on {
        On::Default(_) => None,
        On::User(known) => Some(&**known),
    };
    described(place, own, attached)
}

fn attach(
    on: &On,
    attachment: &Attachment,
    request: &PodNetwork,
) -> std::result::Result<Attached, NetworkError> {
    match (on, on.bridge()) {
        (On::Default(network), None) => network.attach(request),
        (_, Some(bridge)) => {
            let pod_id = || request.pod_id.clone();
            let netns = Netns::open(&request.netns)
                .map_err(|source| NetworkError::Netns { pod_id: pod_id(), source })?;
            Ok(bridge.attach(&netns, attachment)?)
        }
        (On::User(_), None) => unreachable!("a network of one's own has a bridge"),
    }
}

fn reserve(shared: &Shared, pod: &Pod, place: &Place, on: &On) -> Result<Vec<ipnet::IpNet>> {
    let reserved = match on {
        On::Default(network) => shared.records.reserve_addresses(&pod.id, &subnets(network)),
        On::User(known) => {
            let record = &known.record;
            if let Some(address) = place.addresses.iter().find(|address| known.subnet_of(**address).is_none())
            {
                let why = format!("network {} has no subnet that contains it", record.name);
                return Err(EngineError::Invalid { what: format!("address {address}"), why });
            }
            shared.records.reserve_of_ranges(&pod.id, &record.id, &record.ranges, &place.addresses)
        }
    };
    reserved.map_err(|error| match error {
        RecordsError::AddressTaken { address } => {
            EngineError::InUse { what: format!("address {address}"), by: "another container".to_owned() }
        }
        error => EngineError::step("reserve addresses", format!("pod {}", pod.id), &error),
    })
}

/// A place that was got, in a network of a user's own or the default one.
fn described(place: &Place, own: Option<&Known>, attached: Attached) -> Result<Joined> {
    let endpoint = Id::random().map_err(|error| EngineError::step("make an id", "an endpoint", &error))?;
    let is_internal = own.is_some_and(|known| known.record.manners.is_internal);
    Ok(Joined {
        network: own.map(|known| known.record.id.clone()),
        name: place.network.name().to_owned(),
        endpoint,
        interface: attached.interface,
        mac: attached.mac,
        addresses: attached.addresses,
        gateways: if is_internal { Vec::new() } else { attached.gateways },
    })
}

/// Takes a group off all networks it owes a detach. The row that says so, and the addresses, go after each.
pub(super) fn leave_all(shared: &Shared, pod: &Pod) -> Result<()> {
    let mut cleanup = Cleanup::of(format!("pod {}", pod.id));
    for owed in owed(shared, &pod.id)? {
        cleanup.step("detach from a network", leave(shared, pod, &owed));
    }
    cleanup.finish()
}

fn owed(shared: &Shared, group: &Id) -> Result<Vec<Owed>> {
    let read = shared.records.attachments(group);
    read.map_err(|error| EngineError::step("read the network attachments", format!("pod {group}"), &error))
}

fn leave(shared: &Shared, pod: &Pod, owed: &Owed) -> Result<()> {
    let object = || format!("pod {}", pod.id);
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("detach from the network", object(), error)
    };
    match &owed.network {
        None => {
            let request = pod_network(pod, &shared.paths.pod(&pod.id), Vec::new());
            let detacher = shared.networks.detacher();
            detacher.detach(&request, Some(&owed.attached)).map_err(|error| failed(&error))?;
        }
        Some(network) => {
            // Without the network there are no rules either.
            if let Some(known) = shared.user_networks.get(network) {
                known
                    .bridge
                    .unpublish(pod.id.as_str(), &owed.attached.ports)
                    .map_err(|error| failed(&error))?;
            }
            let link = host_ifname_on(pod.id.as_str(), network.as_str());
            remove_link(&link).map_err(|error| failed(&error))?;
        }
    }
    shared
        .records
        .release_network(&pod.id, owed.network.as_ref())
        .map_err(|error| EngineError::step("release the addresses", object(), &error))
}

/// Tells the networks of a group that an earlier daemon put on them: their ports of the host are theirs.
pub(crate) fn take_over(shared: &Shared, group: &Id) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("take over the host's ports", format!("pod {group}"), error)
    };
    for Owed { network, attached } in owed(shared, group)? {
        match network {
            None => shared
                .networks
                .detacher()
                .restore(group.as_str(), &attached)
                .map_err(|error| failed(&error))?,
            Some(network) => {
                if let Some(known) = shared.user_networks.get(&network) {
                    known.bridge.restore(group.as_str(), &attached).map_err(|error| failed(&error))?;
                }
            }
        }
    }
    Ok(())
}

/// The places of a group that runs, as an earlier daemon left them: those whose detach is owed.
pub(crate) fn still_joined(shared: &Shared, pod: &Pod) -> Result<Vec<Joined>> {
    let owed = owed(shared, &pod.id)?;
    if pod.joined.is_empty() {
        // A daemon of before there were several networks has put it on the default one.
        let place = Place::plain(PlaceIn::Default);
        let of_default = owed.into_iter().filter(|owed| owed.network.is_none());
        return of_default.map(|owed| described(&place, None, owed.attached)).collect();
    }
    let is_owed = |joined: &&Joined| owed.iter().any(|owed| owed.network == joined.network);
    Ok(pod.joined.iter().filter(is_owed).cloned().collect())
}

/// Puts a group that runs on one more network.
pub(crate) async fn join_running(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    places: Vec<Place>,
) -> Result<Vec<Joined>> {
    let pod = pod.clone();
    shared.blocking(move |shared| join_one_more(shared, &pod, places)).await
}

/// The last one of `places` is new.
fn join_one_more(shared: &Shared, pod: &Pod, places: Vec<Place>) -> Result<Vec<Joined>> {
    let chosen = choose(shared, places)?;
    let mut joined = pod.joined.clone();
    let Some(new) = chosen.last() else { return Ok(joined) };
    if joined.iter().any(|known| known.network.as_ref() == new.on.id()) {
        let network = new.place.network.name();
        return Err(EngineError::InUse {
            what: format!("a place in network {network}"),
            by: "the container itself".to_owned(),
        });
    }
    if new.on.bridge().is_none() && !joined.is_empty() {
        return Err(EngineError::Unsupported {
            what: "the default network as a further one".to_owned(),
            why: "a network plugin makes it, as the first only".to_owned(),
        });
    }
    let got = join(shared, pod, new, &free_interface(&joined), (Leads::NONE, &[])).and_then(|place| {
        let added = place.addresses.clone();
        joined.push(place);
        align(shared, pod, &chosen, &joined)?;
        super::pod_files::add_addresses(shared, pod, &added)?;
        super::names::open_later(shared, pod, &joined)
    });
    if let Err(error) = got {
        undo(shared, pod, &chosen);
        return Err(error);
    }
    Ok(joined)
}

/// Undoes a join of the last one. What is left stays owed; it goes with the group.
fn undo(shared: &Shared, pod: &Pod, chosen: &[Chosen]) {
    let Some((new, before)) = chosen.split_last() else { return };
    let undone = align(shared, pod, before, &pod.joined).and_then(|()| {
        let all = owed(shared, &pod.id)?;
        let mut of_network = all.iter().filter(|owed| owed.network.as_ref() == new.on.id());
        of_network.try_for_each(|owed| leave(shared, pod, owed))
    });
    if let Err(left) = undone {
        tracing::warn!(pod = %pod.id, %left, "a place in a network that could not be taken left something behind");
    }
}

/// Takes a group that runs off a network; `places` are those that it keeps.
pub(crate) async fn leave_running(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    place: Joined,
    places: Vec<Place>,
) -> Result<Vec<Joined>> {
    let pod = pod.clone();
    shared.blocking(move |shared| leave_one(shared, &pod, &place, places)).await
}

fn leave_one(shared: &Shared, pod: &Pod, gone: &Joined, places: Vec<Place>) -> Result<Vec<Joined>> {
    let joined: Vec<_> = pod.joined.iter().filter(|place| place.network != gone.network).cloned().collect();
    // First the others lead out: there is no moment without a way.
    align(shared, pod, &choose(shared, places)?, &joined)?;
    for owed in owed(shared, &pod.id)?.iter().filter(|owed| owed.network == gone.network) {
        leave(shared, pod, owed)?;
    }
    super::pod_files::remove_addresses(shared, pod, &gone.addresses)?;
    Ok(joined)
}

/// The first name that no place has.
fn free_interface(joined: &[Joined]) -> String {
    let is_free = |name: &String| joined.iter().all(|place| place.interface != *name);
    (0..).map(|number| format!("eth{number}")).find(is_free).expect("there are more numbers than places")
}

/// Has the right networks lead out of a group that runs, and the host's ports come by the right one.
fn align(shared: &Shared, pod: &Pod, chosen: &[Chosen], joined: &[Joined]) -> Result<()> {
    let ways = ways_of(chosen);
    let place = |index: Option<usize>| {
        let on = &chosen.get(index?)?.on;
        Some((on, joined.iter().find(|place| place.network.as_ref() == on.id())?))
    };
    lead(shared, pod, [(true, place(ways.v4)), (false, place(ways.v6))])?;
    move_ports(shared, pod, place(ways.publisher()))
}

type Leader<'a> = Option<(&'a On, &'a Joined)>;

fn lead(shared: &Shared, pod: &Pod, leaders: [(bool, Leader<'_>); 2]) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("change the way out", format!("pod {}", pod.id), error)
    };
    let netns = Netns::open(&shared.paths.pod(&pod.id).netns).map_err(|error| failed(&error))?;
    for (is_ipv4, leader) in leaders {
        let gateway = leader.and_then(|(on, place)| {
            let gateway = place.gateways.iter().find(|gateway: &&IpAddr| gateway.is_ipv4() == is_ipv4)?;
            Some((on.bridge()?, place, *gateway))
        });
        let led = match (gateway, leader) {
            (Some((bridge, place, gateway)), _) => bridge.lead_out(&netns, &place.interface, gateway),
            // A plugin has its own routes.
            (None, Some(_)) => Ok(()),
            (None, None) => shared.networks.default_bridge().lead_nowhere(&netns, is_ipv4),
        };
        led.map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Has the host's ports come by the network that leads out, if they come by another.
fn move_ports(shared: &Shared, pod: &Pod, publisher: Leader<'_>) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("move the host's ports", format!("pod {}", pod.id), error)
    };
    let mut config = pod.config.clone();
    config.port_mappings.clone_from(&pod.ports);
    let ports = cni_capabilities::of(&config).port_mappings;
    let all = owed(shared, &pod.id)?;
    for owed in all.iter().filter(|owed| !owed.attached.ports.is_empty()) {
        if publisher.is_some_and(|(on, _)| on.id() == owed.network.as_ref()) {
            return Ok(());
        }
        let user = owed.network.as_ref().and_then(|network| shared.user_networks.get(network));
        let bridge = user.as_ref().map_or(shared.networks.default_bridge(), |known| &known.bridge);
        bridge.unpublish(pod.id.as_str(), &owed.attached.ports).map_err(|error| failed(&error))?;
        let bare = Attached { ports: Vec::new(), ..owed.attached.clone() };
        let written = shared.records.put_attachment(&pod.id, owed.network.as_ref(), &bare);
        written.map_err(|error| failed(&error))?;
    }
    let Some((on, _)) = publisher.filter(|_| !ports.is_empty()) else { return Ok(()) };
    let owed = all.into_iter().find(|owed| owed.network.as_ref() == on.id());
    let (Some(bridge), Some(owed)) = (on.bridge(), owed) else { return Ok(()) };
    let attached = Attached { ports, ..owed.attached };
    let written = shared.records.put_attachment(&pod.id, on.id(), &attached);
    written.map_err(|error| failed(&error))?;
    let published = bridge.publish(pod.id.as_str(), &on.host_ifname(&pod.id), &attached);
    published.map_err(|error| failed(&error))
}
