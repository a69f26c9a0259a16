//! Other containers whose namespaces one that is to be created uses: by name or id in a request, by id on record.

use serde_json::{Value, json};

use super::request::HostConfig;
use crate::docker::Door;
use crate::docker::refusal::Refusal;
use crate::engine::model::{Id, IpcMode, PidMode};
use crate::engine::{EngineError, One};

/// What begins a mode that names another container.
const CONTAINER: &str = "container:";

/// The containers that a request names.
pub(super) struct Others {
    /// Whose network it is to use.
    pub network: Option<One>,
    /// Whose IPC namespace it is to use.
    pub ipc: Option<One>,
    /// Whose processes it is to be among.
    pub pid: Option<One>,
}

impl Others {
    /// Looks for them.
    pub(super) fn find(door: &Door, host: &HostConfig) -> Result<Self, Refusal> {
        let named = |mode: &str, find: fn(&Door, &str) -> Result<One, Refusal>| {
            mode.strip_prefix(CONTAINER).map(|name| find(door, name)).transpose()
        };
        Ok(Self {
            network: named(&host.network_mode, |door, name| Ok(door.engine.one(name)?))?,
            ipc: named(&host.ipc_mode, lender)?,
            pid: named(&host.pid_mode, neighbour)?,
        })
    }

    /// Tells their ids where the request has names: those may be others' some day.
    pub(super) fn settle(&self, body: &mut Value) {
        for (key, other) in [("NetworkMode", &self.network), ("IpcMode", &self.ipc), ("PidMode", &self.pid)] {
            if let Some(other) = other {
                body["HostConfig"][key] = json!(format!("{CONTAINER}{}", other.container.id));
            }
        }
    }

    /// The IPC namespace: whose, and of which group if it is another one's.
    pub(super) fn ipc(&self, mode: &str) -> (IpcMode, Option<Id>) {
        match (&self.ipc, mode) {
            // Who uses another's itself lends that.
            (Some(other), _) => {
                let config = &other.group.config;
                let own = config.ipc_of.as_ref().unwrap_or(&other.group.id);
                match config.namespaces.ipc {
                    IpcMode::Node => (IpcMode::Node, None),
                    _ => (IpcMode::Shareable, Some(own.clone())),
                }
            }
            (None, "host") => (IpcMode::Node, None),
            (None, "shareable") => (IpcMode::Shareable, None),
            (None, "none") => (IpcMode::WithoutMemory, None),
            (None, _) => (IpcMode::Pod, None),
        }
    }

    /// Whose processes.
    pub(super) fn pid(&self, mode: &str) -> PidMode {
        match (&self.pid, mode) {
            (Some(other), _) => match &other.container.config.pid {
                PidMode::Container => PidMode::Target(other.container.id.clone()),
                theirs => theirs.clone(),
            },
            (None, "host") => PidMode::Node,
            (None, _) => PidMode::Container,
        }
    }
}

/// The container of whose IPC namespace is to be used.
fn lender(door: &Door, name: &str) -> Result<One, Refusal> {
    if name.is_empty() {
        return Err(Refusal::bad("can't join IPC of container : invalid name or ID supplied: \"\""));
    }
    let other = neighbour(door, name)?;
    match other.group.config.namespaces.ipc {
        IpcMode::Node | IpcMode::Shareable => Ok(other),
        IpcMode::Pod | IpcMode::WithoutMemory => {
            let id = &other.container.id;
            let why = "non-shareable IPC (hint: use IpcMode:shareable for the donor container)";
            Err(Refusal::bad(format!("can't join IPC of container {id}: {why}")))
        }
    }
}

/// Not by the status for a missing image: the command line would pull one.
fn neighbour(door: &Door, name: &str) -> Result<One, Refusal> {
    match door.engine.one(name) {
        Err(EngineError::NotFound { .. }) => Err(Refusal::bad(format!("No such container: {name}"))),
        found => Ok(found?),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::container::sample;
    use crate::engine::pod::{PodState, sample as group};

    fn other(ipc: IpcMode, ipc_of: Option<Id>, pid: PidMode) -> One {
        let id = Id::random().unwrap();
        let mut group = group(&Id::random().unwrap(), PodState::NotReady);
        (group.config.namespaces.ipc, group.config.ipc_of) = (ipc, ipc_of);
        let mut container = sample(&id, &group.id);
        container.config.pid = pid;
        One { group: Arc::new(group), container: Arc::new(container) }
    }

    #[test]
    fn who_joins_one_that_joined_is_with_both() {
        let id = Id::random().unwrap();
        for (ipc, ipc_of, expected) in [
            (IpcMode::Shareable, None, None),
            (IpcMode::Shareable, Some(id.clone()), Some(id.clone())),
            (IpcMode::Node, None, Some(id.clone())),
        ] {
            let lender = other(ipc, ipc_of, PidMode::Container);
            let own = lender.group.id.clone();
            let others = Others { network: None, ipc: Some(lender), pid: None };
            match ipc {
                IpcMode::Node => assert_eq!(others.ipc(""), (IpcMode::Node, None)),
                _ => assert_eq!(others.ipc(""), (IpcMode::Shareable, Some(expected.unwrap_or(own)))),
            }
        }
        let target = PidMode::Target(id);
        let others =
            Others { network: None, ipc: None, pid: Some(other(IpcMode::Pod, None, target.clone())) };
        assert_eq!(others.pid(""), target);
    }

    #[test]
    fn modes_are_words() {
        let none = Others { network: None, ipc: None, pid: None };
        for (word, ipc, pid) in [
            ("", IpcMode::Pod, PidMode::Container),
            ("private", IpcMode::Pod, PidMode::Container),
            ("host", IpcMode::Node, PidMode::Node),
            ("shareable", IpcMode::Shareable, PidMode::Container),
            ("none", IpcMode::WithoutMemory, PidMode::Container),
        ] {
            assert_eq!((none.ipc(word), none.pid(word)), ((ipc, None), pid), "{word:?}");
        }
    }
}
