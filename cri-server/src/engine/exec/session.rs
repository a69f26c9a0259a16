//! A command with a client at its streams.
//!
//! A client that leaves, and a daemon that dies, are the same to the process, as to one at the end of a network login:
//! its pipes are closed (input ends, the next write is `EPIPE`), or its terminal hangs up (`SIGHUP`). It is not killed: a
//! command that ignores all that was meant to go on.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cleat_conmon_proto::{ExecStdio, Message, Request};
use rustix::io::Errno;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

use super::{Kind, Place};
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::UserChoice;
use crate::engine::monitor::{Connection, MonitorError, Process};
use crate::engine::pipe::{Flow, Pipe, set_nonblocking};
use crate::engine::session::{Ending, Resizer, Session, Streams, TerminalSize};
use crate::engine::shared::Shared;

/// Bytes of unwanted output read at a time: a terminal gives no more at once.
const DISCARD_BYTES: usize = 4096;

/// A command to be run for a client.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// Which streams the client wants; a terminal has no `stderr`.
    pub streams: Streams,
    /// A terminal of this size in place of pipes.
    pub terminal: Option<TerminalSize>,
    /// Variables besides the container's, as `NAME=value`.
    pub environment: Vec<String>,
    /// The working folder, if not the container's.
    pub working_dir: Option<String>,
    /// Who it runs as, if not as the container's program does.
    pub user: Option<UserChoice>,
    /// Whether it may do what the daemon may.
    pub privileged: bool,
}

/// Starts `command` in a running container.
pub(in crate::engine) async fn exec_session(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Arc<Process>,
    command: Command,
) -> Result<Session> {
    let place = Place::new(shared, container, process);
    match command.terminal {
        Some(size) => with_terminal(&place, &command, size).await,
        None => with_pipes(&place, &command).await,
    }
}

async fn with_pipes(place: &Place<'_>, command: &Command) -> Result<Session> {
    let failed = |error: MonitorError| EngineError::step("execute a command", place.object(), &error);
    let Pipes { ours: [stdin, stdout, stderr], theirs } =
        Pipes::new(command.streams).map_err(|error| failed(MonitorError::Execute(error)))?;
    let kind = Kind { stdio: ExecStdio::Descriptors, kill_on_disconnect: false };
    let (connection, _) = start(place, command, kind, &theirs).await?;
    let ending = Ending::Exec(ExecEnd { connection, code: None, unwanted: None });
    Ok(Session { stdin, stdout, stderr, resizer: Resizer::Nothing, ending })
}

async fn with_terminal(place: &Place<'_>, command: &Command, size: TerminalSize) -> Result<Session> {
    let failed = |error| EngineError::step("make a terminal", place.object(), &MonitorError::Execute(error));
    let stdio = ExecStdio::Terminal { height: size.rows, width: size.columns };
    let kind = Kind { stdio, kill_on_disconnect: false };
    let (connection, master) = start(place, command, kind, &[]).await?;
    let master = master.ok_or_else(|| failed(Errno::NOTTY.into()))?;
    set_nonblocking(&master).map_err(failed)?;
    let copy = |wanted: bool| wanted.then(|| master.try_clone()).transpose().map_err(failed);
    let (stdin, stdout) = (copy(command.streams.stdin)?, copy(command.streams.stdout)?);
    // Unread, it would stop the process as soon as the terminal is full.
    let unwanted = match &stdout {
        Some(_) => None,
        None => copy(true)?.map(to_read).transpose().map_err(failed)?,
    };
    let ending = Ending::Exec(ExecEnd { connection, code: None, unwanted });
    Ok(Session { stdin, stdout, stderr: None, resizer: Resizer::Own(Arc::new(master)), ending })
}

/// Has the monitor start the process; gives the connection that will tell its end, and its terminal's master side.
async fn start(
    place: &Place<'_>,
    command: &Command,
    kind: Kind,
    streams: &[OwnedFd],
) -> Result<(Connection, Option<OwnedFd>)> {
    let failed = |error: MonitorError| EngineError::step("execute a command", place.object(), &error);
    let request = place.request_as(command, kind).await?;
    let mut connection = place.process.connect().await.map_err(failed)?;
    let descriptors: Vec<_> = streams.iter().map(AsFd::as_fd).collect();
    match connection.ask(&Request::Exec(request), &descriptors).await.map_err(failed)? {
        Message::Created { .. } => {
            let master = connection.take_descriptor();
            Ok((connection, master))
        }
        Message::Failed(failure) => Err(failed(MonitorError::Failed(failure))),
        other => Err(failed(MonitorError::Unexpected(Box::new(other)))),
    }
}

/// The end of an exec'd process.
pub(crate) struct ExecEnd {
    connection: Connection,
    code: Option<i32>,
    /// A terminal whose output nobody wants.
    unwanted: Option<pipe::Receiver>,
}

impl ExecEnd {
    /// Waits for the exit code. May be dropped and called again.
    pub(crate) async fn wait(&mut self) -> Result<i32> {
        loop {
            if let Some(code) = self.code {
                return Ok(code);
            }
            let failed = |error| EngineError::step("wait for the end", "a command", &error);
            tokio::select! {
                message = self.connection.receive() => match message.map_err(failed)? {
                    Some(Message::ExecExited { status }) => self.code = Some(status.code()),
                    Some(other) => return Err(failed(MonitorError::Unexpected(Box::new(other)))),
                    None => return Err(failed(MonitorError::Gone)),
                },
                ended = discard(self.unwanted.as_mut()) => {
                    tracing::trace!(?ended, "a terminal that nobody reads has ended");
                    self.unwanted = None;
                }
            }
        }
    }
}

/// The executor's type for something to read that does not block. It is no pipe, and read the same way.
fn to_read(master: OwnedFd) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_file_unchecked(master.into())
}

/// Reads and forgets, until the end; pending for ever without anything to read.
async fn discard(source: Option<&mut pipe::Receiver>) -> io::Result<()> {
    let Some(source) = source else { return std::future::pending().await };
    let mut bytes = [0; DISCARD_BYTES];
    while source.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// The pipes of an exec without a terminal.
struct Pipes {
    /// Our ends of standard input, output and error, where they are wanted.
    ours: [Option<OwnedFd>; 3],
    /// What the process gets.
    theirs: [OwnedFd; 3],
}

impl Pipes {
    fn new(wanted: Streams) -> io::Result<Self> {
        let (stdin, input) = stream(wanted.stdin, Flow::In)?;
        let (stdout, output) = stream(wanted.stdout, Flow::Out)?;
        let (stderr, error) = stream(wanted.stderr, Flow::Out)?;
        Ok(Self { ours: [stdin, stdout, stderr], theirs: [input, output, error] })
    }
}

/// A pipe; or, where the stream is not wanted, nothing to read and room for everything.
fn stream(wanted: bool, flow: Flow) -> io::Result<(Option<OwnedFd>, OwnedFd)> {
    if wanted {
        return Pipe::new(flow).map(|pipe| (Some(pipe.ours), pipe.theirs));
    }
    let null = OpenOptions::new().read(flow == Flow::In).write(flow == Flow::Out).open("/dev/null")?;
    Ok((None, null.into()))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn what_is_not_wanted_is_nothing() {
        let Pipes { ours, theirs: [input, output, error] } = Pipes::new(Streams::default()).unwrap();
        assert!(ours.iter().all(Option::is_none));
        let mut text = Vec::new();
        std::fs::File::from(input).read_to_end(&mut text).unwrap();
        assert!(text.is_empty());
        for descriptor in [output, error] {
            std::fs::File::from(descriptor).write_all(b"x").unwrap();
        }
    }
}
