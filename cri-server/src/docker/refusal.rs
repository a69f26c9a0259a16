//! Refusals: an HTTP status and `{"message": ...}`, and the one place where the engine's errors become them.

use cleat_image::{ArchiveError, PullFailure, ReferenceError, StoreError};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::wire::{self, Body};
use crate::engine::{EngineError, chain};

/// Why a request is not carried out, as its client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    message: String,
}

/// What an endpoint answers.
pub(super) type Answer = Result<Response<Body>, Refusal>;

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// The request makes no sense.
    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such object.
    pub(super) fn missing(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// The object's state, or another object, does not allow it.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, message)
    }

    /// It is never allowed.
    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// It is not built.
    pub(super) fn not_built(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not implemented by this engine yet"))
    }

    /// Nothing is kept of what the container writes.
    pub(super) fn unreadable_log() -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "configured logging driver does not support reading")
    }

    /// The body is larger than it may be.
    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the request's body is larger than {limit} bytes"))
    }

    /// Somebody else has to prove who they are.
    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, message)
    }

    /// Something on this host failed.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// Swarm's endpoints on an engine that is in no swarm.
    pub(super) fn no_swarm() -> Self {
        let words = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, words)
    }

    /// No image is called `name`.
    pub(super) fn no_image(name: &str) -> Self {
        Self::missing(format!("No such image: {}", wire::with_tag(name)))
    }

    /// The HTTP status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// As an answer.
    pub(super) fn response(&self) -> Response<Body> {
        wire::json(self.status, &json!({ "message": self.message }))
    }
}

/// The one place where the engine's errors become HTTP statuses.
impl From<EngineError> for Refusal {
    fn from(error: EngineError) -> Self {
        let status = match &error {
            EngineError::NotFound { kind: "network", name, .. } => {
                return Self::missing(format!("network {name} not found"));
            }
            EngineError::NotFound { kind, name, .. } => {
                return Self::missing(format!("No such {kind}: {name}"));
            }
            EngineError::Ambiguous { .. } | EngineError::Invalid { .. } | EngineError::ImageVolume { .. } => {
                StatusCode::BAD_REQUEST
            }
            EngineError::WrongState { .. } | EngineError::Exists { .. } | EngineError::Cancelled { .. } => {
                StatusCode::CONFLICT
            }
            EngineError::InUse { .. } => StatusCode::FORBIDDEN,
            EngineError::Unsupported { .. } => StatusCode::NOT_IMPLEMENTED,
            EngineError::Timeout { .. } | EngineError::DiskFull { .. } | EngineError::Step { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            EngineError::Pull(_) => error.pull_failure().map_or(StatusCode::INTERNAL_SERVER_ERROR, of_pull),
        };
        Self::new(status, chain(&error))
    }
}

/// The status of a pull that failed before it had begun. Docker has 404 for a denial too: whether a private repository
/// exists is not told.
pub(super) fn of_pull(failure: PullFailure) -> StatusCode {
    match failure {
        PullFailure::NotFound | PullFailure::Unauthorized => StatusCode::NOT_FOUND,
        PullFailure::Blocked | PullFailure::Signature => StatusCode::FORBIDDEN,
        PullFailure::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
        PullFailure::Unreachable | PullFailure::Invalid | PullFailure::NoSpace | PullFailure::Local => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::Pinned(_) | StoreError::ReadOnly { .. } => Self::conflict(chain(&error)),
            StoreError::NoImage(id) => Self::missing(format!("No such image: {id}")),
            StoreError::NoTag(_) => Self::bad(chain(&error)),
            _ => Self::failed(chain(&error)),
        }
    }
}

impl From<ArchiveError> for Refusal {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => error.into(),
            ArchiveError::Write(_) => Self::failed(chain(&error)),
            error => Self::bad(chain(&error)),
        }
    }
}

impl From<ReferenceError> for Refusal {
    fn from(error: ReferenceError) -> Self {
        Self::bad(format!("invalid reference format: {}", chain(&error)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_engines_errors_have_dockerds_statuses() {
        let text = |text: &str| text.to_owned();
        let wrong =
            EngineError::WrongState { action: "kill", object: text("x"), state: "exited", remedy: "y" };
        for (error, status) in [
            (EngineError::NotFound { kind: "container", name: text("x"), list: "ps" }, 404),
            (EngineError::Ambiguous { kind: "container", prefix: text("x") }, 400),
            (EngineError::Invalid { what: text("x"), why: text("y") }, 400),
            (wrong, 409),
            (EngineError::InUse { what: text("x"), by: text("y") }, 403),
            (EngineError::Unsupported { what: text("x"), why: text("y") }, 501),
            (EngineError::Cancelled { what: text("x"), why: "y" }, 409),
            (EngineError::Timeout { what: text("x"), limit: Duration::from_secs(1), outcome: "" }, 500),
            (EngineError::DiskFull { step: "x", object: text("y") }, 500),
        ] {
            assert_eq!(Refusal::from(error.clone()).status().as_u16(), status, "{error:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told_in_the_words_clients_look_for() {
        let error = EngineError::NotFound { kind: "container", name: "web".into(), list: "ps -a" };
        assert_eq!(Refusal::from(error).message(), "No such container: web");
        assert_eq!(Refusal::no_image("nosuch").message(), "No such image: nosuch:latest");
        assert_eq!(Refusal::no_image("nosuch:1").message(), "No such image: nosuch:1");
    }

    #[test]
    fn a_pull_that_cannot_begin_has_a_status_of_its_own() {
        assert_eq!(of_pull(PullFailure::NotFound), 404);
        assert_eq!(of_pull(PullFailure::Unauthorized), 404);
        assert_eq!(of_pull(PullFailure::Unreachable), 500);
    }
}
