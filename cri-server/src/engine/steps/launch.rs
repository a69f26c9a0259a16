//! Launching a monitor and letting its container begin: the same for a pod's pause process and a container's program.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use cleat_conmon_proto::{Launch, Request};

use crate::engine::monitor::{Connection, Launcher, MonitorError, Process, done};

/// A container whose program runs.
pub(crate) struct Running {
    /// Its init.
    pub process: Process,
    /// The connection that will tell of its end.
    pub connection: Connection,
}

/// Which half of a launch failed.
#[derive(Debug)]
pub(super) enum LaunchFailure {
    /// The container could not be made.
    Create(MonitorError),
    /// It was made, its program could not be executed.
    Execute(MonitorError),
}

/// Makes the container of `launch` and executes its program.
pub(super) async fn launch(launcher: &Launcher, launch: &Launch) -> Result<Running, LaunchFailure> {
    let mut launched = launcher.launch(launch).await.map_err(LaunchFailure::Create)?;
    let process =
        Process::hold(launched.pid, launched.monitor(), &launch.state_dir).map_err(LaunchFailure::Create)?;
    let answer = launched.connection.ask(&Request::Start, &[]).await.map_err(LaunchFailure::Execute)?;
    done(answer).map_err(LaunchFailure::Execute)?;
    Ok(Running { process, connection: launched.let_go() })
}

/// Makes a folder for a monitor's state that nobody else may look into; an old one is emptied.
pub(super) fn make_state_dir(path: &Path) -> io::Result<()> {
    super::cleanup::absent_is_fine(std::fs::remove_dir_all(path))?;
    make_private_dir(path)
}

/// Makes a folder, and its parents, with mode 0700.
pub(super) fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}
