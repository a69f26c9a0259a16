//! What attached clients write, on its way to the container's standard input.

use std::io;
use std::os::fd::OwnedFd;

use cleat_conmon_proto::Failure;
use rustix::io::{Errno, read, write};

use super::MAX_CLIENTS;
use crate::complaint::{best_effort, complain};
use crate::failure::{caused, refused};
use crate::poller::{Interest, Poller, Source};

/// Bytes read from a client at a time: a page, since people type.
const READ_BYTES: usize = 4096;

/// Reads of what a client wrote before its connection ended: what a pipe holds as it is made.
const LAST_READS: usize = 16;

/// One client's side.
#[derive(Debug)]
struct Input {
    /// Unlike any other's of this monitor, for as long as both exist.
    number: u32,
    client: u32,
    descriptor: OwnedFd,
}

/// The container's standard input and those who write to it.
#[derive(Debug, Default)]
pub(crate) struct Inputs {
    /// None where there is none, and once it is closed.
    target: Option<OwnedFd>,
    /// Whether the first client that leaves closes it.
    is_once: bool,
    /// Whether to close it when what is held is written.
    is_closing: bool,
    /// Whether there ever was one.
    exists: bool,
    list: Vec<Input>,
    last_number: u32,
    /// What the container has not taken yet: one read at most.
    held: Vec<u8>,
}

impl Inputs {
    /// Takes the container's input, a writing end that does not block.
    pub(crate) fn set_target(&mut self, poller: &Poller, target: OwnedFd, is_once: bool) -> io::Result<()> {
        poller.add(&target, Source::Input, Interest::NOTHING)?;
        (self.target, self.is_once, self.exists) = (Some(target), is_once, true);
        Ok(())
    }

    /// Takes a client in. Where the container's input is closed already, so is the client's.
    pub(crate) fn add(&mut self, poller: &Poller, client: u32, descriptor: OwnedFd) -> Result<(), Failure> {
        if !self.exists {
            return Err(refused("attach", "the container has no standard input"));
        }
        if self.list.len() >= MAX_CLIENTS {
            return Err(refused("attach", "too many clients are attached"));
        }
        if self.target.is_none() || self.is_closing {
            return Ok(());
        }
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        let interest = if self.held.is_empty() { Interest::READABLE } else { Interest::PARKED };
        poller
            .add(&descriptor, Source::AttachedInput(number), interest)
            .map_err(|error| caused("wait for attached input", &error))?;
        self.list.push(Input { number, client, descriptor });
        Ok(())
    }

    /// Whether `client` gives input.
    pub(crate) fn has(&self, client: u32) -> bool {
        self.list.iter().any(|input| input.client == client)
    }

    /// One client has written something, or has closed its side.
    pub(crate) fn serve(&mut self, poller: &Poller, number: u32) {
        // A hang-up is reported even while nothing is to be read; what was written before it is read in its turn.
        if !self.held.is_empty() {
            return;
        }
        let Some(input) = self.list.iter().find(|input| input.number == number) else { return };
        let mut buffer = [0; READ_BYTES];
        match read(&input.descriptor, &mut buffer) {
            Ok(bytes @ 1..) => self.push(poller, &buffer[..bytes]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            end => {
                if let Err(errno) = end {
                    complain(format_args!("read from attached client {}: {errno}", input.client));
                }
                let client = input.client;
                self.disconnect(poller, client);
            }
        }
    }

    /// The container has room for input, or nobody reads it any more.
    pub(crate) fn go_on(&mut self, poller: &Poller, hung_up: bool) {
        if hung_up {
            self.close(poller);
            return;
        }
        let held = std::mem::take(&mut self.held);
        self.push(poller, &held);
        if self.held.is_empty() {
            self.set_waiting(poller, false);
        }
    }

    /// `client` is gone, and with it the container's input where that is so agreed.
    pub(crate) fn disconnect(&mut self, poller: &Poller, client: u32) {
        let Some(place) = self.list.iter().position(|input| input.client == client) else { return };
        let input = self.list.swap_remove(place);
        best_effort("stop waiting for attached input", poller.remove(&input.descriptor));
        self.is_closing |= self.is_once;
        if self.is_closing && self.held.is_empty() {
            self.close(poller);
        }
    }

    /// The connection of `client` has ended: what it wrote before goes on, as far as the container takes it at once.
    pub(crate) fn let_go(&mut self, poller: &Poller, client: u32) {
        let joined = self.list.iter().find(|input| input.client == client);
        let Some(number) = joined.map(|input| input.number) else { return };
        for _ in 0..LAST_READS {
            self.serve(poller, number);
        }
        self.disconnect(poller, client);
    }

    fn push(&mut self, poller: &Poller, bytes: &[u8]) {
        let Some(target) = &self.target else { return };
        let mut taken = 0;
        while taken < bytes.len() {
            match write(target, &bytes[taken..]) {
                Ok(count) => taken += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(errno) => {
                    // EPIPE, and EIO of a terminal: nobody reads it.
                    if !matches!(errno, Errno::PIPE | Errno::IO) {
                        complain(format_args!("write the container's input: {errno}"));
                    }
                    self.close(poller);
                    return;
                }
            }
        }
        if taken < bytes.len() {
            self.held = bytes[taken..].to_vec();
            self.set_waiting(poller, true);
        } else if self.is_closing {
            self.close(poller);
        }
    }

    /// While something is held the container is waited for, and its clients are not registered: a hang-up of one that
    /// has written more would be reported over and over.
    fn set_waiting(&self, poller: &Poller, is_waiting: bool) {
        let Some(target) = &self.target else { return };
        let interest = if is_waiting { Interest::WRITABLE } else { Interest::NOTHING };
        best_effort("wait for the container's input", poller.change(target, Source::Input, interest));
        for input in &self.list {
            let interest = if is_waiting { Interest::PARKED } else { Interest::READABLE };
            let changed = poller.change(&input.descriptor, Source::AttachedInput(input.number), interest);
            best_effort("wait for attached input", changed);
        }
    }

    /// Nobody's input goes anywhere any more.
    fn close(&mut self, poller: &Poller) {
        for input in self.list.drain(..) {
            best_effort("stop waiting for attached input", poller.remove(&input.descriptor));
        }
        if let Some(target) = self.target.take() {
            best_effort("stop waiting for the container's input", poller.remove(&target));
        }
        self.held = Vec::new();
    }
}
