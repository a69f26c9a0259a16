//! Clients: the daemon's connections, each with one request under way at most.
//!
//! ```text
//!   socket ──▶ Inbox ──▶ Request ──▶ Monitor ──▶ Message ──▶ Outbox ──▶ socket
//! ```
//!
//! Nothing here waits: a frame that has arrived in part stays in its inbox, an answer that the client does not read
//! stays in its outbox, and both have bounds. While an answer is owed that needs time, no further request of that
//! client is read: answers come in the order of their requests.

mod inbox;
mod listener;
mod outbox;
mod table;

use std::os::unix::net::UnixStream;

use cleat_conmon_proto::{Failure, Request};
use cleat_runtime::PendingUpdate;

pub(crate) use inbox::{Frame, Inbox, ReceiveError, Received};
pub(crate) use listener::Listener;
pub(crate) use outbox::{Outbox, SendError};
pub(crate) use table::Connections;

use crate::poller::Interest;

/// One client.
pub(crate) struct Connection {
    /// Unlike any other's of this monitor, for as long as both exist.
    pub(crate) number: u32,
    pub(crate) socket: UnixStream,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    /// Whether it is told of the container's end and of OOM kills.
    pub(crate) watches: bool,
    pub(crate) owed: Owed,
    /// What the poller was last told.
    interest: Interest,
}

/// The answer that a client waits for.
#[derive(Debug)]
pub(crate) enum Owed {
    /// None: its next request is read.
    Nothing,
    /// `Done` or `Failed`, when the container's init has executed its program.
    Start,
    /// `Created` or `Failed`, when the runtime has made its process.
    Exec,
    /// `Done` or `Failed`, when the runtime has set the limits or taken a checkpoint.
    Update(PendingUpdate),
}

impl Connection {
    fn new(number: u32, socket: UnixStream) -> Self {
        let (inbox, outbox) = (Inbox::default(), Outbox::default());
        Self {
            number,
            socket,
            inbox,
            outbox,
            watches: false,
            owed: Owed::Nothing,
            interest: Interest::READABLE,
        }
    }

    /// Whether its next request is to be read.
    pub(crate) fn listens(&self) -> bool {
        matches!(self.owed, Owed::Nothing)
    }

    fn wanted_interest(&self) -> Interest {
        Interest { readable: self.listens(), writable: !self.outbox.is_empty(), ..Interest::NOTHING }
    }
}

/// The request in `frame`. One that this version does not know is a failure like any other, and the next may be known.
pub(crate) fn decode(frame: &Frame) -> Result<Request, Failure> {
    serde_json::from_slice(&frame.payload).map_err(|error| Failure::new("decode request", &error, None))
}
