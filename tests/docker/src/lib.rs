//! What the tests of the Docker door share: a daemon that serves it, the real `docker` and `curl` pointed at it, and the
//! leak checker.
//!
//! ```text
//! check(body)   starts the engine, runs the body, removes every container, network and image, then looks for leaks
//! Engine        a cleatd with a registry and the Docker Engine API
//!  ├─ docker    the command line: its exit code and both its outputs
//!  └─ curl      one request
//! ```
#![forbid(unsafe_code)]

mod engine;

pub use engine::{Engine, Said, check};

/// Busybox in the registry of the tests.
pub const BUSYBOX: &str = "127.0.0.1:5000/cleat-test/busybox:1";
