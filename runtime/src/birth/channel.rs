//! Messages between the processes of a birth: JSON, with descriptors, on a socket that keeps message boundaries.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::agent::Container;
use crate::resctrl::ResctrlGroups;
use crate::rootfs::SharedRoot;

/// The longest message: a failure with the longest path in it several times over.
const MAX_MESSAGE_BYTES: usize = 32 << 10;
/// The longest reason that is sent, in bytes; the rest of it is cut off.
const MAX_REASON_BYTES: usize = 4 << 10;

/// What the builder tells the caller. Descriptors come along in the order of the fields that announce them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The process is there. Descriptors: its pidfd, then those announced.
    Born {
        pid: i32,
        cgroup: String,
        /// Whether it has one at all.
        has_cgroup: bool,
        console: bool,
        filter: bool,
        notes: Vec<String>,
        /// Who it is, where an agent is told of each of its processes.
        known_as: Option<Container>,
        /// What is mounted for it where others live.
        shared_root: Option<SharedRoot>,
        /// Whether there are hooks for after its start or after its end.
        later_hooks: bool,
        /// The resctrl groups that it is in.
        groups: ResctrlGroups,
    },
    /// What was to be done otherwise is done.
    Done,
    /// It failed; all is undone. A descriptor is the pidfd of a process that the caller has to reap.
    Failed(Failure),
}

impl Answer {
    /// That a process is there of which nothing else is to be told.
    pub(crate) fn born(pid: i32, cgroup: String, console: bool) -> Self {
        Self::Born {
            pid,
            cgroup,
            has_cgroup: true,
            console,
            filter: false,
            notes: Vec::new(),
            known_as: None,
            shared_root: None,
            later_hooks: false,
            groups: ResctrlGroups::default(),
        }
    }
}

/// What a new process tells the builder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It waits at its gate, or is about to execute its program. A descriptor is the master of its terminal.
    Ready { notes: Vec<String> },
    /// It has loaded a filter that notifies. The descriptor is the listener.
    Listener,
    /// Its network namespace can take the planned devices: it waits for them.
    Devices,
    /// Its namespaces are made: the hooks in the runtime's are next, and it waits for them.
    Hooks,
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
        // No larger than it has to be: what a caller's stack or heap has once touched stays in its memory.
        let length = cleat_sys::passing::next_length(&self.0)?;
        if length > MAX_MESSAGE_BYTES {
            return Err(rustix::io::Errno::MSGSIZE.into());
        }
        let mut buffer = vec![0; length];
        let (length, descriptors) = cleat_sys::passing::receive(&self.0, &mut buffer)?;
        if length == 0 {
            return Ok(Received::Closed);
        }
        Ok(Received::Message(serde_json::from_slice(&buffer[..length])?, descriptors))
    }

    /// Waits until there is a message or the end of the other side; false when `caller` gave up before that.
    pub(crate) fn wait_for(&self, caller: &Self) -> io::Result<bool> {
        let mut ready = [PollFd::new(&self.0, PollFlags::IN), caller.end()];
        loop {
            match poll(&mut ready, None) {
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
                Ok(_) => return Ok(!ready[0].revents().is_empty()),
            }
        }
    }

    /// For a wait of another kind: ready when the other side has given up or ended.
    pub(crate) fn end(&self) -> PollFd<'_> {
        PollFd::new(&self.0, PollFlags::RDHUP)
    }

    /// Waits so long for a message or the end of the other side; whether there is one.
    pub(crate) fn wait_at_most(&self, patience: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        Ok(poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout))? > 0)
    }

    /// Tells the other side that this one wants nothing more; its answer can still be received.
    pub(crate) fn give_up(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.0, rustix::net::Shutdown::Write)?)
    }

    /// Whether the other side has given up or ended.
    pub(crate) fn is_given_up(&self) -> io::Result<bool> {
        Ok(poll(&mut [self.end()], Some(&Timespec::default()))? > 0)
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

    /// A monitor receives a few messages in its life and would keep the pages of a buffer for the longest one.
    #[test]
    fn a_short_message_needs_little_stack() {
        let (left, right) = Channel::pair().unwrap();
        left.send(&Report::Ready { notes: Vec::new() }, &[]).unwrap();
        let receive =
            move || matches!(right.receive::<Report>(), Ok(Received::Message(Report::Ready { .. }, _)));
        let thread = std::thread::Builder::new().stack_size(MAX_MESSAGE_BYTES - (4 << 10)).spawn(receive);
        assert!(thread.unwrap().join().unwrap());
    }

    #[test]
    fn a_caller_that_gave_up_keeps_nobody_waiting_and_hears_the_answer() {
        let ((left, right), (caller, callee)) = (Channel::pair().unwrap(), Channel::pair().unwrap());
        let report = Report::Ready { notes: Vec::new() };
        assert!(!callee.is_given_up().unwrap());
        caller.send(&report, &[]).unwrap();
        left.send(&report, &[]).unwrap();
        assert!(right.wait_for(&callee).unwrap(), "a message of the caller is no end");
        right.receive::<Report>().unwrap();
        caller.give_up().unwrap();
        assert!(callee.is_given_up().unwrap());
        assert!(!right.wait_for(&callee).unwrap());
        callee.send(&report, &[]).unwrap();
        assert!(caller.wait_at_most(Duration::ZERO).unwrap());
        assert!(matches!(caller.receive::<Report>().unwrap(), Received::Message(..)));
        assert!(!caller.wait_at_most(Duration::ZERO).unwrap());
    }

    #[test]
    fn the_end_of_the_other_side_is_seen() {
        let (left, right) = Channel::pair().unwrap();
        drop(left);
        assert!(matches!(right.receive::<Report>().unwrap(), Received::Closed));
    }
}
