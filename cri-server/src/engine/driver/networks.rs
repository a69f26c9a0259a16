//! Changing the networks that a group of one is on.
//!
//! Of one that rests only its record changes; one that runs is put on the network or taken off it at once. No intent is
//! journaled: a link that a daemon made before it died is owed a detach, which goes with the group.

use std::sync::Arc;

use super::Driver;
use super::command::Verb;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Joined, Place};
use crate::engine::pod::{Pod, PodState};
use crate::engine::shared::Shared;
use crate::engine::steps;

/// What is to become of a group's places.
pub(super) enum Change {
    /// The last one is new.
    More(Vec<Place>),
    /// These stay.
    Fewer {
        /// The places that stay.
        places: Vec<Place>,
        /// The one that it has where it is to go.
        gone: Option<Joined>,
    },
    /// It has no place that could go.
    Nothing {
        /// The network's name.
        network: String,
    },
}

/// A group's places after a change.
pub(super) struct Places {
    /// Those that it is to have whenever it runs.
    wanted: Vec<Place>,
    /// Those that it has; none while it rests.
    joined: Vec<Joined>,
}

/// What `verb` comes to. Pure. A place in a network of which there is one already takes the place of that, which is only
/// possible at rest.
pub(super) fn change_of(group: &Pod, verb: &Verb) -> Change {
    let mut places = group.config.places();
    match verb {
        Verb::Join(place) => {
            places.retain(|known| known.network != place.network);
            places.push(place.clone());
            Change::More(places)
        }
        Verb::Leave(network) => {
            let gone = group.joined.iter().find(|joined| joined.name == network.name()).cloned();
            let before = places.len();
            places.retain(|known| known.network != *network);
            if gone.is_none() && places.len() == before {
                return Change::Nothing { network: network.name().to_owned() };
            }
            Change::Fewer { places, gone }
        }
        _ => unreachable!("other verbs change no places"),
    }
}

/// Carries it out.
pub(super) async fn carry_out(shared: &Arc<Shared>, group: &Arc<Pod>, change: Change) -> Result<Places> {
    let runs = matches!(group.state, PodState::Ready { .. });
    let (wanted, joined) = match change {
        Change::More(places) if runs => (places.clone(), steps::join_running(shared, group, places).await?),
        Change::Fewer { places, gone: Some(gone) } if runs => {
            (places.clone(), steps::leave_running(shared, group, gone, places).await?)
        }
        Change::More(places) | Change::Fewer { places, .. } => (places, group.joined.clone()),
        Change::Nothing { network } => {
            return Err(EngineError::NotFound { kind: "place in network", name: network, list: "ps -a" });
        }
    };
    Ok(Places { wanted, joined })
}

impl Driver {
    /// The group's places have been changed.
    pub(super) fn is_rejoined(&mut self, places: Places) -> Result<()> {
        self.change_pod(|pod| {
            pod.config.is_unconnected = places.wanted.is_empty();
            pod.config.places = places.wanted;
            pod.joined = places.joined;
        });
        self.commit_pod()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::{Id, PlaceIn};
    use crate::engine::pod::sample;

    fn named(name: &str) -> Place {
        Place::plain(PlaceIn::Named(name.to_owned()))
    }

    fn names(change: Change) -> Vec<String> {
        let places = match change {
            Change::More(places) | Change::Fewer { places, .. } => places,
            Change::Nothing { .. } => return vec!["nothing".to_owned()],
        };
        places.iter().map(|place| place.network.name().to_owned()).collect()
    }

    #[test]
    fn places_come_and_go() {
        let mut group = sample(&Id::random().unwrap(), PodState::NotReady);
        let join = |group: &Pod, name: &str| names(change_of(group, &Verb::Join(named(name))));
        let leave = |group: &Pod, network: PlaceIn| names(change_of(group, &Verb::Leave(network)));
        assert_eq!(join(&group, "n1"), ["bridge", "n1"]);
        assert_eq!(leave(&group, PlaceIn::Default), Vec::<String>::new());
        assert_eq!(leave(&group, PlaceIn::Named("n1".into())), ["nothing"]);
        group.config.places = vec![named("n1"), named("n2")];
        assert_eq!(join(&group, "n1"), ["n2", "n1"]);
        assert_eq!(leave(&group, PlaceIn::Named("n1".into())), ["n2"]);
        group.config.places.clear();
        group.config.is_unconnected = true;
        assert_eq!(join(&group, "n1"), ["n1"]);
    }
}
