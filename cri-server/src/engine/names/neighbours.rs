//! What the engine's view tells of a container's neighbours: always of this moment, without a lock.

use std::net::IpAddr;
use std::sync::Arc;

use super::Directory;
use crate::engine::model::{Id, Joined};
use crate::engine::pod::Pod;
use crate::engine::user_networks::{members, names};
use crate::engine::view::{Board, View};

/// The neighbours of one group.
pub(in crate::engine) struct Neighbours {
    board: Arc<Board>,
    group: Id,
}

impl Neighbours {
    pub(in crate::engine) fn new(board: Arc<Board>, group: Id) -> Self {
        Self { board, group }
    }
}

impl Directory for Neighbours {
    fn addresses(&self, name: &str, network: Option<&str>) -> Vec<IpAddr> {
        let view = self.board.view();
        named(&view, &self.group)
            .filter(|(_, joined)| network.is_none_or(|wanted| joined.name.eq_ignore_ascii_case(wanted)))
            .map(|(id, _)| addresses_of(&view, id, name))
            .find(|addresses| !addresses.is_empty())
            .unwrap_or_default()
    }

    fn name_of(&self, address: IpAddr) -> Option<(String, String)> {
        let view = self.board.view();
        let mut all = named(&view, &self.group).flat_map(|(id, _)| members(&view, Some(id)));
        let (group, joined) =
            all.find(|(_, joined)| joined.addresses.iter().any(|net| net.addr() == address))?;
        let first = names_of(group, joined).into_iter().next()?;
        Some((first, joined.name.clone()))
    }

    fn leads_outside(&self) -> bool {
        let view = self.board.view();
        let joined = view.pods.get(&self.group).map(|group| &group.joined);
        joined.is_some_and(|joined| joined.iter().any(|place| !place.gateways.is_empty()))
    }
}

/// The group's places in networks that have names.
fn named<'a>(view: &'a View, group: &Id) -> impl Iterator<Item = (&'a Id, &'a Joined)> {
    let joined = view.pods.get(group).into_iter().flat_map(|group| &group.joined);
    joined.filter_map(|joined| joined.network.as_ref().map(|id| (id, joined)))
}

fn addresses_of(view: &View, network: &Id, name: &str) -> Vec<IpAddr> {
    let is_called = |(group, joined): &(&Arc<Pod>, &Joined)| {
        names_of(group, joined).iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    let called = members(view, Some(network)).filter(is_called);
    called.flat_map(|(_, joined)| joined.addresses.iter().map(ipnet::IpNet::addr)).collect()
}

fn names_of(group: &Pod, joined: &Joined) -> Vec<String> {
    let places = group.config.places();
    let place = places.iter().find(|place| place.network.name() == joined.name);
    place.map(|place| names(group, place)).unwrap_or_default()
}
