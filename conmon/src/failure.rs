//! Failures as the protocol carries them.

use std::error::Error;
use std::io;

use cleat_conmon_proto::Failure;

/// A failure of the runtime, said to a client.
pub(crate) fn failed(failure: cleat_runtime::Failure) -> Failure {
    Failure { step: failure.step, reason: failure.reason, errno: failure.errno }
}

/// A failure that no error stands behind: what was asked for cannot be had.
pub(crate) fn refused(step: &str, reason: &str) -> Failure {
    Failure { step: step.into(), reason: reason.into(), errno: None }
}

/// A failure of `step` because of `error`, with the kernel's number from the bottom of its causes.
pub(crate) fn caused(step: &str, error: &(dyn Error + 'static)) -> Failure {
    let mut errno = None;
    let mut cause = Some(error);
    while let Some(error) = cause {
        errno = errno.or_else(|| error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error));
        cause = error.source();
    }
    Failure::new(step, error, errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogError;

    #[test]
    fn the_number_comes_from_the_bottom() {
        let error = LogError::Open { path: "/x".into(), source: io::Error::from_raw_os_error(28) };
        let failure = caused("reopen log", &error);
        assert_eq!(failure.errno, Some(28));
        assert!(failure.to_string().starts_with("reopen log: open log file /x: No space"), "{failure}");
    }
}
