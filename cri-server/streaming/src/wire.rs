//! The sending side of a connection: whole frames, one after the other, each written from where its bytes are.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::net::SendFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};

use crate::activity::Activity;
use crate::connection::Sink;
use crate::presence::Presence;
use crate::stage::Stage;

/// Room that a payload leaves in front of itself for the frame's header: ten bytes of WebSocket and the channel.
pub(crate) const HEADROOM: usize = 16;
/// How often a client hears from us while nothing of its own is read, its pings included. client-go gives a WebSocket up
/// after 61 s without an answer.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How frames of a channel are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// SPDY/3.1 data frames.
    Spdy,
    /// WebSocket binary messages that begin with the channel's number.
    Channels,
    /// WebSocket text messages that begin with the channel's digit, the rest in base64.
    Base64,
    /// WebSocket binary messages without one: a tunnel.
    Tunnel,
}

/// Why a stream is ended at once, SPDY/3.1 section 2.6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reset {
    /// REFUSED_STREAM: nothing was done for it.
    Refused = 3,
    /// CANCEL: it has broken.
    Cancelled = 5,
}

/// The sending side, shared by everything that sends, and what is known of the client.
pub(crate) struct Wire {
    sink: Mutex<Sink>,
    is_socket: bool,
    framing: Framing,
    failed: AtomicBool,
    presence: Presence,
    activity: Activity,
    /// Whether what the client sends waits for somebody who does not take it.
    held: AtomicBool,
}

/// Lasts as long as nothing is read from the client.
pub(crate) struct Held<'w>(&'w AtomicBool);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Wire {
    pub(crate) fn new(sink: Sink, presence: Presence, framing: Framing) -> Self {
        // Text is made of what is sent, so it cannot come from a pipe.
        let is_socket = matches!(sink, Sink::Tcp(_)) && framing != Framing::Base64;
        let (failed, held) = (AtomicBool::new(false), AtomicBool::new(false));
        let activity = Activity::default();
        Self { sink: Mutex::new(sink), is_socket, framing, failed, presence, activity, held }
    }

    /// Whether [`Wire::send_staged`] works.
    pub(crate) fn is_socket(&self) -> bool {
        self.is_socket
    }

    pub(crate) fn presence(&self) -> &Presence {
        &self.presence
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Says that nothing is read from the client until the answer is dropped.
    pub(crate) fn hold(&self) -> Held<'_> {
        self.held.store(true, Ordering::Relaxed);
        Held(&self.held)
    }

    /// Sends a frame that is complete already.
    pub(crate) async fn raw(&self, frame: &[u8]) -> io::Result<()> {
        self.whole(async |sink| sink.write_all(frame).await).await?;
        self.activity.note();
        Ok(())
    }

    /// Has `write` write one frame. A sender that is dropped in the middle of one leaves the connection unusable: nothing
    /// is sent after that.
    async fn whole(&self, write: impl AsyncFnOnce(&mut Sink) -> io::Result<()>) -> io::Result<()> {
        let mut sink = self.sink.lock().await;
        if self.failed.swap(true, Ordering::Relaxed) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        write(&mut sink).await?;
        self.failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Sends what is in `buffer` behind [`HEADROOM`] bytes on `channel`.
    pub(crate) async fn send(&self, channel: u32, buffer: &mut [u8]) -> io::Result<()> {
        if self.framing == Framing::Base64 {
            let mut text = vec![0; HEADROOM];
            text.push(b'0' + channel as u8);
            text.extend_from_slice(STANDARD.encode(&buffer[HEADROOM..]).as_bytes());
            return self.frame(channel, &mut text, false).await;
        }
        self.frame(channel, buffer, false).await
    }

    async fn frame(&self, channel: u32, buffer: &mut [u8], last: bool) -> io::Result<()> {
        let (room, payload) = buffer.split_at_mut(HEADROOM);
        let start = head(self.framing, channel, payload.len(), last, room);
        self.raw(&buffer[start..]).await
    }

    /// Sends `text` on `channel`.
    pub(crate) async fn tell(&self, channel: u32, text: &[u8]) -> io::Result<()> {
        let mut buffer = vec![0; HEADROOM];
        buffer.extend_from_slice(text);
        self.send(channel, &mut buffer).await
    }

    /// Sends `length` bytes of a stage on `channel`, on a socket.
    pub(crate) async fn send_staged(&self, channel: u32, stage: &Stage, length: usize) -> io::Result<()> {
        let mut room = [0; HEADROOM];
        let start = head(self.framing, channel, length, false, &mut room);
        self.whole(async |sink| match sink {
            Sink::Tcp(half) => splice_frame(half.as_ref(), &room[start..], stage, length).await,
            Sink::Other(_) => Err(io::ErrorKind::Unsupported.into()),
        })
        .await?;
        self.activity.note();
        Ok(())
    }

    /// Ends `channel`; WebSocket channels end with the connection.
    pub(crate) async fn finish(&self, channel: u32) -> io::Result<()> {
        match self.framing {
            Framing::Spdy => self.frame(channel, &mut [0; HEADROOM], true).await,
            Framing::Channels | Framing::Base64 | Framing::Tunnel => Ok(()),
        }
    }

    /// Ends `channel` as a broken connection; WebSocket channels cannot be.
    pub(crate) async fn reset(&self, channel: u32, why: Reset) -> io::Result<()> {
        if self.framing != Framing::Spdy {
            return Ok(());
        }
        let [a, b, c, d] = (channel & 0x7fff_ffff).to_be_bytes();
        self.raw(&[0x80, 3, 0, 3, 0, 0, 0, 8, a, b, c, d, 0, 0, 0, why as u8]).await
    }

    /// Lets the client hear from us while its own frames wait, and the kernel find out that it is gone. Returns when that
    /// cannot be told.
    pub(crate) async fn heartbeats(&self) -> io::Error {
        let frame: &[u8] = match self.framing {
            // SETTINGS without any. Not a PING: client-go's answers wait for what it is held back in sending.
            Framing::Spdy => &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0],
            // A pong that nobody asked for, RFC 6455 section 5.5.3.
            Framing::Channels | Framing::Base64 | Framing::Tunnel => &[0x8a, 0],
        };
        let mut ticks = interval(HEARTBEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if self.held.load(Ordering::Relaxed)
                && let Err(error) = self.whole(async |sink| sink.write_all(frame).await).await
            {
                return error;
            }
        }
    }

    /// Says goodbye and ends the sending direction.
    pub(crate) async fn close(&self) -> io::Result<()> {
        match self.framing {
            Framing::Spdy => self.raw(&[0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0]).await?,
            // Close with status 1000, RFC 6455 section 7.4.1.
            Framing::Channels | Framing::Base64 | Framing::Tunnel => {
                self.raw(&[0x88, 2, 0x03, 0xe8]).await?;
            }
        }
        self.sink.lock().await.shutdown().await
    }
}

#[cfg(test)]
impl Wire {
    /// One whose frames nobody reads.
    pub(crate) fn nowhere(framing: Framing) -> std::sync::Arc<Self> {
        let io: Box<dyn crate::connection::Io> =
            Box::new(tokio::io::join(tokio::io::empty(), tokio::io::sink()));
        let (_, half) = tokio::io::split(io);
        std::sync::Arc::new(Self::new(Sink::Other(half), Presence::unknown(), framing))
    }
}

/// Writes a frame whose payload is in a stage.
async fn splice_frame(tcp: &TcpStream, mut head: &[u8], stage: &Stage, mut length: usize) -> io::Result<()> {
    while !head.is_empty() {
        // The payload follows at once: both go in one packet.
        let send = || Ok(rustix::net::send(tcp, head, SendFlags::MORE | SendFlags::NOSIGNAL)?);
        let sent = tcp.async_io(Interest::WRITABLE, send).await?;
        head = &head[sent..];
    }
    while length > 0 {
        match tcp.async_io(Interest::WRITABLE, || stage.give(tcp.as_fd(), length)).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            given => length -= given,
        }
    }
    Ok(())
}

/// Writes the header of a frame of `length` bytes at the end of `room`, of [`HEADROOM`] bytes, and says where it begins.
fn head(framing: Framing, channel: u32, length: usize, last: bool, room: &mut [u8]) -> usize {
    if framing == Framing::Spdy {
        room[8..12].copy_from_slice(&(channel & 0x7fff_ffff).to_be_bytes());
        room[12..16].copy_from_slice(&(length as u32 & 0x00ff_ffff).to_be_bytes());
        room[12] = u8::from(last);
        return 8;
    }
    let mut end = HEADROOM;
    if framing == Framing::Channels {
        end -= 1;
        room[end] = channel as u8;
    }
    let length = length + HEADROOM - end;
    let start = match length {
        0..126 => {
            room[end - 1] = length as u8;
            end - 2
        }
        126..65536 => {
            room[end - 3] = 126;
            room[end - 2..end].copy_from_slice(&(length as u16).to_be_bytes());
            end - 4
        }
        _ => {
            room[end - 9] = 127;
            room[end - 8..end].copy_from_slice(&(length as u64).to_be_bytes());
            end - 10
        }
    };
    // The last frame of a message: of text, or of bytes.
    room[start] = if framing == Framing::Base64 { 0x81 } else { 0x82 };
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_stand_right_before_their_payload() {
        let framed = |framing, channel, length, last| {
            let mut buffer = vec![7; HEADROOM + length];
            let start = head(framing, channel, length, last, &mut buffer[..HEADROOM]);
            buffer[start..].to_vec()
        };
        assert_eq!(framed(Framing::Spdy, 3, 2, true), [0, 0, 0, 3, 1, 0, 0, 2, 7, 7]);
        assert_eq!(framed(Framing::Channels, 1, 2, false), [0x82, 3, 1, 7, 7]);
        assert_eq!(framed(Framing::Base64, 1, 2, false), [0x81, 2, 7, 7]);
        assert_eq!(framed(Framing::Tunnel, 0, 200, false)[..5], [0x82, 126, 0, 200, 7]);
        assert_eq!(framed(Framing::Channels, 2, 65535, false)[..11], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0, 2]);
    }
}
