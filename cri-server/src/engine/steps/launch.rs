//! Launching a monitor and letting its container begin: the same for a pod's pause process and a container's program.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use cleat_conmon_proto::{Launch, Request};

use crate::engine::monitor::{Connection, Launched, Launcher, MonitorError, Process, done};

/// A container whose program runs.
pub(crate) struct Running {
    /// Its init.
    pub process: Arc<Process>,
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

/// A container that is made, its program not executed yet.
pub(super) struct Made {
    launched: Launched,
    /// Its init.
    pub process: Arc<Process>,
}

/// Makes the container of `launch` and executes its program.
pub(super) async fn launch(launcher: &Launcher, launch: &Launch) -> Result<Running, LaunchFailure> {
    make(launcher, launch).await?.execute().await
}

/// Makes the container of `launch`.
pub(super) async fn make(launcher: &Launcher, launch: &Launch) -> Result<Made, LaunchFailure> {
    let launched = launcher.launch(launch).await.map_err(LaunchFailure::Create)?;
    let process =
        Process::hold(launched.pid, launched.monitor(), &launch.state_dir).map_err(LaunchFailure::Create)?;
    Ok(Made { launched, process: Arc::new(process) })
}

impl Made {
    /// Executes the program.
    pub(super) async fn execute(self) -> Result<Running, LaunchFailure> {
        let Self { mut launched, process } = self;
        let answer = launched.connection.ask(&Request::Start, &[]).await.map_err(LaunchFailure::Execute)?;
        done(answer).map_err(LaunchFailure::Execute)?;
        Ok(Running { process, connection: launched.let_go() })
    }
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
