//! Ending a container's processes: asking first, then the kernel, never the monitor.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cleat_sys::cgroup::Cgroup;
use nix::sys::signal::Signal;
use tokio::sync::watch;
use tokio::time::Instant;

use super::pause::resume;
use crate::engine::container::{Container, ContainerState};
use crate::engine::error::{EngineError, Result};
use crate::engine::monitor::{Process, wait_for_monitor};
use crate::engine::shared::Shared;

/// How long a killed container may take to end before the caller is told. Only a process that the kernel cannot end
/// (uninterruptible sleep on a dead disk or server) takes that long.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// Sends `signal` and waits until `deadline`, which may be brought forward meanwhile; then kills. A paused container goes
/// on to see the signal.
pub(crate) async fn stop(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Process,
    signal: i32,
    mut deadline: watch::Receiver<Instant>,
) -> Result<()> {
    if *deadline.borrow() > Instant::now() {
        signal_process(process, signal)?;
        if matches!(container.state, ContainerState::Paused { .. }) {
            resume(shared, container).await?;
        }
        loop {
            let left = deadline.borrow_and_update().saturating_duration_since(Instant::now());
            tokio::select! {
                ended = process.ended_within(left) => {
                    if ended {
                        return Ok(());
                    }
                    break;
                }
                Ok(()) = deadline.changed() => {}
            }
        }
    }
    if !process.has_ended() {
        shared.tell_killed(container);
    }
    kill(shared, process, &container.cgroup).await
}

/// Kills every process of the container and waits for its end.
pub(crate) async fn kill(shared: &Arc<Shared>, process: &Process, cgroup: &str) -> Result<()> {
    if process.has_ended() {
        return Ok(());
    }
    signal_process(process, Signal::SIGKILL as i32)?;
    let path = cgroup.to_owned();
    shared.blocking(move |shared| kill_cgroup(shared, &path)).await?;
    if process.ended_within(KILL_LIMIT).await {
        return Ok(());
    }
    Err(EngineError::Timeout {
        what: format!("the end of killed process {}", process.pid()),
        limit: KILL_LIMIT,
        outcome: "; the kernel cannot end it: look at its wchan and at the storage it uses",
    })
}

/// Waits for the end of a container's monitor, so that what is removed is gone as a whole; without a handle of its process
/// it is known by its state folder. One that lingers is told of and left alone: it holds nothing but itself.
pub(crate) fn await_monitor(process: Option<&Process>, state_dir: &Path) -> io::Result<()> {
    let is_gone = match process {
        Some(process) => process.wait_for_monitor()?,
        None => wait_for_monitor(state_dir)?,
    };
    if !is_gone {
        tracing::warn!(folder = %state_dir.display(), "the monitor of a container that has ended lingers");
    }
    Ok(())
}

/// Kills everything in a cgroup, which may be gone.
pub(crate) fn kill_cgroup(shared: &Shared, path: &str) -> Result<()> {
    Cgroup::open(&shared.cgroups, path)
        .and_then(|cgroup| cgroup.kill())
        .map_err(|error| EngineError::step("kill the processes", format!("cgroup {path}"), &error))
}

fn signal_process(process: &Process, signal: i32) -> Result<()> {
    process
        .signal(signal)
        .map_err(|error| EngineError::step("send a signal", format!("process {}", process.pid()), &error))
}
