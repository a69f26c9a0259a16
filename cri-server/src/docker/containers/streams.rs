//! A session's streams over a connection: Docker's frames, or a terminal's bytes as they are.

use std::fs::File;
use std::io::{self, Cursor};
use std::os::fd::OwnedFd;

use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Response, StatusCode};
use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::net::unix::pipe;

use super::logs::Earlier;
use crate::docker::refusal::Refusal;
use crate::docker::version::ApiVersion;
use crate::docker::wire::{Body, HandoverError, empty, streamed, take_over};

/// Bytes moved at a time.
const PIECE_BYTES: usize = 32 << 10;

/// From this version on an answer tells which of the two kinds it is.
const TELLS_KIND: ApiVersion = ApiVersion::v1(42);

/// Which stream a frame is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

/// A frame of Docker's: stream, three zeros, length, payload.
pub(super) fn frame(stream: Stream, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(payload.len() + 8);
    frame.extend([stream as u8, 0, 0, 0]);
    frame.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(payload);
    frame
}

/// The content type of a stream of frames, or of a terminal's bytes.
pub(super) fn content_type(version: ApiVersion, is_terminal: bool) -> &'static str {
    if is_terminal || version < TELLS_KIND {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    }
}

/// Where a session meets its client once the answer's head is sent.
pub(super) enum Place {
    /// On the connection, which has left HTTP.
    Connection(OnUpgrade),
    /// In the answer's body: the client only reads.
    Body(DuplexStream),
}

/// The answer behind which the session's bytes come. A client that does not offer to leave HTTP gets them as a body, and
/// cannot give the program `input`.
///
/// # Errors
/// When it wants to do that.
pub(super) fn switch(
    headers: &HeaderMap,
    upgrade: OnUpgrade,
    kind: &'static str,
    input: bool,
) -> Result<(Response<Body>, Place), Refusal> {
    if !headers.contains_key(UPGRADE) {
        if input {
            return Err(Refusal::not_built("input without `Connection: Upgrade` and `Upgrade: tcp`"));
        }
        let (near, far) = duplex(PIECE_BYTES);
        return Ok((streamed(kind, far), Place::Body(near)));
    }
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("tcp"));
    answer.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok((response, Place::Connection(upgrade)))
}

/// The two directions of a client's connection.
pub(super) struct Client {
    input: Box<dyn AsyncRead + Send + Unpin>,
    output: Box<dyn AsyncWrite + Send + Unpin>,
}

impl Client {
    /// Waits until the client has left HTTP and is ready to read, where it offered to.
    ///
    /// # Errors
    /// When it left before.
    pub(super) async fn new(place: Place) -> Result<Self, HandoverError> {
        match place {
            Place::Connection(upgrade) => {
                let (stream, early) = take_over(upgrade).await?;
                let (input, output) = stream.into_split();
                let input = Cursor::new(early).chain(input);
                Ok(Self { input: Box::new(input), output: Box::new(output) })
            }
            Place::Body(body) => {
                let (input, output) = split(body);
                Ok(Self { input: Box::new(input), output: Box::new(output) })
            }
        }
    }

    /// Moves bytes until the output has ended, or the client has gone. The end of the client's input is the end of the
    /// program's; its output goes on.
    pub(super) async fn serve(&mut self, pipes: Pipes) -> io::Result<()> {
        let Pipes { stdin, stdout, stderr, is_terminal } = pipes;
        if stdout.is_none() && stderr.is_none() {
            // A client that only writes stays for as long as it does.
            return receive(&mut self.input, stdin).await;
        }
        let output = send(&mut self.output, stdout, stderr, is_terminal);
        let input = receive(&mut self.input, stdin);
        tokio::pin!(output);
        tokio::select! {
            sent = &mut output => sent,
            ended = input => {
                ended?;
                output.await
            }
        }
    }

    /// Sends `text` as the session's output.
    pub(super) async fn say(&mut self, text: &str, is_terminal: bool) -> io::Result<()> {
        let bytes =
            if is_terminal { text.as_bytes().to_vec() } else { frame(Stream::Stdout, text.as_bytes()) };
        self.output.write_all(&bytes).await
    }

    /// Sends what was written before.
    pub(super) async fn replay(&mut self, earlier: Earlier) -> io::Result<()> {
        earlier.send(&mut self.output).await
    }

    /// Tells the client that there is no more.
    pub(super) async fn end(mut self) -> io::Result<()> {
        self.output.shutdown().await
    }
}

/// A session's ends of the streams.
pub(super) struct Pipes {
    /// Where input goes.
    pub stdin: Option<OwnedFd>,
    /// Where output comes from.
    pub stdout: Option<OwnedFd>,
    /// Where error output comes from.
    pub stderr: Option<OwnedFd>,
    /// Whether it is a terminal.
    pub is_terminal: bool,
}

/// A terminal is no pipe, and is read the same way.
fn reader(descriptor: Option<OwnedFd>) -> io::Result<Option<pipe::Receiver>> {
    descriptor.map(|descriptor| pipe::Receiver::from_file_unchecked(File::from(descriptor))).transpose()
}

/// The client's input to the program. Without one it is read all the same: that is how a client's leaving is seen.
async fn receive(client: &mut (impl AsyncRead + Unpin), stdin: Option<OwnedFd>) -> io::Result<()> {
    let mut stdin =
        stdin.map(|descriptor| pipe::Sender::from_file_unchecked(File::from(descriptor))).transpose()?;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = client.read(&mut piece).await?;
        if length == 0 {
            return Ok(());
        }
        if let Some(pipe) = &mut stdin
            && let Err(error) = pipe.write_all(&piece[..length]).await
        {
            // The program reads no more; what the client still sends is nobody's.
            tracing::trace!(%error, "the program's input is closed");
            stdin = None;
        }
    }
}

async fn send(
    client: &mut (impl AsyncWrite + Unpin),
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    is_terminal: bool,
) -> io::Result<()> {
    let (mut stdout, mut stderr) = (reader(stdout)?, reader(stderr)?);
    let (mut out, mut err) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    while stdout.is_some() || stderr.is_some() {
        let (stream, length) = tokio::select! {
            length = piece(&mut stdout, &mut out) => (Stream::Stdout, length?),
            length = piece(&mut stderr, &mut err) => (Stream::Stderr, length?),
        };
        let bytes = match stream {
            Stream::Stdout => &out[..length],
            Stream::Stderr => &err[..length],
        };
        match (length, is_terminal) {
            (0, _) => {}
            (_, true) => client.write_all(bytes).await?,
            (_, false) => client.write_all(&frame(stream, bytes)).await?,
        }
    }
    client.flush().await
}

/// Reads a piece; at its end, 0 once and never again.
async fn piece(pipe: &mut Option<pipe::Receiver>, into: &mut [u8]) -> io::Result<usize> {
    let Some(open) = pipe else { return std::future::pending().await };
    let length = match open.read(into).await {
        // How a terminal ends whose last user has gone.
        Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => 0,
        other => other?,
    };
    if length == 0 {
        *pipe = None;
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_frame_has_dockers_head() {
        assert_eq!(frame(Stream::Stderr, b"ab"), [2, 0, 0, 0, 0, 0, 0, 2, b'a', b'b']);
    }

    #[test]
    fn the_kind_is_told_from_1_42_on() {
        assert!(content_type(ApiVersion::v1(41), false).ends_with("raw-stream"));
        assert!(content_type(ApiVersion::v1(42), false).ends_with("multiplexed-stream"));
        assert!(content_type(ApiVersion::v1(42), true).ends_with("raw-stream"));
    }

    fn filled(text: &[u8]) -> OwnedFd {
        let (read, write) =
            nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK).unwrap();
        File::from(write).write_all(text).unwrap();
        read
    }

    #[tokio::test]
    async fn both_streams_are_sent_to_their_ends() {
        let mut sent = Vec::new();
        send(&mut sent, Some(filled(b"out")), Some(filled(b"err")), false).await.unwrap();
        assert_eq!(sent.len(), 22);
        assert!(sent.windows(11).any(|part| part == frame(Stream::Stderr, b"err")));
        let mut raw = Vec::new();
        send(&mut raw, Some(filled(b"out")), None, true).await.unwrap();
        assert_eq!(raw, b"out");
    }
}
