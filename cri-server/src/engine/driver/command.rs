//! What a driver is told.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::error::Result;
use crate::engine::health::ProbeResult;
use crate::engine::model::{ContainerConfig, Id, Place, PlaceIn, PodResources, Resources, RestartPolicy};
use crate::engine::monitor::End;
use crate::engine::restart::Wanted;
use crate::engine::steps::CheckpointOrder;

/// Gets the outcome of a request: the id of the object it was about. A receiver that has gone away is no error: the
/// work was done.
pub(crate) type Reply = oneshot::Sender<Result<Id>>;

/// What an operation is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Target {
    /// The driver's pod.
    Pod,
    /// One of its containers.
    Container(Id),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Verb {
    /// Make the pod.
    RunPod,
    /// Stop it, and its containers first.
    StopPod,
    /// Stop it and remove it with its containers.
    RemovePod,
    /// Put the group of one on one more network.
    Join(Place),
    /// Take it off the network of this name.
    Leave(PlaceIn),
    /// Prepare a container.
    Create,
    /// Start it.
    Start,
    /// Ask it to end, then kill it.
    Stop {
        /// How long it may take to end by itself.
        grace: Duration,
        /// The signal that asks it to, in place of its own.
        signal: Option<i32>,
    },
    /// Make its processes stand still.
    Pause,
    /// Let them go on.
    Resume,
    /// Remove it, killing it first.
    Remove,
    /// Change its limits.
    Update(Box<Resources>),
    /// Write its processes and files into an archive.
    Checkpoint(CheckpointOrder),
}

impl Verb {
    /// Its name in figures.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::RunPod => "run_pod",
            Self::StopPod => "stop_pod",
            Self::RemovePod => "remove_pod",
            Self::Join(_) => "join_network",
            Self::Leave(_) => "leave_network",
            Self::Create => "create_container",
            Self::Start => "start_container",
            Self::Stop { .. } => "stop_container",
            Self::Pause => "pause_container",
            Self::Resume => "resume_container",
            Self::Remove => "remove_container",
            Self::Update(_) => "update_container",
            Self::Checkpoint(_) => "checkpoint_container",
        }
    }
}

/// A message to a driver.
pub(crate) enum Command {
    /// Do `verb` to `target`.
    Do {
        /// About what.
        target: Target,
        /// What.
        verb: Verb,
        /// Who waits.
        reply: Reply,
    },
    /// Prepare a container with this configuration.
    Create {
        /// The configuration.
        config: Box<ContainerConfig>,
        /// Who waits.
        reply: Reply,
    },
    /// Call the group of one, and its container, by another name.
    Rename {
        /// The name.
        name: String,
        /// Who waits.
        reply: Reply,
    },
    /// Note that its user has started or stopped the container without a pod.
    Want {
        /// Which.
        wanted: Wanted,
        /// Who waits.
        reply: Reply,
    },
    /// Start it again by itself by another policy.
    Policy {
        /// The policy.
        policy: RestartPolicy,
        /// Who waits.
        reply: Reply,
    },
    /// A container is due to be started again.
    Again {
        /// Which.
        container: Id,
        /// For the how manieth time.
        count: u32,
    },
    /// A container's next probe is due.
    Probe {
        /// Which.
        container: Id,
    },
    /// A probe is over.
    Probed {
        /// Of which container.
        container: Id,
        /// What it said.
        result: ProbeResult,
    },
    /// The pod is said to need something else from now on.
    Resize {
        /// What has changed.
        change: Box<PodResources>,
        /// Who waits.
        reply: Reply,
    },
    /// A process that ran has ended.
    Ended {
        /// Whose.
        target: Target,
        /// How.
        end: End,
    },
}
