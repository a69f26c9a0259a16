//! Running one more process in a container and collecting what it prints.
//!
//! The daemon makes the pipes and hands their far ends to the monitor, which hands them to the process: no byte of
//! output passes through the monitor, and a daemon that dies takes the process with it (`kill_on_disconnect`).

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cleat_conmon_proto::{Exec, ExecStdio, ExitStatus, Message, Request};
use nix::errno::Errno;
use oci_spec::runtime::Spec;
use tokio::net::unix::pipe;
use tokio::time::{Instant, timeout, timeout_at};

use super::container::Container;
use super::error::{EngineError, Result};
use super::monitor::{Connection, MonitorError, Process};
use super::shared::Shared;
use crate::spec;

/// How long a killed exec may take to end before the caller is told anyway.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// Most bytes read from a pipe at once: a full pipe of the kernel's default size.
const CHUNK_BYTES: usize = 64 * 1024;

/// What an exec'd process printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExecOutput {
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: Vec<u8>,
    /// Exit code, or 128 plus the signal's number.
    pub code: i32,
    /// Whether more was printed than is kept.
    pub truncated: bool,
}

/// Runs `command` in a running container, for at most `limit`.
pub(super) async fn exec_sync(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Process,
    command: Vec<String>,
    limit: Option<Duration>,
) -> Result<ExecOutput> {
    let object = format!("container {}", container.id);
    let request = request(shared, container, process, &command).await?;
    let failed = |error: MonitorError| EngineError::step("execute a command", &object, &error);
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

async fn request(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Process,
    command: &[String],
) -> Result<Exec> {
    /// Names the execs of this daemon's life; the process id keeps them apart from those of an earlier one's.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let specification = process.exec_template().get_or_try_init(|| template(shared, container)).await?;
    let described = spec::exec_process(specification, command, false)
        .map_err(|error| EngineError::invalid("the command", &error))?;
    let described = serde_json::to_string(&described).map_err(|error| {
        EngineError::step("describe a command", format!("container {}", container.id), &error)
    })?;
    let id = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    Ok(Exec { id, process: described, stdio: ExecStdio::Descriptors, kill_on_disconnect: true })
}

/// The part of a container's specification that its execs take over, read once a container and daemon.
async fn template(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<Spec> {
    let path = shared.paths.container(&container.id).config();
    let text = tokio::fs::read(&path)
        .await
        .map_err(|error| EngineError::step("read the specification", path.display(), &error))?;
    let mut whole: Spec = serde_json::from_slice(&text)
        .map_err(|error| EngineError::step("understand the specification", path.display(), &error))?;
    let mut template = Spec::default();
    template.set_process(whole.process_mut().take());
    Ok(template)
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
    let deadline = Instant::now() + KILL_LIMIT;
    let killed = async {
        connection.send(&Request::KillExec, &[]).await?;
        while let Some(message) = connection.receive().await? {
            if matches!(message, Message::ExecExited { .. }) {
                return Ok(());
            }
        }
        Err(MonitorError::Gone)
    };
    match timeout_at(deadline, killed).await {
        Ok(Ok(())) => {
            EngineError::Timeout { what, limit, outcome: "; it was killed with everything it started" }
        }
        _ => EngineError::Timeout { what, limit, outcome: "; it was sent a kill, its end was not seen" },
    }
}

/// Both output streams and what was read of them.
struct Output {
    stdout: Stream,
    stderr: Stream,
    room: Room,
}

/// How much output is still kept.
struct Room {
    /// Bytes, of both streams together.
    bytes: usize,
    /// Whether there was more.
    exceeded: bool,
}

struct Stream {
    pipe: Option<pipe::Receiver>,
    kept: Vec<u8>,
}

impl Output {
    /// Pipes, and what the process gets: standard input (nothing), output and error.
    fn new(room: usize) -> io::Result<(Self, [OwnedFd; 3])> {
        let (out, out_ours) = pipe_pair()?;
        let (err, err_ours) = pipe_pair()?;
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        let room = Room { bytes: room, exceeded: false };
        let output = Self { stdout: out_ours, stderr: err_ours, room };
        Ok((output, [null.into(), out, err]))
    }

    /// Reads what one of the streams has; pending for ever when both have ended.
    async fn read(&mut self) -> io::Result<()> {
        let (out, err) = (&self.stdout, &self.stderr);
        let from_stdout = tokio::select! {
            ready = out.readable() => { ready?; true }
            ready = err.readable() => { ready?; false }
        };
        let stream = if from_stdout { &mut self.stdout } else { &mut self.stderr };
        stream.take(&mut self.room)
    }

    /// Reads what is there and waits for nothing.
    fn drain(&mut self) -> io::Result<()> {
        self.stdout.drain(&mut self.room)?;
        self.stderr.drain(&mut self.room)
    }

    fn finish(self, status: ExitStatus) -> ExecOutput {
        ExecOutput {
            stdout: self.stdout.kept,
            stderr: self.stderr.kept,
            code: status.code(),
            truncated: self.room.exceeded,
        }
    }
}

impl Stream {
    async fn readable(&self) -> io::Result<()> {
        match &self.pipe {
            Some(pipe) => pipe.readable().await,
            None => std::future::pending().await,
        }
    }

    /// Reads what the executor says is there.
    fn take(&mut self, room: &mut Room) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return Ok(()) };
        let mut chunk = [0; CHUNK_BYTES];
        match pipe.try_read(&mut chunk) {
            Ok(length) => self.keep(&chunk[..length], room),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads all that is there, whether the executor has noticed it yet or not.
    fn drain(&mut self, room: &mut Room) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        while let Some(pipe) = &self.pipe {
            match nix::unistd::read(pipe, &mut chunk) {
                Ok(length) => self.keep(&chunk[..length], room),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Keeps what has room; the rest is forgotten, so that the process can go on printing. Nothing read means the end.
    fn keep(&mut self, read: &[u8], room: &mut Room) {
        if read.is_empty() {
            self.pipe = None;
        }
        let length = read.len().min(room.bytes);
        self.kept.extend_from_slice(&read[..length]);
        room.bytes -= length;
        room.exceeded |= length < read.len();
    }
}

/// A pipe: the process's end, which blocks as every program expects, and ours, which does not.
fn pipe_pair() -> io::Result<(OwnedFd, Stream)> {
    let (reader, writer) = io::pipe()?;
    let pipe = Some(pipe::Receiver::from_owned_fd(reader.into())?);
    Ok((writer.into(), Stream { pipe, kept: Vec::new() }))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[tokio::test]
    async fn output_beyond_the_room_is_read_and_forgotten() {
        let (mut output, [_, out, err]) = Output::new(6).unwrap();
        std::fs::File::from(out).write_all(b"12345").unwrap();
        std::fs::File::from(err).write_all(b"abc").unwrap();
        output.drain().unwrap();
        let got = output.finish(ExitStatus::Exited(0));
        assert_eq!(
            (got.stdout.as_slice(), got.stderr.as_slice(), got.truncated),
            (&b"12345"[..], &b"a"[..], true)
        );
    }

    #[tokio::test]
    async fn a_process_left_behind_does_not_hold_the_output() {
        let (mut output, [_, out, _err]) = Output::new(100).unwrap();
        let mut held = std::fs::File::from(out);
        held.write_all(b"said").unwrap();
        output.drain().unwrap();
        assert_eq!(output.stdout.kept, b"said");
    }
}
