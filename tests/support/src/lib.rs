//! What the privileged tests share: guards that start real things and take them down again, and the leak checker.
//!
//! ```text
//! World      a network and a mount namespace of its own; everything else is started inside one
//!  ├─ Registry   Debian's docker-registry with the images of hack/test-images
//!  ├─ Dockerd    Debian's dockerd, to compare with
//!  ├─ Cleat      a cleatd with root, state, socket, cgroup and configuration of its own
//!  ├─ HungVolume a volume that does not answer
//!  └─ Crictl     the real crictl, pointed at that daemon; a Client or a Terminal is one that goes on beside the test
//! Snapshot   what exists in a scope (mounts, namespaces, cgroups, processes, ...); the difference of two is a leak
//! ```
//!
//! Guards clean up when dropped, also after a panic, and keep the daemon's log then. Waiting is done on events (a
//! notification, a process's end), always with a limit. Programs come from `CLEAT_BIN_DIR`, else from
//! `target/cleat/bin` (`make build`). A program that is missing is an error: no test passes for want of its subject.
#![forbid(unsafe_code)]

mod binaries;
mod client;
mod crictl;
mod daemon;
mod dockerd;
mod hung;
mod leaks;
mod machine;
mod process;
mod registry;
mod world;

pub use binaries::{binary, repository, tool};
pub use client::{Client, Terminal};
pub use crictl::Crictl;
pub use daemon::{Cleat, CleatBuilder};
pub use dockerd::Dockerd;
pub use hung::HungVolume;
pub use leaks::{Finding, Leaks, Scope, Snapshot};
pub use machine::{has_systemd_driver, patience};
pub use process::{Ended, kill_and_wait, wait_limited};
pub use registry::{REGISTRY_PORT, Registry};
pub use world::{Propagation, World};
