//! A client at the streams of a container's own program.
//!
//! The monitor holds those streams, also for the log, and copies between them and pipes made here. What the container's
//! configuration says counts, not what a client asks for: without `stdin` there is no input, a terminal has no `stderr`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use cleat_conmon_proto::{Attach, Request};

use super::container::{Container, ContainerState};
use super::error::{EngineError, Result};
use super::monitor::{self, Connection, MonitorError, Process};
use super::pipe::{Flow, Pipe};
use super::session::{Ending, Resizer, Session, Streams};
use super::shared::Shared;

/// Exit code of a container whose end nobody recorded.
const UNKNOWN_CODE: i32 = 255;

/// How long after its monitor's end a container's end may take to be committed.
const COMMIT_LIMIT: Duration = Duration::from_secs(5);

/// Attaches a client that wants `streams`. One that reads nothing for longer than `stall_limit` is cut off; without a
/// limit it holds the container's output up, as a terminal that is stopped does.
pub(super) async fn attach_session(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Arc<Process>,
    streams: Streams,
    stall_limit: Option<Duration>,
) -> Result<Session> {
    let object = || format!("container {}", container.id);
    let failed = |error: MonitorError| EngineError::step("attach to", object(), &error);
    let available = available(streams, container);
    let [stdin, stdout, stderr] = pipes(available).map_err(|error| failed(MonitorError::Execute(error)))?;
    let request = Request::Attach(Attach {
        stdin: available.stdin,
        stdout: available.stdout,
        stderr: available.stderr,
        stall_limit_ms: stall_limit.map(|limit| u32::try_from(limit.as_millis()).unwrap_or(u32::MAX)),
    });
    let theirs: Vec<BorrowedFd<'_>> =
        [&stdin, &stdout, &stderr].into_iter().flatten().map(|pipe| pipe.theirs.as_fd()).collect();
    let mut connection = process.connect().await.map_err(failed)?;
    let answer = connection.ask(&request, &theirs).await.map_err(failed)?;
    monitor::done(answer).map_err(failed)?;
    let ours = |pipe: Option<Pipe>| -> Option<OwnedFd> { pipe.map(|pipe| pipe.ours) };
    let resizer = if container.config.tty { Resizer::Container(process.clone()) } else { Resizer::Nothing };
    let ending = Ending::Container(ContainerEnd {
        shared: shared.clone(),
        container: container.clone(),
        process: process.clone(),
        attachment: connection,
    });
    Ok(Session { stdin: ours(stdin), stdout: ours(stdout), stderr: ours(stderr), resizer, ending })
}

/// What there is of what a client wants.
fn available(wanted: Streams, container: &Container) -> Streams {
    Streams {
        stdin: wanted.stdin && container.config.stdin,
        stdout: wanted.stdout,
        stderr: wanted.stderr && !container.config.tty,
    }
}

fn pipes(wanted: Streams) -> io::Result<[Option<Pipe>; 3]> {
    let pipe = |wanted: bool, flow| wanted.then(|| Pipe::new(flow)).transpose();
    Ok([pipe(wanted.stdin, Flow::In)?, pipe(wanted.stdout, Flow::Out)?, pipe(wanted.stderr, Flow::Out)?])
}

/// The end of a container that a client is attached to.
pub(crate) struct ContainerEnd {
    shared: Arc<Shared>,
    container: Arc<Container>,
    process: Arc<Process>,
    /// Lasts as long as the attachment does.
    attachment: Connection,
}

impl ContainerEnd {
    /// Waits until the end is committed, and gives the exit code. May be dropped and called again.
    ///
    /// # Errors
    /// When the monitor has cut the client off.
    pub(crate) async fn wait(&mut self) -> Result<i32> {
        tokio::select! {
            biased;
            () = self.process.ended() => {}
            () = closed(&mut self.attachment) => {
                // The monitor leaves as well once the container has ended; the commit is on its way then.
                if !self.process.ended_within(COMMIT_LIMIT).await {
                    return Err(EngineError::Cancelled {
                        what: format!("the attachment to container {}", self.container.id),
                        why: "the client took none of its output for too long, or the monitor was killed",
                    });
                }
            }
        }
        let container = self.shared.board.view().containers.get(&self.container.id).cloned();
        Ok(match container.as_ref().map(|container| &container.state) {
            Some(ContainerState::Exited(exit)) => exit.code,
            // It has been removed since.
            _ => UNKNOWN_CODE,
        })
    }
}

/// Waits until the monitor closes `connection`.
async fn closed(connection: &mut Connection) {
    while matches!(connection.receive().await, Ok(Some(_))) {}
}
