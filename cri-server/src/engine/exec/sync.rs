//! Running a command to its end and collecting what it prints.
//!
//! A daemon that dies takes the process with it (`kill_on_disconnect`): nobody is left whom its answer could reach.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use cleat_conmon_proto::{ExecStdio, ExitStatus, Message, Request};
use tokio::time::timeout;

use super::collect::{ExecOutput, Output};
use super::{Kind, Place, kill};
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::monitor::{Connection, MonitorError, Process};
use crate::engine::shared::Shared;

/// Runs `command` in a running container, for at most `limit`.
pub(in crate::engine) async fn exec_sync(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Arc<Process>,
    command: Vec<String>,
    limit: Option<Duration>,
) -> Result<ExecOutput> {
    let place = Place::new(shared, container, process);
    let failed = |error: MonitorError| EngineError::step("execute a command", place.object(), &error);
    let kind = Kind { stdio: ExecStdio::Descriptors, kill_on_disconnect: true };
    let request = place.request(&command, kind).await?;
    let (mut output, theirs) = Output::new(shared.settings.exec_output_bytes)
        .map_err(|error| failed(MonitorError::Execute(error)))?;
    let mut connection = process.connect().await.map_err(failed)?;
    let descriptors: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    connection.send(&Request::Exec(request), &descriptors).await.map_err(failed)?;
    drop(theirs);
    let ended = wait(&mut connection, &mut output);
    let status = match limit {
        None => ended.await.map_err(failed)?,
        Some(limit) => match timeout(limit, ended).await {
            Ok(ended) => ended.map_err(failed)?,
            Err(_) => return Err(give_up(&mut connection, limit).await),
        },
    };
    Ok(output.finish(status))
}

/// Reads the output until the process has ended and all it printed is read. A process that it left behind may hold the
/// pipes: what is in them when it ends is all there is to wait for.
async fn wait(
    connection: &mut Connection,
    output: &mut Output,
) -> std::result::Result<ExitStatus, MonitorError> {
    loop {
        tokio::select! {
            biased;
            message = connection.receive() => match message?.ok_or(MonitorError::Gone)? {
                Message::Created { .. } => {}
                Message::Failed(failure) => return Err(MonitorError::Failed(failure)),
                Message::ExecExited { status } => {
                    output.drain().map_err(MonitorError::Receive)?;
                    return Ok(status);
                }
                other => return Err(MonitorError::Unexpected(Box::new(other))),
            },
            read = output.read() => read.map_err(MonitorError::Receive)?,
        }
    }
}

/// Kills the process and all it started, and waits for the monitor to say that it has ended.
async fn give_up(connection: &mut Connection, limit: Duration) -> EngineError {
    let what = "the command".to_owned();
    let outcome = match kill(connection).await {
        true => "; it was killed with everything it started",
        false => "; it was sent a kill, its end was not seen",
    };
    EngineError::Timeout { what, limit, outcome }
}
