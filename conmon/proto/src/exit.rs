//! How a container ended, as the monitor wrote it down before it told anybody.

use serde::{Deserialize, Serialize};

/// The end of a container, written to [`crate::EXIT_RECORD_NAME`] before it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Protocol version of the monitor that wrote it.
    pub version: u32,
    /// The container's id.
    pub id: String,
    /// Process id of the container's init in the monitor's pid namespace.
    pub pid: i32,
    /// How init ended.
    pub status: ExitStatus,
    /// Whether the kernel's OOM killer ended a process of this container (read from the cgroup before its removal).
    pub oom_killed: bool,
    /// When init executed the program, nanoseconds since the Unix epoch; 0 if it was never started.
    pub started_at_ns: i64,
    /// When the monitor saw init end, nanoseconds since the Unix epoch.
    pub finished_at_ns: i64,
}

/// How a process ended, as `waitid(2)` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

impl ExitStatus {
    /// The code a shell, the CRI and Docker report: the exit code, or 128 plus the signal's number.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_reported_as_128_plus_its_number() {
        assert_eq!(ExitStatus::Exited(3).code(), 3);
        assert_eq!(ExitStatus::Signaled(9).code(), 137);
    }
}
