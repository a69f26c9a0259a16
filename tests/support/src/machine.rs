//! What the machine is like that the tests run on, where it is not like a developer's: told by the environment, as
//! `hack/vm-test` does.
//!
//! - `CLEAT_TEST_SLOWNESS=10`: ten times slower, so that every limit is ten times as long
//! - `CLEAT_TEST_CGROUP_DRIVER=systemd`: systemd is process 1, and makes the cgroups
//! - `CLEAT_TEST_STORAGE`: a registry storage that has all images

use std::path::PathBuf;
use std::time::Duration;

/// `limit` for this machine.
#[must_use]
pub fn patience(limit: Duration) -> Duration {
    let slowness = std::env::var("CLEAT_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok());
    limit * slowness.unwrap_or(1)
}

/// Whether systemd is to make the cgroups.
#[must_use]
pub fn has_systemd_driver() -> bool {
    std::env::var_os("CLEAT_TEST_CGROUP_DRIVER").is_some_and(|driver| driver == "systemd")
}

/// The storage for a registry that needs nothing pushed.
pub(crate) fn full_storage() -> Option<PathBuf> {
    std::env::var_os("CLEAT_TEST_STORAGE").map(PathBuf::from)
}
