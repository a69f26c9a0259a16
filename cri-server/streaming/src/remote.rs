//! Exec and attach: copies between a process's descriptors and a client's channels until the process has ended.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backend::{Control, Failure, Outcome, Running, Size};
use crate::stage::Source;
use crate::wire::Wire;

/// Most bytes read of a stream after its process has ended: the largest pipe that an unprivileged process can have. A
/// process left behind that goes on printing cannot hold the session.
const DRAIN_BYTES: usize = 1 << 20;
/// Most bytes of a terminal size that is not complete yet.
const SIZE_BYTES: usize = 1024;

/// What the client sends on one channel.
pub(crate) type Input = mpsc::Receiver<Vec<u8>>;

/// A client's channels.
pub(crate) struct Channels {
    pub wire: Arc<Wire>,
    pub stdin: Option<Input>,
    pub resize: Option<Input>,
    pub stdout: Option<u32>,
    pub stderr: Option<u32>,
    pub error: Option<u32>,
    /// Whether the end is told as a `metav1.Status` (protocol v4 and later), or failures only and as text.
    pub structured: bool,
}

/// Copies until the process has ended, then tells how.
pub(crate) async fn run(running: Result<Running, Failure>, mut channels: Channels) -> io::Result<()> {
    let outcome = match running {
        Ok(running) => copy(running, &mut channels).await,
        Err(failure) => Err(failure),
    };
    let wire = &channels.wire;
    for channel in [channels.stdout, channels.stderr].into_iter().flatten() {
        wire.finish(channel).await?;
    }
    let Some(error) = channels.error else { return Ok(()) };
    if let Some(text) = status(&outcome, channels.structured) {
        wire.tell(error, text.as_bytes()).await?;
    }
    wire.finish(error).await
}

async fn copy(running: Running, channels: &mut Channels) -> Result<Outcome, Failure> {
    let Running { stdin, stdout, stderr, mut control } = running;
    let ended = CancellationToken::new();
    let until_end = async {
        let outcome = watch(&mut *control, channels.resize.take()).await;
        ended.cancel();
        outcome
    };
    let input = async {
        tokio::select! {
            fed = feed(stdin, channels.stdin.take()) => fed,
            () = ended.cancelled() => Ok(()),
        }
    };
    let wire = &channels.wire;
    let (outcome, fed, out, err) = tokio::join!(
        until_end,
        input,
        pump(stdout, wire, channels.stdout, &ended),
        pump(stderr, wire, channels.stderr, &ended),
    );
    if let Err(error) = fed.and(out).and(err) {
        tracing::debug!(%error, "a stream of an exec or attach session broke");
    }
    outcome
}

/// Waits for the end, and sets the terminal's size meanwhile.
async fn watch(control: &mut dyn Control, mut sizes: Option<Input>) -> Result<Outcome, Failure> {
    let mut text = Vec::new();
    loop {
        tokio::select! {
            outcome = control.finished() => return outcome,
            chunk = next(&mut sizes) => {
                text.extend_from_slice(&chunk);
                for size in take_sizes(&mut text) {
                    control.resize(size).await;
                }
            }
        }
    }
}

/// The next chunk; pending for ever when there is none.
async fn next(input: &mut Option<Input>) -> Vec<u8> {
    if let Some(receiver) = input
        && let Some(chunk) = receiver.recv().await
    {
        return chunk;
    }
    std::future::pending().await
}

/// Takes the complete sizes out of `text`: JSON objects, one after the other.
fn take_sizes(text: &mut Vec<u8>) -> Vec<Size> {
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
    let field = |value: &Value, name| value.get(name)?.as_u64()?.try_into().ok();
    let mut sizes = Vec::new();
    while let Some(Ok(value)) = values.next() {
        if let (Some(columns), Some(rows)) = (field(&value, "Width"), field(&value, "Height")) {
            sizes.push(Size { rows, columns });
        }
    }
    let taken = values.byte_offset();
    text.drain(..taken);
    if text.len() > SIZE_BYTES {
        text.clear();
    }
    sizes
}

/// Makes a descriptor one the executor can wait for.
#[allow(deprecated, reason = "its successor is unsafe for types that may close early; an OwnedFd cannot")]
fn asynchronous(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    AsyncFd::new(descriptor)
}

/// Writes the client's input to the process; its end closes the descriptor.
async fn feed(into: Option<OwnedFd>, input: Option<Input>) -> io::Result<()> {
    let (Some(into), Some(mut input)) = (into, input) else { return Ok(()) };
    let into = asynchronous(into)?;
    while let Some(chunk) = input.recv().await {
        let mut left = chunk.as_slice();
        while !left.is_empty() {
            let mut ready = into.writable().await?;
            match ready.try_io(|into| Ok(rustix::io::write(into, left)?)) {
                Ok(Ok(length)) => left = &left[length..],
                // The process reads no more; its end is told elsewhere.
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(())
}

/// Sends what the process prints, until the end of its stream, or what is there once the process has ended.
async fn pump(
    from: Option<OwnedFd>,
    wire: &Wire,
    channel: Option<u32>,
    ended: &CancellationToken,
) -> io::Result<()> {
    let (Some(from), Some(channel)) = (from, channel) else { return Ok(()) };
    let from = asynchronous(from)?;
    let mut source = Source::new(wire)?;
    loop {
        tokio::select! {
            () = ended.cancelled() => break,
            ready = from.readable() => {
                match ready?.try_io(|from| source.take(from.get_ref())) {
                    Ok(Ok(0)) => return Ok(()),
                    Ok(taken) => source.send(wire, channel, taken?).await?,
                    Err(_) => {}
                }
            }
        }
    }
    let mut drained = 0;
    while drained < DRAIN_BYTES {
        match source.take(from.get_ref()) {
            Ok(0) => break,
            Ok(length) => {
                source.send(wire, channel, length).await?;
                drained += length;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is told on the error channel, as the kubelet's `remotecommand` tells it.
fn status(outcome: &Result<Outcome, Failure>, structured: bool) -> Option<String> {
    let (message, rest) = match outcome {
        Ok(Outcome::Exited(0) | Outcome::Detached) => {
            return structured.then(|| json!({"metadata": {}, "status": "Success"}).to_string());
        }
        Ok(Outcome::Exited(code)) => (
            format!("command terminated with non-zero exit code: exit status {code}"),
            json!({"reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
        ),
        Err(failure) => (
            format!("Internal error occurred: {failure}"),
            json!({"reason": "InternalError", "code": 500,
                "details": {"causes": [{"message": failure.to_string()}]}}),
        ),
    };
    if !structured {
        return Some(message);
    }
    let mut whole = rest;
    whole["metadata"] = json!({});
    whole["status"] = json!("Failure");
    whole["message"] = json!(message);
    Some(whole.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_may_come_in_pieces() {
        let mut text = br#"{"Width":80,"Height":24}{"Wid"#.to_vec();
        assert_eq!(take_sizes(&mut text), [Size { rows: 24, columns: 80 }]);
        text.extend_from_slice(br#"th":1,"Height":2}"#);
        assert_eq!(take_sizes(&mut text), [Size { rows: 2, columns: 1 }]);
    }

    #[test]
    fn an_exit_code_is_a_cause() {
        let text = status(&Ok(Outcome::Exited(3)), true).unwrap();
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["reason"], "NonZeroExitCode");
        assert_eq!(value["details"]["causes"], json!([{"reason": "ExitCode", "message": "3"}]));
        assert_eq!(status(&Ok(Outcome::Exited(0)), false), None);
    }
}
