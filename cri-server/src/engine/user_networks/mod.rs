//! Networks of their users' own: bridges with names, on which containers without a pod are kept apart from all others.
//!
//! ```text
//!  create ──▶ settle (pure: ranges, names) ──▶ row ──▶ bridge and rules in the kernel
//!  start  ──▶ ways (pure: which network leads out) ──▶ steps/networks.rs: address, owed detach, link
//!  remove ──▶ nobody is on it ──▶ bridge and rules away ──▶ row away
//! ```
//!
//! The row is the network. What the kernel has of it is made anew by the next attachment wherever it is missing, after a
//! reboot for example; a daemon that dies between a row and its bridge leaves nothing wrong.

mod settle;
mod ways;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use cleat_network::bridge::{Bridge, BridgeConfig, ConfigError, Subnet, Walls};
use cleat_network::ipam;
use cleat_network::netlink::host_routes;
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};
use tokio_stream::StreamExt as _;

use super::Engine;
use super::container::ContainerState;
use super::error::{EngineError, Result};
use super::model::{Id, Joined, NetworkWish, Place, PlaceIn, UserNetwork};
use super::one::One;
use super::pod::Pod;
use super::shared::Shared;
use super::view::View;
use settle::{Around, settle};
pub(super) use ways::{Candidate, Ways, ways};

/// How long a container that has ended may take to give its place back before its network counts as in use.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// A network and what makes it in the kernel.
pub(crate) struct Known {
    /// What it is.
    pub(crate) record: UserNetwork,
    /// Its bridge.
    pub(super) bridge: Bridge,
}

/// All of them.
#[derive(Default)]
pub(crate) struct UserNetworks {
    known: RwLock<BTreeMap<Id, Arc<Known>>>,
    /// Held by whoever makes or removes one, from the look at the others to the row.
    changing: Mutex<()>,
}

impl UserNetworks {
    /// The one with this id.
    pub(super) fn get(&self, id: &Id) -> Option<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// All, by id.
    pub(super) fn all(&self) -> Vec<Arc<Known>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The one with this name, id, or unique start of an id.
    pub(super) fn find(&self, name: &str) -> Result<Arc<Known>> {
        let all = self.all();
        let exact = |known: &&Arc<Known>| known.record.name == name || known.record.id.as_str() == name;
        if let Some(found) = all.iter().find(exact) {
            return Ok(found.clone());
        }
        let mut fitting = all.iter().filter(|known| known.record.id.as_str().starts_with(name));
        match (fitting.next(), fitting.next()) {
            (Some(found), None) if !name.is_empty() => Ok(found.clone()),
            (Some(_), Some(_)) if !name.is_empty() => {
                Err(EngineError::Ambiguous { kind: "network", prefix: name.to_owned() })
            }
            _ => Err(missing(name)),
        }
    }

    fn insert(&self, known: Known) -> Arc<Known> {
        let known = Arc::new(known);
        let mut all = self.known.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(known.record.id.clone(), known.clone());
        known
    }

    fn forget(&self, id: &Id) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a container is told that a network is not there.
pub(super) fn missing(name: &str) -> EngineError {
    EngineError::NotFound { kind: "network", name: name.to_owned(), list: "pods" }
}

/// The names by which others on a network find a container: its own, its aliases there, the start of its id, its hostname.
/// The default network has none.
pub(crate) fn names(group: &Pod, place: &Place) -> Vec<String> {
    let (super::model::Kind::One { container, .. }, PlaceIn::Named(_)) = (&group.config.kind, &place.network)
    else {
        return Vec::new();
    };
    let own = std::iter::once(group.config.name.name.as_str());
    let aliases = place.aliases.iter().map(String::as_str);
    let all = own.chain(aliases).chain([container.short(), group.config.hostname.as_str()]);
    let mut names: Vec<String> = Vec::new();
    for name in all.filter(|name| !name.is_empty()) {
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// The groups on a network, none for the default one, with their places.
pub(crate) fn members<'a>(
    view: &'a View,
    network: Option<&'a Id>,
) -> impl Iterator<Item = (&'a Arc<Pod>, &'a Joined)> {
    view.pods.values().filter(|group| group.config.kind.is_one()).flat_map(move |group| {
        let here = group.joined.iter().filter(move |joined| joined.network.as_ref() == network);
        here.map(move |joined| (group, joined))
    })
}

/// Whether everybody on a network has ended.
fn all_leave(view: &View, network: &Id) -> bool {
    let has_ended = |id: &Id| {
        let container = view.containers.get(id);
        container.is_none_or(|container| matches!(container.state, ContainerState::Exited(_)))
    };
    members(view, Some(network)).all(|(group, _)| match &group.config.kind {
        super::model::Kind::One { container, .. } => has_ended(container),
        super::model::Kind::Pod => false,
    })
}

impl Engine {
    /// Makes a network.
    pub(crate) async fn create_network(&self, wish: NetworkWish) -> Result<Arc<Known>> {
        self.shared.blocking(move |shared| create(shared, wish)).await
    }

    /// All networks of their users' own.
    pub(crate) fn user_networks(&self) -> Vec<Arc<Known>> {
        self.shared.user_networks.all()
    }

    /// The one with this name, id, or unique start of an id.
    pub(crate) fn user_network(&self, name: &str) -> Result<Arc<Known>> {
        self.shared.user_networks.find(name)
    }

    /// Removes a network that nobody is on. Containers that have ended are waited for until they have given their places
    /// back, which they do behind the answer to who stopped them.
    pub(crate) async fn remove_network(&self, network: Arc<Known>) -> Result<()> {
        // From before the first attempt on: nobody who leaves is missed.
        let mut events = self.subscribe();
        let limit = Instant::now() + LEAVE_LIMIT;
        loop {
            let known = network.clone();
            let removed = self.shared.blocking(move |shared| remove(shared, &known)).await;
            let is_refused = matches!(removed, Err(EngineError::InUse { .. }));
            if !is_refused || !all_leave(&self.view(), &network.record.id) {
                return removed;
            }
            if timeout_at(limit, events.next()).await.is_err() {
                return removed;
            }
        }
    }

    /// The running containers on a network, none for the default one, with their places.
    pub(crate) fn on_network(&self, network: Option<&Id>) -> Vec<(One, Joined)> {
        let view = self.view();
        let one = |(group, joined): (&Arc<Pod>, &Joined)| {
            let super::model::Kind::One { container, .. } = &group.config.kind else { return None };
            let container = view.containers.get(container)?.clone();
            Some((One { group: group.clone(), container }, joined.clone()))
        };
        members(&view, network).filter_map(one).collect()
    }
}

/// Takes over the networks on record.
pub(super) fn restore(shared: &Shared) -> Result<()> {
    let failed = |error| EngineError::step("read the networks", "the engine", &error);
    for record in shared.records.networks().map_err(failed)? {
        let known = known(shared, record)?;
        shared.user_networks.insert(known);
    }
    Ok(())
}

fn create(shared: &Shared, wish: NetworkWish) -> Result<Arc<Known>> {
    let _changing = shared.user_networks.change();
    let routes =
        host_routes().map_err(|error| EngineError::step("look for free ranges", "the host", &error))?;
    let default = shared.networks.default_bridge().config();
    let others = shared.user_networks.all();
    let record = settle(
        wish,
        &Around {
            others: others.iter().map(|known| &known.record).collect(),
            default_bridge: default.name(),
            default_subnets: default.subnets().iter().map(|subnet| subnet.net).collect(),
            routes,
        },
    )?;
    let known = known(shared, record)?;
    let object = || format!("network {}", known.record.name);
    let failed = |error| EngineError::step("write down", object(), &error);
    shared.records.put_network(&known.record).map_err(failed)?;
    if let Err(error) = known.bridge.ensure() {
        let error = EngineError::step("make the bridge of", object(), &error);
        // What is left of it stays on record, for whoever removes it.
        if let Err(left) = take_down(shared, &known) {
            tracing::warn!(%left, "a network that could not be made left something behind");
            shared.user_networks.insert(known);
        }
        return Err(error);
    }
    Ok(shared.user_networks.insert(known))
}

fn remove(shared: &Shared, known: &Known) -> Result<()> {
    let _changing = shared.user_networks.change();
    // Nobody is being attached, so that whoever is on it or is about to be has a row.
    let _at_rest = shared.networks.at_rest();
    let object = || format!("network {}", known.record.name);
    let users = shared
        .records
        .pods_on(Some(&known.record.id))
        .map_err(|error| EngineError::step("look for the users of", object(), &error))?;
    if !users.is_empty() {
        return Err(EngineError::InUse { what: object(), by: format!("containers ({})", users.len()) });
    }
    take_down(shared, known)?;
    shared.user_networks.forget(&known.record.id);
    Ok(())
}

fn take_down(shared: &Shared, known: &Known) -> Result<()> {
    let object = || format!("network {}", known.record.name);
    known.bridge.teardown().map_err(|error| EngineError::step("remove the bridge of", object(), &error))?;
    shared
        .records
        .forget_network(&known.record)
        .map_err(|error| EngineError::step("forget", object(), &error))
}

fn known(shared: &Shared, record: UserNetwork) -> Result<Known> {
    let default = shared.networks.default_bridge();
    let config = bridge_config(&record, default.config().name())
        .map_err(|error| EngineError::invalid(format!("network {}", record.name), &error))?;
    Ok(Known { bridge: Bridge::beside(default, config), record })
}

/// What the network is in the kernel.
fn bridge_config(
    record: &UserNetwork,
    default_bridge: &str,
) -> std::result::Result<BridgeConfig, ConfigError> {
    let subnets = record.ranges.iter().map(|range| Subnet::with_gateway(range.subnet, range.gateway));
    let manners = &record.manners;
    let config = BridgeConfig::with_subnets(
        &record.bridge,
        subnets.collect::<std::result::Result<_, _>>()?,
        manners.mtu,
        manners.masquerade && !manners.is_internal,
    )?;
    Ok(config.walled(Walls {
        is_internal: manners.is_internal,
        parts_members: !manners.lets_containers_talk,
        closed_to: vec![default_bridge.to_owned()],
    }))
}

impl Known {
    /// The subnet in which a host may have this address.
    pub(crate) fn subnet_of(&self, address: IpAddr) -> Option<IpNet> {
        self.record.ranges.iter().map(|range| range.subnet).find(|subnet| ipam::is_host(*subnet, address))
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{AddressRange, Kind, Manners};
    use super::super::pod::{PodState, sample};
    use super::*;

    #[test]
    fn a_container_is_known_by_its_names_where_there_are_names() {
        let container = Id::random().unwrap();
        let mut group = sample(&Id::random().unwrap(), PodState::NotReady);
        group.config.name.name = "web".into();
        group.config.hostname = container.short().to_owned();
        let own =
            Place { aliases: vec!["www".into(), "web".into()], ..Place::plain(PlaceIn::Named("n1".into())) };
        assert!(names(&group, &own).is_empty(), "a pod");
        group.config.kind = Kind::One { container: container.clone(), auto_remove: false };
        assert_eq!(names(&group, &own), ["web", "www", container.short()]);
        group.config.hostname = "host".into();
        assert_eq!(names(&group, &own).last().unwrap(), "host");
        assert!(names(&group, &Place { network: PlaceIn::Default, ..own }).is_empty());
    }

    #[test]
    fn a_network_is_what_it_was_asked_to_be_in_the_kernel() {
        let record = UserNetwork {
            id: Id::random().unwrap(),
            name: "n1".into(),
            bridge: "br-n1".into(),
            ranges: vec![AddressRange {
                subnet: "10.8.0.0/24".parse().unwrap(),
                gateway: "10.8.0.254".parse().unwrap(),
                within: None,
                reserved: BTreeMap::new(),
            }],
            manners: Manners { is_internal: true, mtu: Some(1400), ..Manners::default() },
            is_attachable: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            created_at_ns: 0,
        };
        let config = bridge_config(&record, "cleat0").unwrap();
        assert_eq!((config.name(), config.mtu(), config.masquerade()), ("br-n1", Some(1400), false));
        assert_eq!(config.subnets()[0].gateway.to_string(), "10.8.0.254");
        let narrow = UserNetwork { manners: Manners { mtu: Some(1), ..Manners::default() }, ..record };
        assert!(bridge_config(&narrow, "cleat0").is_err());
    }
}
