//! The sending side of a connection: whole frames, one after the other, each written from the buffer it was read into.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::Mutex;

/// A connection: TCP, or a tunnel in another one.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Room that a payload leaves in front of itself for the frame's header: ten bytes of WebSocket and the channel.
pub(crate) const HEADROOM: usize = 16;

/// How frames of a channel are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// SPDY/3.1 data frames.
    Spdy,
    /// WebSocket binary messages that begin with the channel's number.
    Channels,
    /// WebSocket binary messages without one: a tunnel.
    Tunnel,
}

/// The sending side, shared by everything that sends.
pub(crate) struct Wire {
    half: Mutex<WriteHalf<Box<dyn Io>>>,
    framing: Framing,
    failed: AtomicBool,
}

impl Wire {
    pub(crate) fn new(half: WriteHalf<Box<dyn Io>>, framing: Framing) -> Self {
        Self { half: Mutex::new(half), framing, failed: AtomicBool::new(false) }
    }

    /// Sends a frame that is complete already. A sender that is dropped in the middle of a frame leaves the connection
    /// unusable: nothing is sent after that.
    pub(crate) async fn raw(&self, frame: &[u8]) -> io::Result<()> {
        let mut half = self.half.lock().await;
        if self.failed.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        half.write_all(frame).await?;
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Sends what is in `buffer` behind [`HEADROOM`] bytes on `channel`; `last` ends the channel where the framing can.
    pub(crate) async fn send(&self, channel: u32, buffer: &mut [u8], last: bool) -> io::Result<()> {
        let start = head(self.framing, channel, buffer, last);
        self.raw(&buffer[start..]).await
    }

    /// Ends `channel`; WebSocket channels end with the connection.
    pub(crate) async fn finish(&self, channel: u32) -> io::Result<()> {
        match self.framing {
            Framing::Spdy => self.send(channel, &mut [0; HEADROOM], true).await,
            Framing::Channels | Framing::Tunnel => Ok(()),
        }
    }

    /// Ends `channel` as a broken connection: RST_STREAM with the status CANCEL, SPDY/3.1 section 2.6.3.
    pub(crate) async fn reset(&self, channel: u32) -> io::Result<()> {
        let [a, b, c, d] = (channel & 0x7fff_ffff).to_be_bytes();
        self.raw(&[0x80, 3, 0, 3, 0, 0, 0, 8, a, b, c, d, 0, 0, 0, 5]).await
    }

    /// Says goodbye and ends the sending direction.
    pub(crate) async fn close(&self) -> io::Result<()> {
        match self.framing {
            Framing::Spdy => self.raw(&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]).await?,
            // Close with status 1000, RFC 6455 section 7.4.1.
            Framing::Channels | Framing::Tunnel => self.raw(&[0x88, 2, 0x03, 0xe8]).await?,
        }
        self.half.lock().await.shutdown().await
    }
}

/// Writes the frame's header in front of the payload and says where it begins.
fn head(framing: Framing, channel: u32, buffer: &mut [u8], last: bool) -> usize {
    let length = buffer.len() - HEADROOM;
    if framing == Framing::Spdy {
        buffer[8..12].copy_from_slice(&(channel & 0x7fff_ffff).to_be_bytes());
        buffer[12..16].copy_from_slice(&(length as u32 & 0x00ff_ffff).to_be_bytes());
        buffer[12] = u8::from(last);
        return 8;
    }
    let mut end = HEADROOM;
    if framing == Framing::Channels {
        end -= 1;
        buffer[end] = channel as u8;
    }
    let length = buffer.len() - end;
    let start = match length {
        0..126 => {
            buffer[end - 1] = length as u8;
            end - 2
        }
        126..65536 => {
            buffer[end - 3] = 126;
            buffer[end - 2..end].copy_from_slice(&(length as u16).to_be_bytes());
            end - 4
        }
        _ => {
            buffer[end - 9] = 127;
            buffer[end - 8..end].copy_from_slice(&(length as u64).to_be_bytes());
            end - 10
        }
    };
    buffer[start] = 0x82;
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stand_right_before_their_payload() {
        let framed = |framing, channel, length, last| {
            let mut buffer = vec![7; HEADROOM + length];
            let start = head(framing, channel, &mut buffer, last);
            buffer[start..].to_vec()
        };
        assert_eq!(framed(Framing::Spdy, 3, 2, true), [0, 0, 0, 3, 1, 0, 0, 2, 7, 7]);
        assert_eq!(framed(Framing::Channels, 1, 2, false), [0x82, 3, 1, 7, 7]);
        assert_eq!(framed(Framing::Tunnel, 0, 200, false)[..5], [0x82, 126, 0, 200, 7]);
        assert_eq!(framed(Framing::Channels, 2, 65535, false)[..11], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0, 2]);
    }
}
