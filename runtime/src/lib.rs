//! An OCI runtime as a library.
//!
//! A caller (single-threaded: the monitor, or the `cleat-runtime` command) asks for a container or for one more
//! process in it. All heavy work is done by a forked child, so that the caller's heap never grows; what is born is the
//! caller's own child.
//!
//! ```text
//! caller ──fork──▶ builder: reads config.json, plans, makes the cgroup
//!    │                └─clone3(CLONE_PARENT, CLONE_INTO_CGROUP, new namespaces)─▶ init: mounts, pivot_root, identity
//!    │◀── Created { pid, pidfd, console, .. } ──┘ (builder ends)                    │ waits at the gate
//!    └── StartGate::release ───────────────────────────────────────────────────────▶ execve
//! ```
#![forbid(unsafe_code)]

mod agent;
mod awaited_kill;
mod birth;
mod cgroups;
mod checkpoint;
mod failure;
mod foreign;
mod hooks;
mod network;
mod pending;
mod process;
mod procfs;
mod request;
mod resctrl;
mod rootfs;
pub mod seccomp;
mod selinux;
mod spec;
mod systemd;
mod target;

use std::path::Path;

use cleat_sys::cgroup::Cgroup;

use failure::Step;

pub use awaited_kill::AwaitedKill;
pub use checkpoint::{
    CgroupsMode, Checkpoint, CriuOptions, DumpOptions, PageServer, Restore, Restored, checkpoint, restore,
};
pub use failure::Failure;
pub use foreign::Foreign;
pub use hooks::{HookPoint, HookState, run_hooks};
pub use pending::{Created, Executed, PendingCreate, PendingExec, PendingStart, PendingUpdate, StartGate};
pub use request::{Create, CreateOptions, Exec, Gate, Rootfs, Stdio, SubCgroup};
pub use resctrl::ResctrlGroups;
pub use rootfs::SharedRoot;
pub use target::Target;

/// The OCI runtime specification this implements.
pub const OCI_VERSION: &str = "1.3.0";

/// Starts creating a container. The caller must be single-threaded (`EBUSY` otherwise).
pub fn spawn_create(request: &Create<'_>) -> Result<PendingCreate, Failure> {
    PendingCreate::begin(|layout, caller| birth::create(request, layout, caller))
}

/// Whether `id` can name a container: 1 to 255 characters of `[A-Za-z0-9_+.-]`, neither `.` nor `..`.
pub fn check_id(id: &str) -> Result<(), Failure> {
    spec::check_id(id).step(|| "check the id")
}

/// Starts one more process in a container. The caller must be single-threaded (`EBUSY` otherwise).
pub fn spawn_exec(target: &Target, exec: &Exec<'_>) -> Result<PendingExec, Failure> {
    birth::in_child(|caller| birth::exec(target, exec, caller)).map(PendingExec)
}

/// Starts changing a container's limits, as [`update`], in a forked child. The caller must be single-threaded (`EBUSY`
/// otherwise).
pub fn spawn_update(cgroup: &Cgroup, resources_json: &str) -> Result<PendingUpdate, Failure> {
    let work = |_: &birth::Channel| {
        let done = cgroups::update(cgroup, resources_json).map_err(|failure| (failure, None));
        done.map(|()| (birth::Answer::Done, Vec::new()))
    };
    birth::in_child(work).map(PendingUpdate)
}

/// Starts taking a checkpoint, as [`checkpoint()`], in a forked child. Whoever gives it up leaves criu to finish: it lets
/// the container go on. The caller must be single-threaded (`EBUSY` otherwise).
pub fn spawn_checkpoint(asked: &Checkpoint<'_>) -> Result<PendingUpdate, Failure> {
    let work = |_: &birth::Channel| {
        let done = checkpoint(asked).map_err(|failure| (birth::shortened(failure), None));
        done.map(|()| (birth::Answer::Done, Vec::new()))
    };
    birth::in_child(work).map(PendingUpdate)
}

/// Starts running the hooks of a point of a container's life, as its `config.json` in `bundle` has them, in a forked child.
/// `pid`: its init, for as long as that runs. The caller must be single-threaded (`EBUSY` otherwise).
pub fn spawn_hooks(
    point: HookPoint,
    id: &str,
    bundle: &Path,
    pid: Option<i32>,
) -> Result<PendingUpdate, Failure> {
    let work = |_: &birth::Channel| {
        let done = hooks::run_of_bundle(point, id, bundle, pid);
        done.map(|()| (birth::Answer::Done, Vec::new())).map_err(|failure| (birth::shortened(failure), None))
    };
    birth::in_child(work).map(PendingUpdate)
}

/// Removes a container's cgroup after the end of all its processes; of a scope of systemd's, the unit. Absent is fine.
pub fn remove_cgroup(cgroup: &Cgroup) -> Result<(), Failure> {
    cgroups::remove(cgroup)
}

/// Takes away, after a container's end, what is mounted for it where others live. Absent is fine. The caller must be
/// single-threaded (`EBUSY` otherwise).
pub fn release_root(root: &SharedRoot) -> Result<(), Failure> {
    let work = |_: &birth::Channel| {
        root.take_away().map(|()| (birth::Answer::Done, Vec::new())).map_err(|failure| (failure, None))
    };
    birth::in_child(work).map(PendingUpdate)?.finish()
}

/// Changes limits: `linux.resources` of the OCI specification as JSON text. All of it or nothing: the old values are
/// put back when one write fails.
pub fn update(cgroup: &Cgroup, resources_json: &str) -> Result<(), Failure> {
    cgroups::update(cgroup, resources_json)
}
