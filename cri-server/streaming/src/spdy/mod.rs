//! SPDY/3.1 as the Kubernetes clients use it: streams that the client opens, without windows.
//!
//! The clients' library neither sends nor obeys WINDOW_UPDATE; what holds a sender back is TCP. So a stream whose
//! consumer is slow holds the connection: at most [`QUEUE`] chunks wait in memory for each stream.

mod headers;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, oneshot};

use crate::delivery::{Delivery, deliver};
use crate::wire::{Reset, Wire};
#[cfg(test)]
pub(crate) use headers::Deflater;
pub(crate) use headers::{Headers, Inflater};

/// Chunks that wait for a stream's consumer.
pub(crate) const QUEUE: usize = 4;
/// Most bytes of a chunk.
const CHUNK_BYTES: usize = 32 * 1024;
/// Largest control frame: the clients' are a few hundred bytes.
const CONTROL_BYTES: usize = 16 * 1024;
/// Streams open at a time: an exec has five, a port forward two for each connection. More are refused.
const STREAMS: usize = 1024;
/// Streams that a client may reset without one it ended properly in between (a reset flood).
const RESETS: u32 = 1000;
/// How long one stream may hold up others: whoever reads from it has stopped, or is gone without a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// A stream the client opened.
pub(crate) struct Opened {
    /// Its number.
    pub id: u32,
    /// Its headers, names in lower case.
    pub headers: Headers,
    /// What the client sends; ends with the client's end of the stream.
    pub input: mpsc::Receiver<Vec<u8>>,
    /// Told when the client ends the stream at once, in both directions.
    pub reset: oneshot::Receiver<()>,
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
    #[error("more than {RESETS} reset streams")]
    Resets,
    #[error("header block: {0}")]
    Headers(&'static str),
}

/// Where a stream's frames go.
struct Inlet {
    /// `None` once the client has ended its direction.
    input: Option<mpsc::Sender<Vec<u8>>>,
    reset: oneshot::Sender<()>,
}

impl Inlet {
    /// Whether anybody cares for the stream.
    fn is_wanted(&self) -> bool {
        !self.reset.is_closed() || self.input.as_ref().is_some_and(|input| !input.is_closed())
    }
}

/// The receiving side of a connection.
pub(crate) struct Receiver<R> {
    reader: R,
    wire: Arc<Wire>,
    inflater: Inflater,
    streams: HashMap<u32, Inlet>,
    last: u32,
    replied: bool,
    resets: u32,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    pub(crate) fn new(reader: R, wire: Arc<Wire>) -> Self {
        let (inflater, streams) = (Inflater::new(), HashMap::new());
        Self { reader, wire, inflater, streams, last: 0, replied: false, resets: 0 }
    }

    /// Reads frames until the client closes, and gives the streams it opens.
    pub(crate) async fn run(mut self, opened: mpsc::Sender<Opened>) -> Result<(), SpdyError> {
        let mut head = [0; 8];
        loop {
            match self.reader.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            };
            self.wire.activity().note();
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
            self.hand_on(id, chunk).await?;
        }
        if last && let Some(inlet) = self.streams.get_mut(&id) {
            inlet.input = None;
            self.resets = 0;
        }
        Ok(())
    }

    /// Hands a chunk to its stream's consumer. One that takes nothing must not hold up the others for ever.
    async fn hand_on(&mut self, id: u32, chunk: Vec<u8>) -> Result<(), SpdyError> {
        let mut others = self.streams.iter().filter(|(other, inlet)| **other != id && inlet.is_wanted());
        let holds_others_up = others.next().is_some();
        let Some(inlet) = self.streams.get_mut(&id) else { return Ok(()) };
        let Some(input) = &inlet.input else { return Ok(()) };
        // Who does not wait for resets is the one process that the connection is for.
        let patience = (holds_others_up && !inlet.reset.is_closed()).then_some(PATIENCE);
        match deliver(&self.wire, input, chunk, patience).await? {
            Delivery::Taken => {}
            Delivery::Unwanted => inlet.input = None,
            Delivery::Stalled => {
                tracing::info!(stream = id, "a forwarded connection takes nothing: it is reset");
                self.forget(id);
                self.wire.reset(id, Reset::Cancelled).await?;
            }
        }
        Ok(())
    }

    /// Ends a stream at once.
    fn forget(&mut self, id: u32) {
        // Its consumer may be gone already.
        self.streams.remove(&id).map(|inlet| inlet.reset.send(()).is_ok());
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
                self.forget(word(body) & 0x7fff_ffff);
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
        let headers = self.inflater.headers(&body[10..])?;
        self.streams.retain(|_, inlet| inlet.is_wanted());
        if self.streams.len() >= STREAMS || opened.is_closed() {
            self.last = id;
            return Ok(self.wire.reset(id, Reset::Refused).await?);
        }
        // The first answer begins the compressed stream of our direction.
        self.wire.raw(&reply(id, !self.replied)).await?;
        (self.last, self.replied) = (id, true);
        let (sender, input) = mpsc::channel(QUEUE);
        let (reset, told) = oneshot::channel();
        self.streams.insert(id, Inlet { input: (!ended).then_some(sender), reset });
        if opened.send(Opened { id, headers, input, reset: told }).await.is_err() {
            self.streams.remove(&id);
            self.wire.reset(id, Reset::Refused).await?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Framing;

    fn opened(id: u32, names: &mut Deflater) -> Vec<u8> {
        let body = [&id.to_be_bytes()[..], &[0; 6], &names.block(&[("streamtype", "data")])].concat();
        [&[0x80, 3, 0, 1, 0], &(body.len() as u32).to_be_bytes()[1..], &body].concat()
    }

    fn data(id: u32, payload: &[u8]) -> Vec<u8> {
        [&id.to_be_bytes()[..], &[0], &(payload.len() as u32).to_be_bytes()[1..], payload].concat()
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_holds_the_others_up_for_a_while_and_is_reset() {
        let mut names = Deflater::new();
        let mut sent = [opened(1, &mut names), opened(3, &mut names)].concat();
        sent.extend(data(1, b"for nobody").repeat(QUEUE + 1));
        sent.extend([data(3, b"at last"), data(1, b"too late")].concat());
        let receiver = Receiver::new(sent.as_slice(), Wire::nowhere(Framing::Spdy));
        let (sender, mut streams) = mpsc::channel::<Opened>(QUEUE);
        let begun = tokio::time::Instant::now();
        let watch = async {
            let (deaf, mut other) = (streams.recv().await.unwrap(), streams.recv().await.unwrap());
            assert_eq!(other.input.recv().await.unwrap(), b"at last");
            deaf.reset.await.unwrap();
            begun.elapsed()
        };
        let (received, waited) = tokio::join!(receiver.run(sender), watch);
        received.unwrap();
        assert!(waited >= PATIENCE, "{waited:?}");
    }
}
