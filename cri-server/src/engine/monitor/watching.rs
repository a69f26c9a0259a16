//! Waiting for the end of a container, which its monitor tells.
//!
//! A monitor may live and not answer: stopped by a signal or by somebody's freezer, or stuck. Its container runs all the
//! same, so nobody concludes anything from the silence. Its end alone is seen by the daemon itself, too, so that a stop
//! needs no monitor: what the monitor does not tell within a time after that is not known.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cleat_conmon_proto::{Message, Request};

use super::process::{monitor_of, recorded_end};
use super::{Connection, End, MonitorError, Process};
use crate::engine::chain;

/// How long a monitor may take to tell of an end that the daemon has seen: it waits two seconds at most for output that a
/// process outside the container holds, and writes the record. Less than a kill waits for an end.
const TELL_LIMIT: Duration = Duration::from_secs(12);

/// How often a monitor whose queue of connections is full is tried again: no event tells that it goes on.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The process `pid`, if the monitor in `state_dir` lives and still has it; and the connection that will tell of its end,
/// unless the monitor takes none now.
pub(crate) async fn reach(
    pid: i32,
    state_dir: &Path,
) -> Result<(Arc<Process>, Option<Connection>), MonitorError> {
    let (monitor, connection) = match connect(state_dir).await {
        Ok(connection) => (connection.peer_pid(), Some(connection)),
        Err(MonitorError::Connect { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
            let found = monitor_of(pid, state_dir).map_err(|source| MonitorError::Hold { pid, source })?;
            tracing::warn!(folder = %state_dir.display(), "a monitor lives and does not answer; its container is kept");
            (found, None)
        }
        Err(error) => return Err(error),
    };
    let process = Process::hold(pid, monitor.ok_or(MonitorError::Gone)?, state_dir)?;
    Ok((Arc::new(process), connection))
}

/// A connection to the monitor in `state_dir` that will tell of its container's end.
async fn connect(state_dir: &Path) -> Result<Connection, MonitorError> {
    let failed = |source| MonitorError::Connect { path: state_dir.to_owned(), source };
    let mut connection = Connection::open(state_dir).await.map_err(failed)?;
    connection.send(&Request::Watch, &[]).await?;
    Ok(connection)
}

/// Waits for the end of `process`, of which `connection` will tell if there is one yet.
pub(crate) async fn watch_end(process: Arc<Process>, connection: Option<Connection>) -> End {
    let seen = async {
        if let Err(error) = process.dead().await {
            tracing::warn!(pid = process.pid(), %error, "only its monitor can tell when the process ends");
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(TELL_LIMIT).await;
    };
    tokio::select! {
        end = told(process.state_dir(), connection) => end,
        () = seen => match recorded_end(process.state_dir()) {
            End::Lost => {
                tracing::warn!(pid = process.pid(), "the monitor of a process that has ended does not tell how");
                End::Untold
            }
            end => end,
        },
    }
}

/// The end that the monitor tells.
async fn told(state_dir: &Path, connection: Option<Connection>) -> End {
    let mut connection = match connection {
        Some(connection) => connection,
        None => match connect_again(state_dir).await {
            Some(connection) => connection,
            None => return recorded_end(state_dir),
        },
    };
    loop {
        match connection.receive().await {
            Ok(Some(Message::Exited(record))) => return End::Recorded(record),
            Ok(Some(_)) => {}
            Ok(None) => return recorded_end(state_dir),
            Err(error) => {
                tracing::warn!(folder = %state_dir.display(), error = %chain(&error), "lost a monitor");
                return recorded_end(state_dir);
            }
        }
    }
}

/// A connection to a monitor that took none, as soon as it does; none when it is gone.
async fn connect_again(state_dir: &Path) -> Option<Connection> {
    loop {
        match connect(state_dir).await {
            Ok(connection) => {
                tracing::info!(folder = %state_dir.display(), "a monitor answers again");
                return Some(connection);
            }
            Err(MonitorError::Connect { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Err(error) => {
                tracing::warn!(folder = %state_dir.display(), error = %chain(&error), "lost a monitor");
                return None;
            }
        }
    }
}
