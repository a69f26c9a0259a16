//! SPDY/3.1 as the Kubernetes clients use it: streams that the client opens, without windows.
//!
//! The clients' library neither sends nor obeys WINDOW_UPDATE; what holds a sender back is TCP. So a stream whose
//! consumer is slow holds the connection: at most [`QUEUE`] chunks wait in memory for each stream.

mod headers;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::wire::Wire;
pub(crate) use headers::{Headers, Inflater};

/// Chunks that wait for a stream's consumer.
pub(crate) const QUEUE: usize = 4;
/// Most bytes of a chunk.
const CHUNK_BYTES: usize = 32 * 1024;
/// Largest control frame: the clients' are a few hundred bytes.
const CONTROL_BYTES: usize = 16 * 1024;
/// Streams open at a time: an exec has five, a port forward two for each connection.
const STREAMS: usize = 1024;
/// Streams that a client may reset without one it ended properly in between (a reset flood).
const RESETS: u32 = 1000;

/// A stream the client opened.
pub(crate) struct Opened {
    /// Its number.
    pub id: u32,
    /// Its headers, names in lower case.
    pub headers: Headers,
    /// What the client sends; ends with the client's end of the stream.
    pub input: mpsc::Receiver<Vec<u8>>,
}

/// The client broke the protocol, or its connection broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    #[error("read a frame")]
    Read(#[from] io::Error),
    #[error("frame of version {0}")]
    Version(u16),
    #[error("control frame of {0} bytes")]
    Oversize(usize),
    #[error("control frame of type {0} is too short")]
    Short(u16),
    #[error("stream {0} is not the next of a client")]
    StreamId(u32),
    #[error("more than {STREAMS} open streams")]
    Streams,
    #[error("more than {RESETS} reset streams")]
    Resets,
    #[error("header block: {0}")]
    Headers(&'static str),
}

/// The receiving side of a connection.
pub(crate) struct Receiver<R> {
    reader: R,
    wire: Arc<Wire>,
    inflater: Inflater,
    streams: HashMap<u32, mpsc::Sender<Vec<u8>>>,
    last: u32,
    resets: u32,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    pub(crate) fn new(reader: R, wire: Arc<Wire>) -> Self {
        Self { reader, wire, inflater: Inflater::new(), streams: HashMap::new(), last: 0, resets: 0 }
    }

    /// Reads frames until the client closes, and gives the streams it opens.
    pub(crate) async fn run(mut self, opened: mpsc::Sender<Opened>) -> Result<(), SpdyError> {
        let mut head = [0; 8];
        loop {
            match self.reader.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            };
            let (first, second) = (word(&head), word(&head[4..]));
            let (flags, length) = (head[4], (second & 0x00ff_ffff) as usize);
            if first >> 31 == 0 {
                self.data(first, flags & 1 != 0, length).await?;
                continue;
            }
            let (version, kind) = ((first >> 16) as u16 & 0x7fff, first as u16);
            if version != 3 {
                return Err(SpdyError::Version(version));
            }
            if length > CONTROL_BYTES {
                return Err(SpdyError::Oversize(length));
            }
            let mut body = vec![0; length];
            self.reader.read_exact(&mut body).await?;
            if !self.control(kind, flags, &body, &opened).await? {
                return Ok(());
            }
        }
    }

    /// Hands a data frame's payload on, piece by piece; nobody's data is read and forgotten.
    async fn data(&mut self, id: u32, last: bool, mut left: usize) -> Result<(), SpdyError> {
        while left > 0 {
            let mut chunk = vec![0; left.min(CHUNK_BYTES)];
            self.reader.read_exact(&mut chunk).await?;
            left -= chunk.len();
            if let Some(stream) = self.streams.get(&id)
                && stream.send(chunk).await.is_err()
            {
                self.streams.remove(&id);
            }
        }
        if last && self.streams.remove(&id).is_some() {
            self.resets = 0;
        }
        Ok(())
    }

    /// Obeys a control frame; false when the client says that it goes.
    async fn control(
        &mut self,
        kind: u16,
        flags: u8,
        body: &[u8],
        opened: &mpsc::Sender<Opened>,
    ) -> Result<bool, SpdyError> {
        let least = match kind {
            1 => 10,
            2 | 3 | 6 | 8 => 4,
            _ => 0,
        };
        if body.len() < least {
            return Err(SpdyError::Short(kind));
        }
        match kind {
            1 => self.syn_stream(flags & 1 != 0, body, opened).await?,
            // SYN_REPLY and HEADERS share the compression state, so they are read although nothing is asked of them.
            2 | 8 => drop(self.inflater.headers(&body[4..])?),
            3 => {
                self.streams.remove(&(word(body) & 0x7fff_ffff));
                self.resets += 1;
                if self.resets > RESETS {
                    return Err(SpdyError::Resets);
                }
            }
            // Clients' pings have odd numbers; an even one would be the answer to a ping of ours.
            6 if word(body) % 2 == 1 => {
                let mut pong = vec![0x80, 3, 0, 6, 0, 0, 0, 4];
                pong.extend_from_slice(&body[..4]);
                self.wire.raw(&pong).await?;
            }
            7 => return Ok(false),
            _ => {}
        }
        Ok(true)
    }

    async fn syn_stream(
        &mut self,
        ended: bool,
        body: &[u8],
        opened: &mpsc::Sender<Opened>,
    ) -> Result<(), SpdyError> {
        let id = word(body) & 0x7fff_ffff;
        if id.is_multiple_of(2) || id <= self.last {
            return Err(SpdyError::StreamId(id));
        }
        let first = self.last == 0;
        self.last = id;
        let headers = self.inflater.headers(&body[10..])?;
        self.streams.retain(|_, stream| !stream.is_closed());
        if self.streams.len() >= STREAMS {
            return Err(SpdyError::Streams);
        }
        let (sender, input) = mpsc::channel(QUEUE);
        if !ended {
            self.streams.insert(id, sender);
        }
        self.wire.raw(&reply(id, first)).await?;
        if opened.send(Opened { id, headers, input }).await.is_err() {
            self.streams.remove(&id);
        }
        Ok(())
    }
}

/// An answer that accepts a stream, without headers.
fn reply(id: u32, first: bool) -> Vec<u8> {
    let block = headers::empty_block(first);
    let mut frame = vec![0x80, 3, 0, 2, 0];
    frame.extend_from_slice(&(4 + block.len() as u32).to_be_bytes()[1..]);
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&block);
    frame
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
