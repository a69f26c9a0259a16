//! Bodies: JSON both ways, lines of JSON that follow as they come, archives to and from blocking code.

use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead as _, DuplexStream, ReadBuf};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::upload::Upload;
use crate::docker::refusal::Refusal;

/// The body of an answer.
pub(in crate::docker) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Largest body of JSON: a container's configuration, with room for its environment and labels.
const MAX_JSON_BYTES: usize = 8 << 20;

/// Pieces of a body on their way from or to blocking code.
const PIECES: usize = 4;

/// Size of a piece that blocking code writes, bytes.
const PIECE_BYTES: usize = 128 << 10;

/// An answer without a body.
pub(in crate::docker) fn empty(status: StatusCode) -> Response<Body> {
    with_body(status, None, full(Bytes::new()))
}

/// An answer in JSON.
pub(in crate::docker) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    let mut text = serde_json::to_vec(value).unwrap_or_else(|error| {
        tracing::error!(%error, "an answer could not be written as JSON");
        b"null".to_vec()
    });
    text.push(b'\n');
    with_body(status, Some("application/json"), full(text.into()))
}

/// An answer of lines of JSON that are all there.
pub(in crate::docker) fn raw_json(text: String) -> Response<Body> {
    with_body(StatusCode::OK, Some("application/json"), full(text.into()))
}

/// An answer in plain text.
pub(in crate::docker) fn text(status: StatusCode, text: &'static str) -> Response<Body> {
    with_body(status, Some("text/plain; charset=utf-8"), full(text.into()))
}

/// An answer whose head is sent now and whose lines of JSON follow.
pub(in crate::docker) fn lines() -> (Lines, Response<Body>) {
    let (sender, body) = Channel::new(PIECES);
    let gone = CancellationToken::new();
    let body = Watched { body, _gone: gone.clone().drop_guard() };
    (Lines { sender, gone }, with_body(StatusCode::OK, Some("application/json"), body.boxed_unsync()))
}

/// An answer whose archive blocking code writes.
pub(in crate::docker) fn archive() -> (BodyWriter, Response<Body>) {
    let (sender, body) = Channel::new(PIECES);
    let writer = BodyWriter { sender, runtime: Handle::current(), held: Vec::new() };
    (writer, with_body(StatusCode::OK, Some("application/x-tar"), body.boxed_unsync()))
}

/// An answer whose bytes come from `source` until that ends.
pub(in crate::docker) fn streamed(kind: &'static str, source: DuplexStream) -> Response<Body> {
    let body = Streamed { source, room: vec![0; PIECE_BYTES].into() };
    with_body(StatusCode::OK, Some(kind), body.boxed_unsync())
}

/// A body that is read as it is written.
struct Streamed {
    source: DuplexStream,
    room: Box<[u8]>,
}

impl hyper::body::Body for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Self { source, room } = self.get_mut();
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(source).poll_read(context, &mut room))?;
        let piece = room.filled();
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(Bytes::copy_from_slice(piece)))))
    }
}

/// A body that tells when it is dropped: its client has gone, or has got it all.
struct Watched {
    body: Channel<Bytes, io::Error>,
    _gone: DropGuard,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn with_body(status: StatusCode, kind: Option<&'static str>, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    if let Some(kind) = kind {
        response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    }
    response
}

/// A request's body.
pub(in crate::docker) enum Sent {
    /// All of it.
    Whole(Bytes),
    /// An archive, as it comes.
    Streaming(Upload),
}

/// Reads a body that is no archive.
///
/// # Errors
/// When it is too large or breaks off.
pub(in crate::docker) async fn read_whole(body: Incoming) -> Result<Bytes, Refusal> {
    let collected = Limited::new(body, MAX_JSON_BYTES).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Refusal::too_large(MAX_JSON_BYTES)
        } else {
            Refusal::bad(format!("the request's body broke off: {error}"))
        }
    })?;
    Ok(collected.to_bytes())
}

/// A request's body as JSON; an empty one is the default.
///
/// # Errors
/// When it is too large, too deep (serde_json stops at 128 levels), or not what it should be.
pub(in crate::docker) async fn read_json<T: DeserializeOwned + Default>(body: Sent) -> Result<T, Refusal> {
    let bytes = match body {
        Sent::Whole(bytes) => bytes,
        Sent::Streaming(body) => match body.into_inner() {
            Some(body) => read_whole(body).await?,
            None => Bytes::new(),
        },
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice::<Option<T>>(&bytes)
        .map(Option::unwrap_or_default)
        .map_err(|error| Refusal::bad(format!("invalid JSON: {error}")))
}

/// Lines of JSON on their way to a client.
pub(in crate::docker) struct Lines {
    sender: Sender<Bytes, io::Error>,
    gone: CancellationToken,
}

impl Lines {
    /// Sends bytes that are no line; false once the client has gone.
    pub(in crate::docker) async fn send_bytes(&mut self, bytes: Bytes) -> bool {
        self.sender.send_data(bytes).await.is_ok()
    }

    /// Waits until the client has gone.
    pub(in crate::docker) async fn closed(&mut self) {
        self.gone.cancelled().await;
    }

    /// Sends one; false once the client has gone.
    pub(in crate::docker) async fn send(&mut self, line: &impl Serialize) -> bool {
        let Ok(mut text) = serde_json::to_vec(line) else { return false };
        text.extend_from_slice(b"\r\n");
        self.sender.send_data(text.into()).await.is_ok()
    }
}

/// A request's body for blocking code.
pub(in crate::docker) struct BodyReader {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    task: Option<JoinHandle<()>>,
}

impl BodyReader {
    /// Of `body`; the task that reads it ends with it or with this reader.
    pub(in crate::docker) fn new(body: Sent) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES);
        match body {
            Sent::Whole(piece) => Self { pieces, piece, task: None },
            Sent::Streaming(body) => {
                Self { pieces, piece: Bytes::new(), task: Some(tokio::spawn(pass_on(body, sender))) }
            }
        }
    }
}

async fn pass_on(mut body: Upload, to: mpsc::Sender<io::Result<Bytes>>) {
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().map(Ok).ok(),
            Err(error) => Some(Err(io::Error::other(error))),
        };
        let Some(piece) = piece else { continue };
        if to.send(piece).await.is_err() {
            return;
        }
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// An answer's body for blocking code, which has to flush it, or to break it off, on a thread of
/// [`tokio::task::spawn_blocking`].
pub(in crate::docker) struct BodyWriter {
    sender: Sender<Bytes, io::Error>,
    runtime: Handle,
    held: Vec<u8>,
}

impl BodyWriter {
    /// Breaks the body off, so that the client does not take it for whole.
    pub(in crate::docker) fn abort(self, error: io::Error) {
        self.sender.abort(error);
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::take(&mut self.held));
        let sent = self.runtime.block_on(self.sender.send_data(piece));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client has gone"))
    }
}
