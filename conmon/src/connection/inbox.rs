//! Frames from a client, put together from whatever arrives, never past the frame's end: what a descriptor came with
//! is then certain.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cleat_conmon_proto::{FrameError, MAX_FRAME_BYTES, frame_length};
use cleat_sys::passing;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Bytes a frame's buffer grows by: a client that announces much and sends little costs little.
const GROWTH_BYTES: usize = 64 << 10;

/// One message and the descriptors that came with it.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) payload: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// What there was to receive.
#[derive(Debug)]
pub(crate) enum Received {
    Frame(Frame),
    /// Nothing more for now.
    Nothing,
    /// The client has closed its side.
    Closed,
}

/// Receiving failed for good.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error("receive a frame")]
    Socket(#[source] io::Error),
    #[error("receive a frame")]
    Frame(#[source] FrameError),
}

/// What has arrived of the next frame.
#[derive(Debug)]
pub(crate) struct Inbox {
    limit_bytes: usize,
    header: [u8; 4],
    header_bytes: usize,
    payload: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self::with_limit(MAX_FRAME_BYTES)
    }
}

impl Inbox {
    /// One that refuses frames longer than `limit_bytes`.
    pub(crate) fn with_limit(limit_bytes: usize) -> Self {
        Self { limit_bytes, header: [0; 4], header_bytes: 0, payload: Vec::new(), descriptors: Vec::new() }
    }

    /// Takes what the socket has, up to the end of one frame.
    pub(crate) fn receive(&mut self, socket: &impl AsFd) -> Result<Received, ReceiveError> {
        loop {
            let step = if self.header_bytes < self.header.len() {
                self.receive_header(socket)
            } else {
                let length = self.length()?;
                if self.payload.len() == length {
                    return Ok(Received::Frame(self.take()));
                }
                self.receive_payload(socket, length)
            };
            match step {
                Ok(0) => return Ok(Received::Closed),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Received::Nothing),
                Err(error) => return Err(ReceiveError::Socket(error)),
            }
        }
    }

    fn length(&self) -> Result<usize, ReceiveError> {
        match frame_length(self.header) {
            Ok(length) if length <= self.limit_bytes => Ok(length),
            Ok(length) => Err(ReceiveError::Frame(FrameError::TooLong(length))),
            Err(error) => Err(ReceiveError::Frame(error)),
        }
    }

    fn receive_header(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        let (bytes, descriptors) = passing::receive(socket, &mut self.header[self.header_bytes..])?;
        self.header_bytes += bytes;
        self.descriptors.extend(descriptors);
        Ok(bytes)
    }

    /// Without room for descriptors: those that come in the middle of a frame are closed by the kernel.
    fn receive_payload(&mut self, socket: &impl AsFd, length: usize) -> io::Result<usize> {
        let start = self.payload.len();
        let wanted = (length - start).min(GROWTH_BYTES);
        self.payload.reserve_exact(wanted);
        self.payload.resize(start + wanted, 0);
        let received = loop {
            match recv(socket, &mut self.payload[start..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                other => break other.map(|(bytes, _)| bytes),
            }
        };
        self.payload.truncate(start + received.unwrap_or(0));
        Ok(received?)
    }

    fn take(&mut self) -> Frame {
        self.header_bytes = 0;
        Frame {
            payload: std::mem::take(&mut self.payload),
            descriptors: std::mem::take(&mut self.descriptors),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use cleat_conmon_proto::encode_header;

    use super::*;

    fn pair() -> (UnixStream, UnixStream) {
        let (client, server) = UnixStream::pair().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, server)
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        [encode_header(payload.len()).unwrap().as_slice(), payload].concat()
    }

    fn expect_frame(inbox: &mut Inbox, server: &UnixStream) -> Frame {
        match inbox.receive(server).unwrap() {
            Received::Frame(frame) => frame,
            other => panic!("expected a frame, got {other:?}"),
        }
    }

    #[test]
    fn a_frame_in_single_bytes_is_one_frame() {
        let (mut client, server) = pair();
        let mut inbox = Inbox::default();
        let bytes = framed(b"hello");
        for byte in &bytes[..bytes.len() - 1] {
            client.write_all(&[*byte]).unwrap();
            assert!(matches!(inbox.receive(&server).unwrap(), Received::Nothing));
        }
        client.write_all(&bytes[bytes.len() - 1..]).unwrap();
        assert_eq!(expect_frame(&mut inbox, &server).payload, b"hello");
        drop(client);
        assert!(matches!(inbox.receive(&server).unwrap(), Received::Closed));
    }

    #[test]
    fn descriptors_stay_with_the_frame_they_came_with() {
        let (client, server) = pair();
        let (passed, _other) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::default();
        passing::send(&client, &framed(b"without"), &[]).unwrap();
        passing::send(&client, &framed(b"with"), &[passed.as_fd(), passed.as_fd()]).unwrap();
        passing::send(&client, &framed(b""), &[]).unwrap();
        for (payload, descriptors) in [(b"without".as_slice(), 0), (b"with", 2), (b"", 0)] {
            let frame = expect_frame(&mut inbox, &server);
            assert_eq!((frame.payload.as_slice(), frame.descriptors.len()), (payload, descriptors));
        }
    }

    #[test]
    fn descriptors_in_the_middle_of_a_frame_are_dropped() {
        let (client, server) = pair();
        let (passed, other) = UnixStream::pair().unwrap();
        let mut inbox = Inbox::default();
        let bytes = framed(b"hello");
        passing::send(&client, &bytes[..6], &[]).unwrap();
        passing::send(&client, &bytes[6..], &[passed.as_fd()]).unwrap();
        assert!(expect_frame(&mut inbox, &server).descriptors.is_empty());
        drop(passed);
        assert_eq!(rustix::io::read(&other, &mut [0_u8; 1]), Ok(0), "no copy is left open");
    }

    #[test]
    fn too_long_a_frame_is_refused_before_it_is_read() {
        let (mut client, server) = pair();
        client.write_all(&u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes()).unwrap();
        assert!(matches!(Inbox::default().receive(&server), Err(ReceiveError::Frame(_))));
    }

    #[test]
    fn the_longest_frame_passes() {
        let (mut client, server) = pair();
        server.set_nonblocking(false).unwrap();
        let sender =
            std::thread::spawn(move || client.write_all(&framed(&vec![7; MAX_FRAME_BYTES])).unwrap());
        assert_eq!(expect_frame(&mut Inbox::default(), &server).payload.len(), MAX_FRAME_BYTES);
        sender.join().unwrap();
    }
}
