//! A connection to a monitor: frames of JSON with descriptors (see `cleat_conmon_proto`).

use std::io;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cleat_conmon_proto::{Message, Request, SOCKET_NAME, encode_header, frame_length};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::Serialize;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::MonitorError;

/// Length of a frame's header in bytes.
const HEADER: usize = 4;

/// Bytes read at a time: more than any message but a long failure has.
const READ_BYTES: usize = 4096;

/// One connection to one monitor.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: UnixStream,
    /// What was read and not yet returned, so that dropping a `receive` in the middle of a frame loses nothing.
    unread: Vec<u8>,
    /// What came with messages and was not taken yet.
    descriptors: Vec<OwnedFd>,
}

impl Connection {
    /// The daemon's end of the socket pair a monitor was launched with.
    pub(crate) fn from_pair(end: std::os::unix::net::UnixStream) -> io::Result<Self> {
        end.set_nonblocking(true)?;
        Ok(Self { stream: UnixStream::from_std(end)?, unread: Vec::new(), descriptors: Vec::new() })
    }

    /// Connects to the monitor whose state folder is `state_dir`.
    ///
    /// The folder is opened first and the socket named through its descriptor: a socket's name has room for 107 bytes,
    /// a state folder may be deeper.
    pub(crate) async fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = std::fs::File::open(state_dir)?;
        let name: PathBuf = format!("/proc/self/fd/{}/{SOCKET_NAME}", folder.as_raw_fd()).into();
        Ok(Self { stream: UnixStream::connect(name).await?, unread: Vec::new(), descriptors: Vec::new() })
    }

    /// Process id of the monitor that made the socket.
    pub(crate) fn peer_pid(&self) -> Option<i32> {
        self.stream.peer_cred().ok().and_then(|peer| peer.pid())
    }

    /// Sends one frame; `descriptors` travel with its first byte.
    pub(crate) async fn send(
        &mut self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), MonitorError> {
        let payload = serde_json::to_vec(message).map_err(MonitorError::Encode)?;
        let mut frame = encode_header(payload.len())?.to_vec();
        frame.extend_from_slice(&payload);
        let sent = self.send_first(&frame, descriptors).await.map_err(MonitorError::Send)?;
        self.stream.write_all(&frame[sent..]).await.map_err(MonitorError::Send)
    }

    async fn send_first(&self, frame: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let socket = self.stream.as_raw_fd();
        self.stream
            .async_io(Interest::WRITABLE, || {
                let parts = [IoSlice::new(frame)];
                Ok(sendmsg::<()>(socket, &parts, control, MsgFlags::MSG_NOSIGNAL, None)?)
            })
            .await
    }

    /// The next message; `None` when the monitor closed the connection. May be dropped and called again.
    pub(crate) async fn receive(&mut self) -> Result<Option<Message>, MonitorError> {
        loop {
            if let Some(message) = self.take_frame()? {
                return Ok(Some(message));
            }
            if self.read().await.map_err(MonitorError::Receive)? == 0 {
                return Ok(None);
            }
        }
    }

    /// The descriptor that came with the last message, if one did.
    pub(crate) fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.pop()
    }

    /// Reads what is there; nothing at the end. No descriptor is kept but those of the last message: a monitor sends one
    /// at most, and it is taken at once or not wanted.
    async fn read(&mut self) -> io::Result<usize> {
        let mut bytes = [0; READ_BYTES];
        let receive = || cleat_sys::passing::receive(&self.stream, &mut bytes);
        let (length, descriptors) = self.stream.async_io(Interest::READABLE, receive).await?;
        self.unread.extend_from_slice(&bytes[..length]);
        if !descriptors.is_empty() {
            self.descriptors = descriptors;
        }
        Ok(length)
    }

    /// Sends a request and returns the next message.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Message, MonitorError> {
        self.send(request, descriptors).await?;
        self.receive().await?.ok_or(MonitorError::Gone)
    }

    fn take_frame(&mut self) -> Result<Option<Message>, MonitorError> {
        let Some(header) = self.unread.first_chunk::<HEADER>() else { return Ok(None) };
        let end = HEADER + frame_length(*header)?;
        if self.unread.len() < end {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.unread[HEADER..end]).map_err(MonitorError::Decode)?;
        self.unread.drain(..end);
        Ok(Some(message))
    }
}
