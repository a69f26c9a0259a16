//! The one place where the engine's errors become gRPC statuses.

use cleat_image::PullFailure;
use tonic::{Code, Status};

use crate::engine::{EngineError, chain};

/// Longest message sent. It travels in an HTTP/2 header, where clients stop reading long before their message limit.
const MAX_MESSAGE_BYTES: usize = 8 << 10;

/// The kubelet shows a pull as `RegistryUnavailable` when the message starts with this word.
const REGISTRY_UNAVAILABLE: &str = "RegistryUnavailable";

/// And as `SignatureValidationFailed` when it starts with this one.
const SIGNATURE_VALIDATION_FAILED: &str = "SignatureValidationFailed";

/// A container that was not created for want of an image volume, when its message starts with this one.
const IMAGE_VOLUME_MOUNT_FAILED: &str = "ImageVolumeMountFailed";

/// Who has to do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// Whoever sent the request.
    Caller,
    /// Whoever looks after this node.
    Node,
}

/// The gRPC status of an error: its code says what a client may do next, its message is for people.
pub(super) fn status(error: &EngineError) -> Status {
    let mut message = chain(error);
    if let Some(word) = first_word(error) {
        message = format!("{word}: {message}");
    }
    message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
    Status::new(code(error), message)
}

/// The word the kubelet knows an error by (`k8s.io/cri-api/pkg/errors`).
fn first_word(error: &EngineError) -> Option<&'static str> {
    match (error, error.pull_failure()) {
        (_, Some(PullFailure::Unreachable)) => Some(REGISTRY_UNAVAILABLE),
        (_, Some(PullFailure::Signature)) => Some(SIGNATURE_VALIDATION_FAILED),
        (EngineError::ImageVolume { .. }, _) => Some(IMAGE_VOLUME_MOUNT_FAILED),
        _ => None,
    }
}

/// The gRPC code of an error.
fn code(error: &EngineError) -> Code {
    match error {
        EngineError::NotFound { .. } => Code::NotFound,
        // Not NOT_FOUND: a kubelet that reads it takes the object for gone, and here there are several.
        EngineError::Ambiguous { .. } | EngineError::Invalid { .. } => Code::InvalidArgument,
        EngineError::WrongState { .. } | EngineError::InUse { .. } => Code::FailedPrecondition,
        EngineError::Exists { .. } => Code::AlreadyExists,
        // The kubelet tells a probe that timed out from one that failed by this code.
        EngineError::Timeout { .. } => Code::DeadlineExceeded,
        // Not CANCELLED: Go clients take that for their own context's end and drop the message.
        EngineError::Cancelled { .. } => Code::Aborted,
        EngineError::Unsupported { .. } => Code::Unimplemented,
        EngineError::DiskFull { .. } => Code::ResourceExhausted,
        EngineError::Step { .. } => Code::Internal,
        // As peers do: the word in front of the message tells.
        EngineError::ImageVolume { .. } => Code::Unknown,
        EngineError::Pull(_) => error.pull_failure().map_or(Code::Internal, pull_code),
    }
}

/// The gRPC code of a failed pull.
fn pull_code(failure: PullFailure) -> Code {
    match failure {
        PullFailure::NotFound => Code::NotFound,
        PullFailure::Unauthorized => Code::Unauthenticated,
        PullFailure::Blocked => Code::PermissionDenied,
        // Not UNAVAILABLE, which gRPC clients read as "this daemon's socket is gone". The kubelet looks for the word
        // in front of the message only when the code is UNKNOWN (pullImageV1 of k8s.io/cri-client strips that code).
        PullFailure::Unreachable | PullFailure::Signature => Code::Unknown,
        PullFailure::Invalid => Code::DataLoss,
        PullFailure::NoSpace => Code::ResourceExhausted,
        PullFailure::Cancelled => Code::Aborted,
        PullFailure::Local => Code::Internal,
    }
}

/// Who has to do something about an error.
pub(super) fn blame(error: &EngineError) -> Blame {
    match error {
        EngineError::NotFound { .. }
        | EngineError::Ambiguous { .. }
        | EngineError::Invalid { .. }
        | EngineError::WrongState { .. }
        | EngineError::InUse { .. }
        | EngineError::Exists { .. }
        | EngineError::Cancelled { .. }
        | EngineError::Unsupported { .. }
        | EngineError::ImageVolume { .. }
        // The limit was the caller's; a probe that runs into its own every few seconds must not fill the log.
        | EngineError::Timeout { .. } => Blame::Caller,
        EngineError::DiskFull { .. } | EngineError::Step { .. } => Blame::Node,
        EngineError::Pull(_) => match error.pull_failure() {
            Some(
                PullFailure::NotFound
                | PullFailure::Unauthorized
                | PullFailure::Blocked
                | PullFailure::Signature
                | PullFailure::Cancelled,
            ) => Blame::Caller,
            _ => Blame::Node,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::model::Id;

    fn text(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn every_error_has_the_code_its_clients_act_upon() {
        let id = Id::try_from("a".repeat(64)).unwrap();
        let step =
            EngineError::Step { step: "mount", object: text("pod x"), reason: text("EIO"), errno: Some(5) };
        let timeout = EngineError::Timeout { what: text("exec"), limit: Duration::from_secs(1), outcome: "" };
        let table = [
            (
                EngineError::NotFound { kind: "pod", name: text("x"), list: "pods" },
                Code::NotFound,
                Blame::Caller,
            ),
            (EngineError::Ambiguous { kind: "pod", prefix: text("x") }, Code::InvalidArgument, Blame::Caller),
            (EngineError::Invalid { what: text("x"), why: text("y") }, Code::InvalidArgument, Blame::Caller),
            (
                EngineError::WrongState {
                    action: "start",
                    object: text("x"),
                    state: "running",
                    remedy: "stop it",
                },
                Code::FailedPrecondition,
                Blame::Caller,
            ),
            (EngineError::Exists { kind: "pod", name: text("x"), id }, Code::AlreadyExists, Blame::Caller),
            (timeout, Code::DeadlineExceeded, Blame::Caller),
            (EngineError::Cancelled { what: text("x"), why: "a stop" }, Code::Aborted, Blame::Caller),
            (
                EngineError::Unsupported { what: text("x"), why: text("y") },
                Code::Unimplemented,
                Blame::Caller,
            ),
            (
                EngineError::DiskFull { step: "write", object: text("x") },
                Code::ResourceExhausted,
                Blame::Node,
            ),
            (step, Code::Internal, Blame::Node),
            (EngineError::ImageVolume { image: text("x"), why: text("y") }, Code::Unknown, Blame::Caller),
        ];
        for (error, code, who) in table {
            assert_eq!((status(&error).code(), blame(&error)), (code, who), "{error:?}");
        }
    }

    #[test]
    fn failed_pulls_have_the_code_of_their_kind() {
        for (failure, code) in [
            (PullFailure::NotFound, Code::NotFound),
            (PullFailure::Unauthorized, Code::Unauthenticated),
            (PullFailure::Blocked, Code::PermissionDenied),
            (PullFailure::Unreachable, Code::Unknown),
            (PullFailure::Invalid, Code::DataLoss),
            (PullFailure::NoSpace, Code::ResourceExhausted),
            (PullFailure::Cancelled, Code::Aborted),
            (PullFailure::Local, Code::Internal),
        ] {
            assert_eq!(pull_code(failure), code, "{failure:?}");
        }
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let error = EngineError::Invalid { what: "é".repeat(MAX_MESSAGE_BYTES), why: text("x") };
        let length = status(&error).message().len();
        assert!((MAX_MESSAGE_BYTES - 3..=MAX_MESSAGE_BYTES).contains(&length), "{length}");
    }
}
