//! The caller's hold on its forked child.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::channel::{Answer, Channel, Received};
use crate::Failure;
use crate::failure::Step;

/// How long a child may take to undo its work for a caller that gave up: to kill one process and remove one cgroup.
const UNDO_PATIENCE: Duration = Duration::from_secs(2);

/// A forked child at work for the caller. Dropped before its answer, it is told to undo its work, and killed when it
/// does not.
#[derive(Debug)]
pub(crate) struct Worker {
    channel: Channel,
    pidfd: OwnedFd,
    answered: bool,
}

impl Worker {
    pub(super) fn new(channel: Channel, pidfd: OwnedFd) -> Self {
        Self { channel, pidfd, answered: false }
    }

    /// The child's answer; the child itself is reaped.
    pub(crate) fn await_answer(&mut self) -> Result<(Answer, Vec<OwnedFd>), Failure> {
        let received = self.channel.receive().step(|| "hear from the runtime's child");
        self.answered = true;
        // It ends after its answer. ECHILD when a reaper of all children was quicker.
        cleat_sys::process::reap(&self.pidfd).ok();
        match received? {
            Received::Message(answer, descriptors) => Ok((answer, descriptors)),
            Received::Closed => {
                Err(Failure::because("hear from the runtime's child", "it ended without an answer"))
            }
        }
    }

    /// What the child worked with, for what follows its answer.
    pub(crate) fn channel(&self) -> io::Result<Channel> {
        self.channel.try_clone()
    }
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let told = self.channel.give_up().and_then(|()| self.channel.wait_at_most(UNDO_PATIENCE));
        let received = if told.unwrap_or(false) { self.channel.receive::<Answer>().ok() } else { None };
        // ESRCH and ECHILD: it has ended, and a reaper of all children was quicker.
        cleat_sys::process::send_signal(&self.pidfd, rustix::process::Signal::KILL.as_raw()).ok();
        cleat_sys::process::reap(&self.pidfd).ok();
        if let Some(Received::Message(answer, descriptors)) = received {
            end_newborn(&answer, descriptors);
        }
    }
}

/// Ends and reaps the process of an answer that nobody waits for; it comes first among the descriptors.
fn end_newborn(answer: &Answer, descriptors: Vec<OwnedFd>) {
    if let (Answer::Born { .. } | Answer::Failed(_), Some(process)) = (answer, descriptors.first()) {
        cleat_sys::process::send_signal(process, rustix::process::Signal::KILL.as_raw()).ok();
        cleat_sys::process::reap(process).ok();
    }
}
