//! A failure that crosses a process boundary: data, so that the daemon can map it to a gRPC or HTTP status.

use serde::{Deserialize, Serialize};

/// A failed step of the monitor or the runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct Failure {
    /// What was being done and to what: `mount /dev/shm`, `execute /bin/foo`.
    pub step: String,
    /// Why it failed, from the outermost cause to the innermost, joined by `: `.
    pub reason: String,
    /// The kernel's error number at the bottom of it, where there was one (`ENOENT` is 2).
    pub errno: Option<i32>,
}

impl Failure {
    /// A failure of `step` with the whole chain of causes of `error`; `errno` where the caller knows it.
    #[must_use]
    pub fn new(step: impl Into<String>, error: &dyn std::error::Error, errno: Option<i32>) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            reason.push_str(": ");
            reason.push_str(&inner.to_string());
            cause = inner.source();
        }
        Self { step: step.into(), reason, errno }
    }
}
