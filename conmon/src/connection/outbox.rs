//! Frames on their way to a client that may be slow to read them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use cleat_conmon_proto::{FrameError, Message, encode_header};
use cleat_sys::passing;

/// Bytes held for a client that does not read. More end the connection: the monitor's memory is not the client's.
pub(crate) const MAX_HELD_BYTES: usize = 64 << 10;

/// A message could not be sent; the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("encode a message")]
    Encode(#[source] serde_json::Error),
    #[error("encode a message")]
    Frame(#[source] FrameError),
    #[error("client does not read: {0} bytes are waiting for it")]
    Full(usize),
    #[error("send to client")]
    Socket(#[source] io::Error),
}

/// What has not been sent yet.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
    /// Goes with the byte at this place.
    descriptor: Option<(usize, OwnedFd)>,
}

impl Outbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Puts `message` into the queue; `descriptor` goes with its first byte.
    pub(crate) fn push(&mut self, message: &Message, descriptor: Option<OwnedFd>) -> Result<(), SendError> {
        let payload = serde_json::to_vec(message).map_err(SendError::Encode)?;
        let header = encode_header(payload.len()).map_err(SendError::Frame)?;
        if self.bytes.len() + header.len() + payload.len() > MAX_HELD_BYTES {
            return Err(SendError::Full(self.bytes.len()));
        }
        if let Some(descriptor) = descriptor {
            self.descriptor = Some((self.bytes.len(), descriptor));
        }
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&payload);
        Ok(())
    }

    /// Sends what the socket takes without waiting.
    pub(crate) fn flush(&mut self, socket: &impl AsFd) -> Result<(), SendError> {
        while self.sent < self.bytes.len() {
            match self.send_some(socket) {
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(SendError::Socket(error)),
            }
        }
        // The buffer is given back: most connections send two messages in their life.
        *self = Self::default();
        Ok(())
    }

    fn send_some(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        match &self.descriptor {
            Some((place, _)) if self.sent < *place => {
                passing::send(socket, &self.bytes[self.sent..*place], &[])
            }
            Some((_, descriptor)) => {
                let bytes = passing::send(socket, &self.bytes[self.sent..], &[descriptor.as_fd()])?;
                self.descriptor = None;
                Ok(bytes)
            }
            None => passing::send(socket, &self.bytes[self.sent..], &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::connection::inbox::{Inbox, Received};

    fn receive_all(socket: &UnixStream) -> Vec<(Message, usize)> {
        let mut inbox = Inbox::default();
        let mut messages = Vec::new();
        while let Received::Frame(frame) = inbox.receive(socket).unwrap() {
            messages.push((serde_json::from_slice(&frame.payload).unwrap(), frame.descriptors.len()));
        }
        messages
    }

    #[test]
    fn a_descriptor_goes_with_its_own_message() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut outbox = Outbox::default();
        outbox.push(&Message::Done, None).unwrap();
        outbox.push(&Message::Created { pid: 7 }, Some(ours.try_clone().unwrap().into())).unwrap();
        outbox.push(&Message::Oom, None).unwrap();
        outbox.flush(&ours).unwrap();
        assert!(outbox.is_empty());
        let expected = [(Message::Done, 0), (Message::Created { pid: 7 }, 1), (Message::Oom, 0)];
        assert_eq!(receive_all(&theirs), expected);
    }

    #[test]
    fn a_client_that_does_not_read_fills_its_queue_and_no_more() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let mut outbox = Outbox::default();
        let mut pushed = 0;
        let error = loop {
            match outbox.push(&Message::Oom, None) {
                Ok(()) => pushed += 1,
                Err(error) => break error,
            }
            outbox.flush(&ours).unwrap();
        };
        assert!(matches!(error, SendError::Full(held) if held <= MAX_HELD_BYTES));
        let mut read = 0;
        while !outbox.is_empty() {
            read += receive_all(&theirs).len();
            outbox.flush(&ours).unwrap();
        }
        assert_eq!(read + receive_all(&theirs).len(), pushed);
    }
}
