//! A container as the engine knows it, and the states it goes through.
//!
//! ```text
//!            prepared           start             executed
//! Creating ──────────▶ Created ───────▶ Starting ──────────▶ Running ◀──▶ Paused
//!                                           │ failed            │ ended      │
//!                                           └─────▶ Exited ◀────┴────────────┘
//! ```
//! A container without a pod may be started again after its end. A container may be removed in any of these; that it is being removed is an operation (in the journal), not a state:
//! until the removal has succeeded it is still what it was.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::health::Health;
use super::model::{ContainerConfig, Id, Identity, Resources};
use super::pod::IllegalTransition;
use super::restart::Restarts;

/// A container's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Container {
    /// Its id.
    pub id: Id,
    /// Its pod, or the group that is its own.
    pub pod: Id,
    /// Whether it has no pod.
    #[serde(default)]
    pub is_alone: bool,
    /// What was asked for.
    pub config: ContainerConfig,
    /// The image it was made from.
    pub image: ImageUse,
    /// Who its program runs as.
    pub identity: Identity,
    /// When the request arrived, nanoseconds since the Unix epoch.
    pub created_at_ns: i64,
    /// Its cgroup, a path in every hierarchy.
    pub cgroup: String,
    /// Its log file.
    pub log_path: Option<PathBuf>,
    /// Signal that asks its program to end.
    pub stop_signal: i32,
    /// Limits in force: those asked for and every later update.
    pub resources: Resources,
    /// Its starts by itself.
    #[serde(default)]
    pub restarts: Restarts,
    /// What its probes said, once it was started with a health check.
    #[serde(default)]
    pub health: Option<Health>,
    /// Where it is in its life.
    pub state: ContainerState,
}

impl Container {
    /// Whether it has ended and waits to be started again.
    pub(crate) fn is_restarting(&self) -> bool {
        let rests = matches!(self.state, ContainerState::Exited(_) | ContainerState::Starting);
        rests && self.restarts.due_at_ns.is_some()
    }
}

/// The image of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageUse {
    /// The image's id (digest of its configuration).
    pub id: String,
    /// A reference by digest (`repository@sha256:...`) where the image has one, else its id.
    pub reference: String,
}

/// A container's state, with what is known in that state only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ContainerState {
    /// Being prepared; whatever exists of it is undone if the daemon dies now.
    Creating,
    /// Prepared, never started.
    Created,
    /// Its monitor is being launched; if the daemon dies now, the next start looks how far it came.
    Starting,
    /// Its program runs.
    Running {
        /// The container's init, in the daemon's pid namespace.
        pid: i32,
        /// When the program was executed, nanoseconds since the Unix epoch.
        started_at_ns: i64,
    },
    /// Its processes stand still until they are let go on. The freezer is the truth: a start of the daemon looks there.
    Paused {
        /// The container's init, in the daemon's pid namespace.
        pid: i32,
        /// When the program was executed, nanoseconds since the Unix epoch.
        started_at_ns: i64,
    },
    /// Its program ended, or could not be started, or never will be.
    Exited(Exit),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Exit {
    /// Exit code, or 128 plus the number of the signal that ended it.
    pub code: i32,
    /// Why, in one word.
    pub reason: ExitReason,
    /// Why, in a sentence, where the word does not say it all.
    pub message: String,
    /// When the program was executed, nanoseconds since the Unix epoch; 0 if it never was.
    pub started_at_ns: i64,
    /// When it ended, nanoseconds since the Unix epoch.
    pub finished_at_ns: i64,
}

/// Why a container is no longer running; `Display` gives the words Kubernetes' users know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitReason {
    /// The program exited with 0.
    Completed,
    /// The program exited with another code, or a signal ended it.
    Error,
    /// The kernel ended it for want of memory.
    OomKilled,
    /// The program could not be executed.
    StartError,
    /// Nobody saw it end: the host was restarted or its monitor was killed.
    Unknown,
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OomKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::Unknown => "Unknown",
        })
    }
}

/// What happens to containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ContainerEvent {
    /// Every step of the preparation succeeded.
    Prepared,
    /// A start begins.
    Start,
    /// Its program was executed.
    Started {
        /// The container's init.
        pid: i32,
        /// When, nanoseconds since the Unix epoch.
        started_at_ns: i64,
    },
    /// Its processes were made to stand still.
    Paused,
    /// They go on.
    Resumed,
    /// It ended or could not be started.
    Ended(Exit),
}

impl ContainerState {
    /// The state after `event`.
    ///
    /// # Errors
    /// When `event` cannot happen in this state.
    pub(crate) fn next(&self, event: ContainerEvent) -> Result<Self, IllegalTransition> {
        use ContainerEvent as Event;
        match (self, event) {
            (Self::Creating, Event::Prepared) => Ok(Self::Created),
            // A container without a pod is started again after its end; that a pod's is not, its driver judges.
            (Self::Created | Self::Exited(_), Event::Start) => Ok(Self::Starting),
            (Self::Starting, Event::Started { pid, started_at_ns }) => {
                Ok(Self::Running { pid, started_at_ns })
            }
            (&Self::Running { pid, started_at_ns }, Event::Paused) => Ok(Self::Paused { pid, started_at_ns }),
            (&Self::Paused { pid, started_at_ns }, Event::Resumed) => {
                Ok(Self::Running { pid, started_at_ns })
            }
            (Self::Starting | Self::Running { .. } | Self::Paused { .. }, Event::Ended(exit)) => {
                Ok(Self::Exited(exit))
            }
            (state, event) => Err(IllegalTransition {
                object: "a container",
                state: state.name(),
                event: format!("{event:?}"),
            }),
        }
    }

    /// The state in a word or two, for messages.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Creating => "being created",
            Self::Created => "created but not started",
            Self::Starting => "being started",
            Self::Running { .. } => "running",
            Self::Paused { .. } => "paused",
            Self::Exited(_) => "exited",
        }
    }

    /// The container's init while it runs.
    #[must_use]
    pub(crate) fn pid(&self) -> Option<i32> {
        match self {
            Self::Running { pid, .. } | Self::Paused { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// When its program was executed, while it runs: nanoseconds since the Unix epoch.
    #[must_use]
    pub(crate) fn started_at_ns(&self) -> Option<i64> {
        match self {
            Self::Running { started_at_ns, .. } | Self::Paused { started_at_ns, .. } => Some(*started_at_ns),
            _ => None,
        }
    }
}

/// A container that was created and nothing else, for tests.
#[cfg(test)]
pub(crate) fn sample(id: &Id, pod: &Id) -> Container {
    Container {
        id: id.clone(),
        pod: pod.clone(),
        is_alone: true,
        config: ContainerConfig::default(),
        image: ImageUse { id: String::new(), reference: String::new() },
        identity: Identity::default(),
        created_at_ns: 0,
        cgroup: String::new(),
        log_path: None,
        stop_signal: 15,
        resources: Resources::default(),
        restarts: Restarts::default(),
        health: None,
        state: ContainerState::Created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit() -> Exit {
        Exit {
            code: 0,
            reason: ExitReason::Completed,
            message: String::new(),
            started_at_ns: 1,
            finished_at_ns: 2,
        }
    }

    #[test]
    fn a_life_from_creation_to_removal() {
        let mut state = ContainerState::Creating;
        for event in [
            ContainerEvent::Prepared,
            ContainerEvent::Start,
            ContainerEvent::Started { pid: 7, started_at_ns: 1 },
            ContainerEvent::Paused,
            ContainerEvent::Resumed,
            ContainerEvent::Paused,
            ContainerEvent::Ended(exit()),
        ] {
            state = state.next(event).unwrap();
        }
        assert_eq!(state, ContainerState::Exited(exit()));
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        let running = ContainerState::Running { pid: 7, started_at_ns: 1 };
        let exited = ContainerState::Exited(exit());
        for (state, event) in [
            (ContainerState::Creating, ContainerEvent::Start),
            (running.clone(), ContainerEvent::Start),
            (running.clone(), ContainerEvent::Prepared),
            (running, ContainerEvent::Resumed),
            (exited.clone(), ContainerEvent::Paused),
            (exited, ContainerEvent::Ended(exit())),
        ] {
            assert!(state.next(event.clone()).is_err(), "{state:?} {event:?}");
        }
    }
}
