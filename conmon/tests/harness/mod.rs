//! A monitor under test: the real binary, started as the daemon starts it, over a container with a busybox.
//!
//! Needs root, cgroups and `/bin/busybox` (static). Everything carries one unique name; [`Fixture`] ends and removes it
//! when it is dropped, and fails the test where something is left behind.
#![allow(dead_code, unused_imports, reason = "each test program uses its own part of it")]

mod bundle;
mod client;
mod fixture;

pub(crate) use bundle::{Bundle, process};
pub(crate) use client::{Client, borrow, exec_request, null_streams, pipe};
pub(crate) use fixture::{Fixture, launch_of, sealed_monitor, spawn_monitor};

use std::time::{Duration, Instant};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; for what nothing reports.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
