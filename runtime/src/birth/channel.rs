//! Messages between the processes of a birth: JSON, with descriptors, on a socket that keeps message boundaries.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Failure;

/// The longest message: a failure with the longest path in it several times over.
const MAX_MESSAGE_BYTES: usize = 32 << 10;
/// The longest reason that is sent, in bytes; the rest of it is cut off.
const MAX_REASON_BYTES: usize = 4 << 10;

/// What the builder tells the caller. Descriptors come along in the order of the fields that announce them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process is there. Descriptors: its pidfd, then those announced.
    Born { pid: i32, cgroup: String, console: bool, filter: bool, notes: Vec<String> },
    /// New limits hold.
    Updated,
    /// It failed; all is undone. A descriptor is the pidfd of a process that the caller has to reap.
    Failed(Failure),
}

/// What a new process tells the builder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It waits at its gate, or is about to execute its program. A descriptor is the master of its terminal.
    Ready { notes: Vec<String> },
    /// It failed and ends.
    Failed(Failure),
}

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// A received message, or the end of the other side.
#[derive(Debug)]
pub(crate) enum Received<T> {
    Message(T, Vec<OwnedFd>),
    Closed,
}

impl Channel {
    /// Both sides. Their numbers are above those of the standard streams, which will be replaced.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = cleat_sys::passing::message_pair()?;
        Ok((Self(above_streams(left)?), Self(above_streams(right)?)))
    }

    pub(crate) fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        cleat_sys::passing::send(&self.0, &serde_json::to_vec(message)?, descriptors).map(|_| ())
    }

    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Received<T>> {
        let mut buffer = [0; MAX_MESSAGE_BYTES];
        let (length, descriptors) = cleat_sys::passing::receive(&self.0, &mut buffer)?;
        if length == 0 {
            return Ok(Received::Closed);
        }
        Ok(Received::Message(serde_json::from_slice(&buffer[..length])?, descriptors))
    }

    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(&self.0, 3)?))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A failure that fits into a message.
pub(crate) fn shortened(mut failure: Failure) -> Failure {
    for text in [&mut failure.step, &mut failure.reason] {
        let cut = (0..=MAX_REASON_BYTES.min(text.len())).rev().find(|index| text.is_char_boundary(*index));
        text.truncate(cut.unwrap_or(0));
    }
    failure
}

fn above_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_failure_fits_into_a_message() {
        let long = "ä\u{1}".repeat(100_000);
        let failure = shortened(Failure { step: long.clone(), reason: long, errno: Some(2) });
        let (left, right) = Channel::pair().unwrap();
        left.send(&Report::Failed(failure.clone()), &[]).unwrap();
        match right.receive().unwrap() {
            Received::Message(Report::Failed(received), _) => assert_eq!(received, failure),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let (left, right) = Channel::pair().unwrap();
        drop(left);
        assert!(matches!(right.receive::<Report>().unwrap(), Received::Closed));
    }
}
