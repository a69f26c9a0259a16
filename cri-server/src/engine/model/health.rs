//! How it is found out whether a container is well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A command that is run in a container again and again while it runs: its exit code 0 says that the container is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthCheck {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// From the end of one probe to the beginning of the next, and before the first.
    pub interval: Duration,
    /// How long a probe may run.
    pub timeout: Duration,
    /// For how long after its start a container that never was well may fail without its counting.
    pub start_period: Duration,
    /// In place of `interval` in that time.
    pub start_interval: Duration,
    /// How many failures in a row make it unhealthy.
    pub retries: u32,
}
