//! All clients of the monitor, each registered with the poller for as long as it is here.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use cleat_conmon_proto::Message;

use super::{Connection, Owed, SendError};
use crate::complaint::{best_effort, complain};
use crate::poller::{Interest, Poller, Source};

/// Clients at a time: twice what execs may be under way, so that there is always room to ask something else.
pub(crate) const MAX_CONNECTIONS: usize = 2 * crate::exec::MAX_EXECS;

/// The clients.
#[derive(Default)]
pub(crate) struct Connections {
    list: Vec<Connection>,
    last_number: u32,
}

impl Connections {
    /// Takes a client in and gives its number; none, and the client is gone, when there are too many.
    pub(crate) fn add(&mut self, poller: &Poller, socket: UnixStream) -> io::Result<Option<u32>> {
        if self.list.len() >= MAX_CONNECTIONS {
            return Ok(None);
        }
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        poller.add(&socket, Source::Connection(number), Interest::READABLE)?;
        self.list.push(Connection::new(number, socket));
        Ok(Some(number))
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Connection> {
        self.list.iter_mut().find(|connection| connection.number == number)
    }

    /// The client goes; what it was owed goes with it.
    pub(crate) fn remove(&mut self, poller: &Poller, number: u32) {
        let Some(place) = self.list.iter().position(|connection| connection.number == number) else { return };
        let connection = self.list.swap_remove(place);
        best_effort("stop waiting for a client", poller.remove(&connection.socket));
        if let Owed::Update(pending) = &connection.owed {
            best_effort("stop waiting for an update", poller.remove(pending));
        }
    }

    /// Sends `message` to one client, which leaves when it cannot be sent. A client that is gone gets nothing.
    pub(crate) fn send(
        &mut self,
        poller: &Poller,
        number: u32,
        message: &Message,
        descriptor: Option<OwnedFd>,
    ) {
        let Some(connection) = self.get_mut(number) else { return };
        match connection.send(poller, message, descriptor) {
            Ok(()) => {}
            Err(error) => {
                complain(format_args!("connection {number}: {error}"));
                connection.hang_up();
            }
        }
    }

    /// As [`Connections::send`], for the answer that the client is owed: after it, its next request is read.
    pub(crate) fn answer(
        &mut self,
        poller: &Poller,
        number: u32,
        message: &Message,
        descriptor: Option<OwnedFd>,
    ) {
        if let Some(connection) = self.get_mut(number) {
            connection.owed = Owed::Nothing;
        }
        self.send(poller, number, message, descriptor);
    }

    /// Sends `message` to all who watch.
    pub(crate) fn publish(&mut self, poller: &Poller, message: &Message) {
        let watching: Vec<u32> = self
            .list
            .iter()
            .filter(|connection| connection.watches)
            .map(|connection| connection.number)
            .collect();
        for number in watching {
            self.send(poller, number, message, None);
        }
    }

    /// Whether anybody watches.
    pub(crate) fn any_watches(&self) -> bool {
        self.list.iter().any(|connection| connection.watches)
    }

    /// Whether nothing waits for any client to read it.
    pub(crate) fn all_sent(&self) -> bool {
        self.list.iter().all(|connection| connection.outbox.is_empty())
    }
}

impl Connection {
    fn send(
        &mut self,
        poller: &Poller,
        message: &Message,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), SendError> {
        self.outbox.push(message, descriptor)?;
        self.outbox.flush(&self.socket)?;
        self.update_interest(poller).map_err(SendError::Socket)
    }

    /// Tells the poller what this client is waited for now.
    pub(crate) fn update_interest(&mut self, poller: &Poller) -> io::Result<()> {
        let wanted = self.wanted_interest();
        if wanted != self.interest {
            poller.change(&self.socket, Source::Connection(self.number), wanted)?;
            self.interest = wanted;
        }
        Ok(())
    }

    /// Ends the conversation; the poller reports the hang-up, and the client is removed in its turn like one that left.
    fn hang_up(&mut self) {
        if self.socket.shutdown(std::net::Shutdown::Both).is_err() {
            // It is not connected any more: the hang-up is reported already.
        }
        self.outbox = super::Outbox::default();
    }
}
