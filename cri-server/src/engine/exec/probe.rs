//! A probe of a container's health: a command that is run to its end or its limit.
//!
//! Both its streams are one pipe, so that what it printed is in the order in which it did. The first bytes are kept, as
//! Docker keeps them, and the rest is read and forgotten: a probe that prints without end is ended by its limit. A daemon
//! that dies, or a container that is no longer to be probed, takes the process with it (`kill_on_disconnect`).

use std::fs::OpenOptions;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use cleat_conmon_proto::{ExecStdio, Message, Request};
use nix::errno::Errno;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::{Kind, Place, kill};
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result, chain};
use crate::engine::health::ProbeEnd;
use crate::engine::model::HealthCheck;
use crate::engine::monitor::{Connection, MonitorError, Process};
use crate::engine::shared::Shared;

/// How much of what a probe prints is kept, as in dockerd.
const KEPT_BYTES: usize = 4096;

/// How long it may take until a probe runs; not a part of its own limit. As in dockerd.
const BEGIN_LIMIT: Duration = Duration::from_secs(30);

/// Bytes read from the pipe at once.
const CHUNK_BYTES: usize = 4096;

/// Probes a running container: how that ended, and what the probe printed.
pub(in crate::engine) async fn probe(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: &Arc<Process>,
    check: &HealthCheck,
) -> (ProbeEnd, String) {
    let place = Place::new(shared, container, process);
    match run(&place, check).await {
        Ok((end, heard)) => (end, heard.text()),
        Err(error) => (ProbeEnd::Failed(chain(&error)), String::new()),
    }
}

async fn run(place: &Place<'_>, check: &HealthCheck) -> Result<(ProbeEnd, Heard)> {
    let failed = |error: MonitorError| EngineError::step("probe", place.object(), &error);
    let kind = Kind { stdio: ExecStdio::Descriptors, kill_on_disconnect: true };
    let request = place.request(&check.command, kind).await?;
    let (mut heard, theirs) = Heard::new().map_err(|error| failed(MonitorError::Execute(error)))?;
    let mut connection = place.process.connect().await.map_err(failed)?;
    let descriptors: Vec<_> = theirs.iter().map(AsFd::as_fd).collect();
    connection.send(&Request::Exec(request), &descriptors).await.map_err(failed)?;
    drop(theirs);
    let begun = within(BEGIN_LIMIT, until(&mut connection, &mut heard)).await.map_err(failed)?;
    if begun.is_none() {
        let what = "the beginning of a probe".to_owned();
        return Err(EngineError::Timeout { what, limit: BEGIN_LIMIT, outcome: "; it is given up" });
    }
    let ended = within(check.timeout, until(&mut connection, &mut heard)).await.map_err(failed)?;
    let end = match ended {
        Some(code) => ProbeEnd::Exited(code.unwrap_or_default()),
        None => {
            // What was not seen to end is killed all the same when the connection closes.
            kill(&mut connection).await;
            ProbeEnd::TooLong(check.timeout)
        }
    };
    heard.drain().map_err(|error| failed(MonitorError::Receive(error)))?;
    Ok((end, heard))
}

/// None when `limit` has passed.
async fn within<T, E>(
    limit: Duration,
    work: impl Future<Output = std::result::Result<T, E>>,
) -> std::result::Result<Option<T>, E> {
    timeout(limit, work).await.map_or(Ok(None), |done| done.map(Some))
}

/// Reads what the probe prints until the monitor says that it has begun, or that it has ended: with this exit code.
async fn until(
    connection: &mut Connection,
    heard: &mut Heard,
) -> std::result::Result<Option<i32>, MonitorError> {
    loop {
        tokio::select! {
            biased;
            message = connection.receive() => return match message?.ok_or(MonitorError::Gone)? {
                Message::Created { .. } => Ok(None),
                Message::ExecExited { status } => Ok(Some(status.code())),
                Message::Failed(failure) => Err(MonitorError::Failed(failure)),
                other => Err(MonitorError::Unexpected(Box::new(other))),
            },
            read = heard.read() => read.map_err(MonitorError::Receive)?,
        }
    }
}

/// What a probe prints.
struct Heard {
    /// None after its end.
    pipe: Option<pipe::Receiver>,
    kept: Vec<u8>,
    is_cut: bool,
}

impl Heard {
    /// A pipe, and what the process gets: standard input (nothing), output and error.
    fn new() -> io::Result<(Self, [OwnedFd; 3])> {
        let (reader, writer) = io::pipe()?;
        let pipe = Some(pipe::Receiver::from_owned_fd(reader.into())?);
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        let theirs = [null.into(), writer.try_clone()?.into(), writer.into()];
        Ok((Self { pipe, kept: Vec::new(), is_cut: false }, theirs))
    }

    /// Reads what is there; pending for ever after the end.
    async fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &self.pipe else { return std::future::pending().await };
        pipe.readable().await?;
        let mut chunk = [0; CHUNK_BYTES];
        match pipe.try_read(&mut chunk) {
            Ok(length) => self.take(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads all that is there and still wanted, whether the executor has noticed it or not, and waits for nothing.
    fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        while let Some(pipe) = self.pipe.as_ref().filter(|_| !self.is_cut) {
            match nix::unistd::read(pipe, &mut chunk) {
                Ok(length) => self.take(&chunk[..length]),
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Keeps what there is room for. Nothing read means the end.
    fn take(&mut self, read: &[u8]) {
        if read.is_empty() {
            self.pipe = None;
        }
        let room = read.len().min(KEPT_BYTES - self.kept.len());
        self.kept.extend(&read[..room]);
        self.is_cut |= room < read.len();
    }

    /// What is kept, with a mark where more was printed.
    fn text(&self) -> String {
        let kept = String::from_utf8_lossy(&self.kept);
        if self.is_cut { format!("{kept}...") } else { kept.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn heard(written: &[(usize, &[u8])]) -> String {
        let (mut heard, theirs) = Heard::new().unwrap();
        let mut streams = theirs.map(std::fs::File::from);
        for (stream, text) in written {
            streams[*stream].write_all(text).unwrap();
        }
        drop(streams);
        heard.drain().unwrap();
        heard.text()
    }

    #[tokio::test]
    async fn both_streams_are_heard_in_order_and_the_first_bytes_are_kept() {
        assert_eq!(heard(&[]), "");
        assert_eq!(heard(&[(1, b"a"), (2, b"b"), (1, b"c")]), "abc");
        assert_eq!(heard(&[(1, b"\xff")]), "\u{fffd}");
        let most = [b'x'; KEPT_BYTES];
        assert_eq!(heard(&[(1, &most)]).len(), KEPT_BYTES);
        assert_eq!(heard(&[(1, &most), (2, b"y")]), format!("{}...", "x".repeat(KEPT_BYTES)));
    }
}
