//! Starting a container: its monitor is launched, its program executed.

use std::path::PathBuf;
use std::sync::Arc;

use cleat_conmon_proto::{Launch, Log, Rootfs, Rotation, Stdin, VERSION};
use cleat_image::Snapshotter;
use nix::errno::Errno;
use tokio_util::sync::CancellationToken;

use super::joined;
use super::launch::{LaunchFailure, Running, make, make_state_dir};
use super::stop::await_monitor;
use super::take_down_pod::{empty_cgroup, remove_cgroup};
use crate::engine::attach::attach_session;
use crate::engine::container::{Container, Exit, ExitReason};
use crate::engine::error::{EngineError, Result, chain};
use crate::engine::model::{ContainerConfig, LogRotation};
use crate::engine::monitor::{MonitorError, Process};
use crate::engine::shared::Shared;
use crate::engine::waiting::Early;
use crate::time::now_ns;

/// Exit code of a container that could not be made, as containerd and CRI-O report it.
const CODE_NOT_MADE: i32 = 128;
/// Exit code of a program that exists and cannot be executed, as shells and Docker report it.
const CODE_NOT_EXECUTABLE: i32 = 126;
/// Exit code of a program that does not exist, as shells and Docker report it.
const CODE_NOT_FOUND: i32 = 127;

/// A started container.
pub(crate) struct Started {
    /// Its init and the connection that will tell of its end.
    pub running: Running,
    /// When its program was executed, nanoseconds since the Unix epoch.
    pub started_at_ns: i64,
}

/// A start that failed; nothing of it is left.
pub(crate) struct StartFailure {
    /// What the caller is told.
    pub error: EngineError,
    /// How the container has ended by it.
    pub exit: Exit,
}

/// Starts `container`; given up when `cancelled` says so.
pub(crate) async fn start_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    cancelled: CancellationToken,
) -> std::result::Result<Started, Box<StartFailure>> {
    let outcome = tokio::select! {
        outcome = launch_container(shared, container) => outcome,
        () = cancelled.cancelled() => Err((cancelled_error(container), CODE_NOT_MADE)),
    };
    match outcome {
        Ok(running) => Ok(Started { running, started_at_ns: now_ns() }),
        Err((error, code)) => {
            undo(shared, container).await;
            let exit = Exit {
                code,
                reason: ExitReason::StartError,
                message: error.to_string(),
                started_at_ns: 0,
                finished_at_ns: now_ns(),
            };
            Err(Box::new(StartFailure { error, exit }))
        }
    }
}

async fn launch_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
) -> std::result::Result<Running, (EngineError, i32)> {
    shared.written.check_free(&container.id).map_err(|error| (error, CODE_NOT_MADE))?;
    let order = {
        let container = container.clone();
        shared
            .blocking(move |shared| order(shared, &container))
            .await
            .map_err(|error| (error, CODE_NOT_MADE))?
    };
    let object = format!("container {}", container.id);
    let started = async {
        let made = make(&shared.launcher, &order).await?;
        attach_waiting(shared, container, &made.process).await;
        made.execute().await
    };
    started.await.map_err(|failure| match failure {
        LaunchFailure::Create(error) => (EngineError::step("start", object, &error), CODE_NOT_MADE),
        LaunchFailure::Execute(error) => {
            let code = code_of(&error);
            (EngineError::step("execute the program", object, &error), code)
        }
    })
}

/// Attaches the clients that came before the program, so that they get its first byte.
async fn attach_waiting(shared: &Arc<Shared>, container: &Arc<Container>, process: &Arc<Process>) {
    for Early { streams, stall_limit, reply } in shared.waiting.take_clients(&container.id, process) {
        let session = attach_session(shared, container, process, streams, stall_limit).await;
        if reply.send(session).is_err() {
            tracing::debug!(container = %container.id, "a client left before the program it was to be attached to");
        }
    }
}

/// What the monitor is to do.
fn order(shared: &Shared, container: &Container) -> Result<Launch> {
    let object = || format!("container {}", container.id);
    let snapshot = shared
        .snapshots
        .get(container.id.as_str())
        .map_err(|error| EngineError::step("find the writable layer", object(), &error))?
        .ok_or_else(|| EngineError::NotFound {
            kind: "snapshot",
            name: container.id.to_string(),
            list: "ps -a",
        })?;
    let paths = shared.paths.container(&container.id);
    // The monitor of the run before removes the cgroup at its end: not the one that this run makes.
    await_monitor(None, &paths.state)
        .map_err(|error| EngineError::step("wait for the monitor", object(), &error))?;
    make_state_dir(&paths.state)
        .map_err(|error| EngineError::step("make the state folder", object(), &error))?;
    joined::refresh(shared, container)?;
    let config = &container.config;
    Ok(Launch {
        version: VERSION,
        id: container.id.to_string(),
        bundle: paths.bundle,
        state_dir: paths.state,
        rootfs: Rootfs::Overlay { lower: snapshot.lower, upper: snapshot.upper, work: snapshot.work },
        log: container.log_path.clone().map(|path| Log::Cri { path, rotation: rotation(config) }),
        stdin: match (config.stdin, config.stdin_once) {
            (false, _) => Stdin::Null,
            (true, false) => Stdin::Open,
            (true, true) => Stdin::Once,
        },
        runtime: runtime(shared, container)?,
        terminal: config.tty,
    })
}

fn rotation(config: &ContainerConfig) -> Option<Rotation> {
    let LogRotation { max_bytes, files } = config.log_rotation?;
    Some(Rotation { max_bytes, files })
}

/// The program of the runtime that the pod's handler names; none for the default one.
fn runtime(shared: &Shared, container: &Container) -> Result<Option<PathBuf>> {
    let view = shared.board.view();
    let pod = view.pods.get(&container.pod);
    pod.map_or(Ok(None), |pod| shared.settings.runtime(&pod.config.runtime_handler))
}

fn code_of(error: &MonitorError) -> i32 {
    match error.errno().map(Errno::from_raw) {
        Some(Errno::ENOENT) => CODE_NOT_FOUND,
        Some(_) => CODE_NOT_EXECUTABLE,
        None => CODE_NOT_MADE,
    }
}

fn cancelled_error(container: &Container) -> EngineError {
    EngineError::Cancelled {
        what: format!("the start of container {}", container.id),
        why: "it was stopped or removed meanwhile",
    }
}

/// Removes what a failed start left. The caller is told why the start failed; a failure here is logged, and the
/// container's removal tries again.
async fn undo(shared: &Arc<Shared>, container: &Arc<Container>) {
    let path = container.cgroup.clone();
    let undone = shared
        .blocking(move |shared| {
            empty_cgroup(shared, &path)?;
            remove_cgroup(shared, &path)
                .map_err(|error| EngineError::step("remove the cgroup", format!("cgroup {path}"), &error))
        })
        .await;
    if let Err(error) = undone {
        tracing::warn!(container = %container.id, error = %chain(&error), "a failed start left something behind");
    }
}
