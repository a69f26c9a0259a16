//! The receiving side of a WebSocket (RFC 6455): messages to channels, or to one tunnel.
//!
//! Payloads are handed on piece by piece, so a frame may be of any size without being held in memory.

use std::io;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;

use crate::delivery::{Delivery, deliver};
use crate::wire::{Framing, Wire};

/// Most bytes handed on at once.
const CHUNK_BYTES: usize = 32 * 1024;
/// Most bytes of a control frame, RFC 6455 section 5.5.
const CONTROL_BYTES: u64 = 125;
/// The channel of `v5.channel.k8s.io` that ends another one, named by the next byte.
const CLOSE_CHANNEL: u8 = 255;

/// The client broke the protocol, or its connection broke.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebSocketError {
    #[error("read a frame")]
    Read(#[from] io::Error),
    #[error("frame without a mask")]
    Unmasked,
    #[error("frame with reserved bits or of unknown type {0:#x}")]
    Kind(u8),
    #[error("control frame that is long or in pieces")]
    Control,
    #[error("continuation of nothing, or a message inside another")]
    Sequence,
    #[error("message that is not base64")]
    Base64,
}

/// Where messages go.
pub(crate) struct Targets {
    /// By channel number; `None` where the client has nothing to send.
    pub channels: Vec<Option<mpsc::Sender<Vec<u8>>>>,
    /// How a message tells its channel.
    pub framing: Framing,
    /// Whether channel 255 ends others.
    pub can_close: bool,
}

/// A message that is being received.
#[derive(Default)]
struct Message {
    /// `None` before its first byte.
    channel: Option<u8>,
    /// Characters of base64 that do not make up bytes yet.
    rest: Vec<u8>,
}

/// The receiving side.
pub(crate) struct Receiver<R> {
    reader: R,
    wire: Arc<Wire>,
    targets: Targets,
    message: Option<Message>,
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    pub(crate) fn new(reader: R, wire: Arc<Wire>, targets: Targets) -> Self {
        Self { reader, wire, targets, message: None }
    }

    /// Reads frames until the client closes.
    pub(crate) async fn run(mut self) -> Result<(), WebSocketError> {
        let mut head = [0; 2];
        loop {
            match self.reader.read_exact(&mut head).await {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                read => read?,
            };
            self.wire.activity().note();
            let (last, kind) = (head[0] & 0x80 != 0, head[0] & 0x7f);
            if head[1] & 0x80 == 0 {
                return Err(WebSocketError::Unmasked);
            }
            let length = match head[1] & 0x7f {
                126 => u64::from(self.reader.read_u16().await?),
                127 => self.reader.read_u64().await?,
                short => u64::from(short),
            };
            let mut mask = [0; 4];
            self.reader.read_exact(&mut mask).await?;
            match kind {
                0 if self.message.is_some() => {}
                1 | 2 if self.message.is_none() => self.message = Some(Message::default()),
                0..=2 => return Err(WebSocketError::Sequence),
                8..=10 if last && length <= CONTROL_BYTES => {
                    if !self.control(kind, length as usize, mask).await? {
                        return Ok(());
                    }
                    continue;
                }
                8..=10 => return Err(WebSocketError::Control),
                other => return Err(WebSocketError::Kind(other)),
            }
            self.payload(length, mask).await?;
            if last && self.message.take().is_some_and(|message| !message.rest.is_empty()) {
                return Err(WebSocketError::Base64);
            }
        }
    }

    /// Answers a ping; false for a close.
    async fn control(&mut self, kind: u8, length: usize, mask: [u8; 4]) -> Result<bool, WebSocketError> {
        let mut answer = vec![0x8a, length as u8];
        answer.resize(2 + length, 0);
        self.reader.read_exact(&mut answer[2..]).await?;
        unmask(&mut answer[2..], mask);
        if kind == 9 {
            self.wire.raw(&answer).await?;
        }
        Ok(kind != 8)
    }

    async fn payload(&mut self, mut left: u64, mask: [u8; 4]) -> Result<(), WebSocketError> {
        while left > 0 {
            let mut chunk = vec![0; left.min(CHUNK_BYTES as u64) as usize];
            self.reader.read_exact(&mut chunk).await?;
            unmask(&mut chunk, mask);
            left -= chunk.len() as u64;
            self.hand_on(chunk).await?;
        }
        Ok(())
    }

    /// Hands a piece of a message to its channel; what nobody reads is forgotten.
    async fn hand_on(&mut self, mut chunk: Vec<u8>) -> Result<(), WebSocketError> {
        let Some(message) = &mut self.message else { return Ok(()) };
        let is_text = self.targets.framing == Framing::Base64;
        let channel = match message.channel {
            _ if self.targets.framing == Framing::Tunnel => 0,
            Some(channel) => channel,
            None => {
                let first = chunk.remove(0);
                *message.channel.insert(if is_text { first.wrapping_sub(b'0') } else { first })
            }
        };
        if channel == CLOSE_CHANNEL && self.targets.can_close {
            if let Some(slot) =
                chunk.first().and_then(|&ended| self.targets.channels.get_mut(usize::from(ended)))
            {
                *slot = None;
            }
            return Ok(());
        }
        if is_text {
            chunk = decode(&mut message.rest, &chunk)?;
        }
        let Some(slot) = self.targets.channels.get_mut(usize::from(channel)) else { return Ok(()) };
        if let Some(sender) = slot
            && !chunk.is_empty()
            && deliver(&self.wire, sender, chunk, None).await? == Delivery::Unwanted
        {
            *slot = None;
        }
        Ok(())
    }
}

/// Decodes a piece of a message; what is left over waits for the next one.
fn decode(rest: &mut Vec<u8>, text: &[u8]) -> Result<Vec<u8>, WebSocketError> {
    rest.extend_from_slice(text);
    let whole = rest.len() / 4 * 4;
    let bytes = STANDARD.decode(&rest[..whole]).map_err(|_| WebSocketError::Base64)?;
    rest.drain(..whole);
    Ok(bytes)
}

/// Takes the client's mask off. Chunks other than a frame's last are multiples of four bytes, so each begins with the
/// mask's first.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let word = u32::from_ne_bytes(mask);
    let (words, rest) = bytes.as_chunks_mut::<4>();
    for bytes in words {
        *bytes = (u32::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    rest.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
}
