//! The daemon's side of a container's monitor: launching one, talking to it, noticing its end.
//!
//! The monitor is trusted with the container's output and exit record, never with its end: the daemon holds descriptors
//! of the processes and kills through them and the cgroup.
mod connection;
mod launch;
mod lock;
mod process;
mod watching;

pub(super) use connection::Connection;
pub(super) use launch::{Launched, Launcher};
pub(super) use process::{End, Process, recorded_end, wait_for_monitor};
pub(super) use watching::{reach, watch_end};

use std::io;
use std::path::PathBuf;

use cleat_conmon_proto::{Failure, FrameError, Message};

/// Why a monitor could not be launched or asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MonitorError {
    /// The program could not be copied into memory.
    #[error("prepare the monitor {path} for execution")]
    Prepare {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process could not be made.
    #[error("execute the monitor")]
    Execute(#[source] io::Error),
    /// Its socket could not be reached.
    #[error("connect to the monitor in {path}")]
    Connect {
        /// Its state folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A message could not be written as JSON.
    #[error("encode a message for the monitor")]
    Encode(#[source] serde_json::Error),
    /// A message could not be sent.
    #[error("send to the monitor")]
    Send(#[source] io::Error),
    /// Nothing could be received.
    #[error("receive from the monitor")]
    Receive(#[source] io::Error),
    /// What was received is no message.
    #[error("decode what the monitor sent")]
    Decode(#[source] serde_json::Error),
    /// A frame is too long.
    #[error("frame a message")]
    Frame(#[from] FrameError),
    /// The monitor ended instead of answering.
    #[error("the monitor ended without an answer (its complaints are in monitor.log of its state folder)")]
    Gone,
    /// The monitor answered something else.
    #[error("the monitor answered {0:?}, which is no answer to this request")]
    Unexpected(Box<Message>),
    /// What was asked for failed.
    #[error(transparent)]
    Failed(Failure),
    /// The container's process could not be watched.
    #[error("hold process {pid}")]
    Hold {
        /// The process id.
        pid: i32,
        /// Why.
        source: io::Error,
    },
}

impl MonitorError {
    /// The kernel's error number at the bottom of a failed request.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Failed(failure) => failure.errno,
            _ => None,
        }
    }
}

/// `Ok` for [`Message::Done`], the failure for [`Message::Failed`].
pub(super) fn done(message: Message) -> Result<(), MonitorError> {
    match message {
        Message::Done => Ok(()),
        Message::Failed(failure) => Err(MonitorError::Failed(failure)),
        other => Err(MonitorError::Unexpected(Box::new(other))),
    }
}
