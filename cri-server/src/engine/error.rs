//! Why the engine refused or failed a request, in terms both front doors can map to their own codes.

use std::sync::Arc;
use std::time::Duration;

use cleat_image::{PullError, PullFailure};

use super::model::Id;
use super::monitor::MonitorError;

/// A failed request. Cloneable, since everybody who joined an operation gets its result.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum EngineError {
    /// No such object.
    #[error("no {kind} has the id or name {name:?}; `crictl {list}` lists those there are")]
    NotFound {
        /// `pod`, `container` or `image`.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// The list command that shows this kind.
        list: &'static str,
    },
    /// A short id that fits several objects.
    #[error("{prefix:?} is the start of more than one {kind}'s id; give more digits")]
    Ambiguous {
        /// `pod`, `container` or `image`.
        kind: &'static str,
        /// What was asked for.
        prefix: String,
    },
    /// The request makes no sense.
    #[error("{what} is refused: {why}")]
    Invalid {
        /// Field and value.
        what: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The object's state does not allow it.
    #[error("cannot {action} {object}: it is {state}; {remedy}")]
    WrongState {
        /// What was asked for.
        action: &'static str,
        /// Kind and id.
        object: String,
        /// State it is in.
        state: &'static str,
        /// What can be done instead.
        remedy: &'static str,
    },
    /// Somebody has it, or uses it.
    #[error("{what} is in use by {by}")]
    InUse {
        /// What.
        what: String,
        /// Who.
        by: String,
    },
    /// The name is taken by an object with another configuration.
    #[error(
        "{kind} {name} exists already as {id} with another configuration; remove it first or raise the attempt"
    )]
    Exists {
        /// `pod` or `container`.
        kind: &'static str,
        /// The name.
        name: String,
        /// Who has it.
        id: Id,
    },
    /// It took longer than the caller allowed.
    #[error("{what} took longer than {limit:?}{outcome}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// The limit.
        limit: Duration,
        /// What was done about it, starting with `; `, or nothing.
        outcome: &'static str,
    },
    /// Another request ended this one.
    #[error("{what} was given up because {why}")]
    Cancelled {
        /// The operation.
        what: String,
        /// The other request.
        why: &'static str,
    },
    /// Not built yet, or not possible on this host.
    #[error("{what} is not supported: {why}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// Why not.
        why: String,
    },
    /// The disk is full.
    #[error(
        "{step} of {object}: no space left on the device; free some (`crictl rmi --prune` removes unused images)"
    )]
    DiskFull {
        /// What was being done.
        step: &'static str,
        /// To what.
        object: String,
    },
    /// A step of an operation failed.
    #[error("{step} of {object}: {reason}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// To what: kind and id.
        object: String,
        /// The whole chain of causes.
        reason: String,
        /// The kernel's error number at the bottom, where there was one.
        errno: Option<i32>,
    },
    /// An image cannot be a volume of a container.
    #[error("mount image {image}: {why}")]
    ImageVolume {
        /// The image as the client named it.
        image: String,
        /// Why not.
        why: String,
    },
    /// An image could not be pulled: why not, for each name that a short one may stand for; never empty.
    #[error("{}", .0.iter().map(|refused| chain(refused.as_ref())).collect::<Vec<_>>().join("; "))]
    Pull(Vec<Arc<PullError>>),
}

/// Shorthand of this folder.
pub(crate) type Result<T> = std::result::Result<T, EngineError>;

impl EngineError {
    /// `step` of `object` failed with `error` and all its causes.
    pub(crate) fn step(
        step: &'static str,
        object: impl ToString,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let errno = errno_of(error);
        if errno == Some(nix::errno::Errno::ENOSPC as i32) {
            return Self::DiskFull { step, object: object.to_string() };
        }
        Self::Step { step, object: object.to_string(), reason: chain(error), errno }
    }

    /// The kind of a failed pull: that of the last name tried.
    pub(crate) fn pull_failure(&self) -> Option<PullFailure> {
        match self {
            Self::Pull(refused) => refused.last().map(|refused| refused.failure()),
            _ => None,
        }
    }

    /// `what` is refused because of `error` and all its causes.
    pub(crate) fn invalid(what: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Invalid { what: what.into(), why: chain(error) }
    }
}

/// An error and all its causes in one line.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(error.source(), |cause| cause.source())
        .fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The kernel's error number somewhere in the causes of `error`.
fn errno_of(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    std::iter::successors(Some(error), |cause| cause.source()).find_map(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        // One that comes from the monitor is data.
        let io = io.or_else(|| cause.downcast_ref::<MonitorError>().and_then(MonitorError::errno));
        io.or_else(|| cause.downcast_ref::<nix::errno::Errno>().map(|errno| *errno as i32))
    })
}
