//! The container's output on its way to attached clients.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use cleat_conmon_proto::Failure;
use rustix::io::{Errno, write};

use super::MAX_CLIENTS;
use crate::complaint::{best_effort, complain};
use crate::failure::{caused, refused};
use crate::log::StreamName;
use crate::poller::{Interest, Poller, Source};
use crate::stdio::LAST_BYTES;

/// One stream of one client.
#[derive(Debug)]
pub(crate) struct Output {
    /// Unlike any other's of this monitor, for as long as both exist.
    number: u32,
    client: u32,
    name: StreamName,
    descriptor: OwnedFd,
    stall_limit: Option<Duration>,
    held: Vec<u8>,
    /// How much of `held` the client has.
    sent: usize,
    /// When the client last took something, while anything is held.
    waiting_since: Option<Instant>,
    /// Nothing comes after what is held.
    is_last: bool,
}

/// Whether a client stays.
#[derive(Debug, PartialEq, Eq)]
enum Stay {
    Yes,
    No,
}

impl Output {
    /// Stream `name` for `client`.
    pub(crate) fn new(
        client: u32,
        name: StreamName,
        descriptor: OwnedFd,
        stall_limit: Option<Duration>,
    ) -> Self {
        let (held, sent, waiting_since) = (Vec::new(), 0, None);
        Self { number: 0, client, name, descriptor, stall_limit, held, sent, waiting_since, is_last: false }
    }

    fn source(&self) -> Source {
        Source::AttachedOutput(self.number)
    }

    fn holds(&self) -> bool {
        self.sent < self.held.len()
    }

    fn due(&self) -> Option<Instant> {
        self.waiting_since?.checked_add(self.stall_limit?)
    }

    /// Passes `bytes` on behind what is held.
    fn push(&mut self, poller: &Poller, bytes: &[u8]) -> Stay {
        let taken = if self.holds() { Some(0) } else { self.write_some(bytes) };
        let Some(rest) = taken.and_then(|taken| bytes.get(taken..)) else { return Stay::No };
        if rest.is_empty() {
            return Stay::Yes;
        }
        if self.held.len() - self.sent + rest.len() > LAST_BYTES {
            complain(format_args!("attached client {}: it is too far behind", self.client));
            return Stay::No;
        }
        let had_some = self.holds();
        self.held.extend_from_slice(rest);
        if had_some { Stay::Yes } else { self.wait(poller) }
    }

    fn wait(&mut self, poller: &Poller) -> Stay {
        self.waiting_since = Some(Instant::now());
        let changed = poller.change(&self.descriptor, self.source(), Interest::WRITABLE);
        if best_effort("wait for an attached client", changed).is_some() { Stay::Yes } else { Stay::No }
    }

    /// Passes on what is held.
    fn flush(&mut self, poller: &Poller) -> Stay {
        if self.holds() {
            let Some(taken) = self.write_some(&self.held[self.sent..]) else { return Stay::No };
            self.sent += taken;
            if taken > 0 {
                self.waiting_since = Some(Instant::now());
            }
            if self.holds() {
                return Stay::Yes;
            }
            (self.held, self.sent, self.waiting_since) = (Vec::new(), 0, None);
            let changed = poller.change(&self.descriptor, self.source(), Interest::NOTHING);
            if best_effort("stop waiting for an attached client", changed).is_none() {
                return Stay::No;
            }
        }
        if self.is_last { Stay::No } else { Stay::Yes }
    }

    /// How many bytes the pipe took; none once nobody reads it.
    fn write_some(&self, bytes: &[u8]) -> Option<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match write(&self.descriptor, &bytes[taken..]) {
                Ok(count) => taken += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE | Errno::CONNRESET) => return None,
                Err(errno) => {
                    complain(format_args!("write to attached client {}: {errno}", self.client));
                    return None;
                }
            }
        }
        Some(taken)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    list: Vec<Output>,
    last_number: u32,
}

impl Outputs {
    /// Takes one in. What cannot be waited for, a file for example, is refused.
    pub(crate) fn add(&mut self, poller: &Poller, mut output: Output) -> Result<(), Failure> {
        if self.list.iter().filter(|other| other.name == output.name).count() >= MAX_CLIENTS {
            return Err(refused("attach", "too many clients are attached"));
        }
        self.last_number = self.last_number.wrapping_add(1);
        output.number = self.last_number;
        poller
            .add(&output.descriptor, output.source(), Interest::NOTHING)
            .map_err(|error| caused("wait for attached output", &error))?;
        self.list.push(output);
        Ok(())
    }

    /// Whether `client` has joined a stream.
    pub(crate) fn has(&self, client: u32) -> bool {
        self.list.iter().any(|output| output.client == client)
    }

    /// Passes on what stream `name` gave.
    pub(crate) fn pass(&mut self, poller: &Poller, name: StreamName, bytes: &[u8]) {
        self.visit(poller, |output| if output.name == name { output.push(poller, bytes) } else { Stay::Yes });
    }

    /// One client can take more, or is gone.
    pub(crate) fn serve(&mut self, poller: &Poller, number: u32, hung_up: bool) {
        self.visit(poller, |output| match (output.number == number, hung_up) {
            (false, _) => Stay::Yes,
            (true, true) => Stay::No,
            (true, false) => output.flush(poller),
        });
    }

    /// Nothing more comes from stream `name`.
    pub(crate) fn end(&mut self, poller: &Poller, name: StreamName) {
        self.visit(poller, |output| {
            if output.name != name {
                return Stay::Yes;
            }
            output.is_last = true;
            output.flush(poller)
        });
    }

    /// Whether a client has yet to take what stream `name` gave.
    pub(crate) fn holds(&self, name: StreamName) -> bool {
        self.list.iter().any(|output| output.name == name && output.holds())
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// When the first client has stalled for too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.list.iter().filter_map(Output::due).min()
    }

    /// Detaches those who have stalled for too long.
    pub(crate) fn drop_stalled(&mut self, poller: &Poller, now: Instant) {
        self.visit(poller, |output| {
            if output.due().is_none_or(|due| now < due) {
                return Stay::Yes;
            }
            complain(format_args!("attached client {}: it does not read and is detached", output.client));
            Stay::No
        });
    }

    /// `client` is gone.
    pub(crate) fn disconnect(&mut self, poller: &Poller, client: u32) {
        self.visit(poller, |output| if output.client == client { Stay::No } else { Stay::Yes });
    }

    fn visit(&mut self, poller: &Poller, mut visit: impl FnMut(&mut Output) -> Stay) {
        self.list.retain_mut(|output| {
            if visit(output) == Stay::Yes {
                return true;
            }
            best_effort("stop waiting for an attached client", poller.remove(&output.descriptor));
            false
        });
    }
}
