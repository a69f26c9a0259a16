//! A failed step as data: it crosses the process boundary between the forked child and its caller.

use std::fmt::Display;

use serde::{Deserialize, Serialize};

/// A failed step of the runtime.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{step}: {reason}")]
pub struct Failure {
    /// What was being done and to what: `mount tmpfs on /dev/shm`, `execute /bin/foo`.
    pub step: String,
    /// Why it failed, from the outermost cause to the innermost, joined by `: `.
    pub reason: String,
    /// The kernel's error number at the bottom of it, where there was one (`ENOENT` is 2).
    pub errno: Option<i32>,
}

impl Failure {
    /// A failure of `step` with the whole chain of causes of `error`, and the error number at its bottom.
    #[must_use]
    pub fn new(step: impl Into<String>, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut reason = error.to_string();
        let mut errno = os_error(error);
        let mut cause = error.source();
        while let Some(inner) = cause {
            reason.push_str(": ");
            reason.push_str(&inner.to_string());
            errno = errno.or_else(|| os_error(inner));
            cause = inner.source();
        }
        Self { step: step.into(), reason, errno }
    }

    /// A failure that no error value stands behind.
    #[must_use]
    pub fn because(step: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { step: step.into(), reason: reason.into(), errno: None }
    }
}

fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let io = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    io.or_else(|| error.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error()))
}

/// Names the step that a result belongs to.
pub(crate) trait Step<T> {
    /// The value, or a [`Failure`] of the step that `name` gives (evaluated on failure only).
    fn step<N: Display>(self, name: impl FnOnce() -> N) -> Result<T, Failure>;
}

impl<T, E: std::error::Error + 'static> Step<T> for Result<T, E> {
    fn step<N: Display>(self, name: impl FnOnce() -> N) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(name().to_string(), &error))
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_error_number_is_found_at_the_bottom_of_the_chain() {
        #[derive(Debug, thiserror::Error)]
        #[error("open the door")]
        struct Outer(#[source] io::Error);

        let failure = Failure::new("enter", &Outer(io::Error::from_raw_os_error(13)));
        assert_eq!(failure.errno, Some(13));
        assert!(failure.reason.starts_with("open the door: Permission denied"), "{failure}");
    }
}
