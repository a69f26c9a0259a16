//! What the privileged tests of the runtime share: bundles of busybox, containers that clean up after themselves, and a
//! check that nothing was left behind.
//!
//! The tests use the command line that all OCI runtimes share; `OCI_RUNTIME=/path/to/runc` runs them against another
//! one. What only the library offers is tested by `library-caller`, a program of one thread.
#![forbid(unsafe_code)]

mod bundle;
mod container;
mod criu;
mod leaks;

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::OnceLock;

pub use bundle::Bundle;
pub use container::Container;
pub use criu::{assert_refused, checkpoint, criu_that, criu_works};
pub use leaks::assert_nothing_left;

/// The hard limit of every command a test runs, in seconds.
const TIME_LIMIT_SECONDS: &str = "30";

/// The runtime under test: `OCI_RUNTIME`, else this workspace's, built once.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn runtime() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(other) = std::env::var_os("OCI_RUNTIME") {
        return other.into();
    }
    BUILT.get_or_init(build_runtime).clone()
}

fn build_runtime() -> PathBuf {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "cleat-runtime"]).status();
    assert!(built.expect("cargo can be run").success(), "cleat-runtime does not build");
    // <target>/<profile>/deps/<test>
    let own = std::env::current_exe().expect("a test has a path");
    let profile = own.parent().and_then(|deps| deps.parent()).expect("a test lies in deps");
    profile.join("cleat-runtime")
}

/// A command with the tests' time limit.
#[must_use]
pub fn limited(program: &std::path::Path) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", TIME_LIMIT_SECONDS]).arg(program);
    command
}

/// What a command wrote to both streams, for messages and searches.
#[must_use]
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
