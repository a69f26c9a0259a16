//! A pod as the engine knows it, and the states it goes through.
//!
//! ```text
//!            created           died, stop
//! Creating ──────────▶ Ready ────────────▶ NotReady ──▶ Removing ──▶ (gone)
//!    └────────────────────────────────────────────────────▲  failed
//!
//! A group of one begins `NotReady`, is made `Ready` by each start of its container and is `NotReady` after its end.
//! ```

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::model::{Id, Joined, PodConfig, PodResources, PortMapping};

/// A pod's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pod {
    /// Its id.
    pub id: Id,
    /// What was asked for.
    pub config: PodConfig,
    /// What of its resources was changed since; absent in records of before there were such changes. Apart from
    /// `config`, by which a repeated request is known.
    #[serde(default)]
    pub resized: PodResources,
    /// When the request arrived, nanoseconds since the Unix epoch.
    pub created_at_ns: i64,
    /// Its cgroup, a path in every hierarchy; the containers' are below it.
    pub cgroup: String,
    /// Its addresses, the primary one first; empty on the host's network.
    pub addresses: Vec<IpAddr>,
    /// Its places in networks while it is on them; absent in records of before there were several.
    #[serde(default)]
    pub joined: Vec<Joined>,
    /// The ports of the host that lead into it, those included that were free when it was made ready.
    #[serde(default)]
    pub ports: Vec<PortMapping>,
    /// Where it is in its life.
    pub state: PodState,
}

/// A pod's state, with what is known in that state only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PodState {
    /// Being made; whatever exists of it is undone if the daemon dies now.
    Creating,
    /// The pause process runs and the network is attached.
    Ready {
        /// The pause process, in the daemon's pid namespace; none in a group of one.
        pause_pid: Option<i32>,
    },
    /// Stopped, or its pause process died; the network may be gone. A group of one begins so, and can be made ready.
    NotReady,
    /// Being removed; finished by the next start if the daemon dies now.
    Removing,
}

/// What happens to pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodEvent {
    /// Every step of the creation succeeded.
    Created {
        /// The pause process; none in a group of one.
        pause_pid: Option<i32>,
    },
    /// The pause process ended, or a stop was carried out.
    Stopped,
    /// A removal begins.
    Remove,
}

/// An event that cannot happen in a state: a bug of the engine, refused before it reaches the records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event} cannot happen to {object} that is {state}")]
pub(crate) struct IllegalTransition {
    /// Kind of object.
    pub object: &'static str,
    /// Its state.
    pub state: &'static str,
    /// The event.
    pub event: String,
}

impl PodState {
    /// The state after `event`.
    ///
    /// # Errors
    /// When `event` cannot happen in this state.
    pub(crate) fn next(self, event: PodEvent) -> Result<Self, IllegalTransition> {
        match (self, event) {
            (Self::Creating | Self::NotReady, PodEvent::Created { pause_pid }) => {
                Ok(Self::Ready { pause_pid })
            }
            (Self::Ready { .. } | Self::NotReady, PodEvent::Stopped) => Ok(Self::NotReady),
            // A removal that failed is tried again, often by way of another stop.
            (_, PodEvent::Remove) | (Self::Removing, PodEvent::Stopped) => Ok(Self::Removing),
            _ => Err(IllegalTransition { object: "a pod", state: self.name(), event: format!("{event:?}") }),
        }
    }

    /// The state in one word, for messages.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Creating => "being created",
            Self::Ready { .. } => "ready",
            Self::NotReady => "stopped",
            Self::Removing => "being removed",
        }
    }
}

impl Pod {
    /// What it is said to need now.
    #[must_use]
    pub(crate) fn resources(&self) -> PodResources {
        let PodConfig { overhead, resources, .. } = &self.config;
        let first = PodResources { overhead: overhead.clone(), resources: resources.clone() };
        first.changed_by(&self.resized)
    }

    /// The pause process while there is one.
    #[must_use]
    pub(crate) fn pause_pid(&self) -> Option<i32> {
        match self.state {
            PodState::Ready { pause_pid } => pause_pid,
            _ => None,
        }
    }
}

/// A pod in this state and nothing else, for tests.
#[cfg(test)]
pub(crate) fn sample(id: &Id, state: PodState) -> Pod {
    Pod {
        id: id.clone(),
        config: PodConfig::default(),
        resized: PodResources::default(),
        created_at_ns: 0,
        cgroup: String::new(),
        addresses: Vec::new(),
        joined: Vec::new(),
        ports: Vec::new(),
        state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_event_is_judged() {
        let ready = PodState::Ready { pause_pid: Some(7) };
        let created = PodEvent::Created { pause_pid: Some(7) };
        let table = [
            (PodState::Creating, created, Some(ready)),
            (PodState::Creating, PodEvent::Stopped, None),
            (PodState::Creating, PodEvent::Remove, Some(PodState::Removing)),
            (ready, created, None),
            (ready, PodEvent::Stopped, Some(PodState::NotReady)),
            (ready, PodEvent::Remove, Some(PodState::Removing)),
            (PodState::NotReady, created, Some(ready)),
            (PodState::NotReady, PodEvent::Stopped, Some(PodState::NotReady)),
            (PodState::NotReady, PodEvent::Remove, Some(PodState::Removing)),
            (PodState::Removing, created, None),
            (PodState::Removing, PodEvent::Stopped, Some(PodState::Removing)),
            (PodState::Removing, PodEvent::Remove, Some(PodState::Removing)),
        ];
        for (state, event, expected) in table {
            assert_eq!(state.next(event).ok(), expected, "{state:?} {event:?}");
        }
    }
}
