//! The socket: send a batch, collect its answers.

use std::{
    cell::Cell,
    os::fd::{AsRawFd, OwnedFd},
    thread,
};

use cleat_sys::netlink::{DONE, ERROR, Header, append, messages};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
            setsockopt, socket, sockopt::ReceiveTimeout,
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::{NetlinkError, Request, request::Answer};

/// How long one read may block. The kernel answers within `sendmsg`; only a dump's later parts are made while we read.
const ANSWER_TIMEOUT_SECONDS: i64 = 10;

/// Room for one datagram of answers. The kernel fills dumps up to the reader's buffer, at most 32 KiB, and an error
/// repeats the request it is about.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Links, addresses, routes.
    Route,
    /// nftables.
    Netfilter,
}

/// A netlink socket. It belongs to the network namespace of the thread that opened it, for good.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    /// The number of the next message: answers to an earlier batch that failed half-way are told apart by it.
    next_sequence: Cell<u32>,
}

impl Socket {
    /// A socket in the calling thread's network namespace.
    pub(crate) fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let (number, name) = match protocol {
            Protocol::Route => (SockProtocol::NetlinkRoute, "route"),
            Protocol::Netfilter => (SockProtocol::NetlinkNetFilter, "netfilter"),
        };
        let failed = |source| NetlinkError::Open { protocol: name, source };
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, number).map_err(failed)?;
        setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(ANSWER_TIMEOUT_SECONDS)).map_err(failed)?;
        Ok(Self { fd, next_sequence: Cell::new(1) })
    }

    /// A socket for links, addresses and routes that also hears the announcements of these groups (`RTMGRP_*`).
    /// No read lasts longer than `limit_seconds`.
    pub(super) fn listen(groups: u32, limit_seconds: i64) -> Result<Self, NetlinkError> {
        let socket = Self::open(Protocol::Route)?;
        bind(socket.fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .and_then(|()| setsockopt(&socket.fd, ReceiveTimeout, &TimeVal::seconds(limit_seconds)))
            .map_err(|source| NetlinkError::Open { protocol: "route", source })?;
        Ok(socket)
    }

    /// Sends one request on a thread of its own, which ends when the kernel is done with it. The request's number.
    pub(super) fn send_on_thread(&self, request: &Request) -> Result<u32, NetlinkError> {
        let sequence = self.next_sequence.get();
        self.next_sequence.set(sequence.wrapping_add(1));
        let datagram = encode(std::slice::from_ref(request), sequence);
        let failed = |source| NetlinkError::Spawn { request: request.words.clone(), source };
        let fd = self.fd.try_clone().map_err(failed)?;
        let sender = thread::Builder::new().name("netlink".to_owned()).spawn(move || {
            // Whoever waits for the answer is told of its absence by the socket's timeout.
            if let Err(errno) = sendto(fd.as_raw_fd(), &datagram, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            {
                tracing::warn!(error = %errno, "send a netlink request");
            }
        });
        sender.map(|_| sequence).map_err(failed)
    }

    /// Carries out one request.
    pub(crate) fn ask(&self, request: Request) -> Result<Answer, NetlinkError> {
        let mut answers = self.carry_out(&[request])?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Carries out `requests` in order, all sent in one datagram. The first refusal is returned; what the kernel did
    /// with the requests behind it is then unknown, so the caller undoes the whole.
    pub(crate) fn carry_out(&self, requests: &[Request]) -> Result<Vec<Answer>, NetlinkError> {
        let Some(first) = requests.first() else { return Ok(Vec::new()) };
        let base = self.next_sequence.get();
        let count = u32::try_from(requests.len()).expect("a batch has a handful of requests");
        self.next_sequence.set(base.wrapping_add(count));
        let datagram = encode(requests, base);
        sendto(self.fd.as_raw_fd(), &datagram, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map_err(|source| NetlinkError::Send { request: first.words.clone(), source })?;
        let mut exchange = Exchange::new(requests, base);
        let mut buffer = vec![0; BUFFER_BYTES];
        while let Some(waiting_for) = exchange.unanswered() {
            let length = self
                .receive(&mut buffer)
                .map_err(|source| NetlinkError::Receive { request: waiting_for.words.clone(), source })?;
            exchange.take(&buffer[..length])?;
        }
        Ok(exchange.answers)
    }

    pub(super) fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => return other,
            }
        }
    }
}

/// The requests as one datagram, numbered from `base`.
fn encode(requests: &[Request], base: u32) -> Vec<u8> {
    let mut datagram = Vec::new();
    for (sequence, request) in (0..).map(|index: u32| base.wrapping_add(index)).zip(requests) {
        let header = Header { kind: request.kind, flags: request.flags, sequence };
        append(&mut datagram, header, &request.payload);
    }
    datagram
}

/// A batch and what has been answered of it.
struct Exchange<'a> {
    requests: &'a [Request],
    base: u32,
    answered: Vec<bool>,
    answers: Vec<Answer>,
}

impl<'a> Exchange<'a> {
    fn new(requests: &'a [Request], base: u32) -> Self {
        let answered = requests.iter().map(|request| !request.is_acknowledged()).collect();
        Self { requests, base, answered, answers: vec![Vec::new(); requests.len()] }
    }

    /// The first request whose answer is not complete.
    fn unanswered(&self) -> Option<&'a Request> {
        self.requests.iter().zip(&self.answered).find(|(_, answered)| !**answered).map(|(request, _)| request)
    }

    /// Sorts the messages of one datagram to their requests.
    fn take(&mut self, datagram: &[u8]) -> Result<(), NetlinkError> {
        for (kind, sequence, payload) in messages(datagram) {
            let index = sequence.wrapping_sub(self.base) as usize;
            let Some(request) = self.requests.get(index) else { continue };
            match kind {
                // The end of a dump also says whether it went wrong on the way; it may be empty.
                DONE if payload.is_empty() => self.answered[index] = true,
                ERROR | DONE => {
                    self.answered[index] = true;
                    judge(request, payload)?;
                }
                _ => self.answers[index].push(payload.to_vec()),
            }
        }
        Ok(())
    }
}

/// An `NLMSG_ERROR` about `request`: a negated errno, 0 where it was carried out.
pub(super) fn judge(request: &Request, payload: &[u8]) -> Result<(), NetlinkError> {
    let Some(code) = payload.first_chunk().copied().map(i32::from_ne_bytes) else {
        return Err(NetlinkError::Incomplete { request: request.words.clone(), missing: "error number" });
    };
    match Errno::from_raw(code.wrapping_neg()) {
        _ if code == 0 => Ok(()),
        errno if Some(errno) == request.tolerated => Ok(()),
        source => Err(NetlinkError::Refused { request: request.words.clone(), source }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request(words: &str) -> Request {
        Request::new(16, 0, vec![1, 2, 3, 4], words.to_owned())
    }

    fn reply(kind: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let message =
            Request { kind, flags: 0, payload: payload.to_vec(), words: String::new(), tolerated: None };
        encode(&[message], sequence)
    }

    fn error(sequence: u32, errno: i32) -> Vec<u8> {
        reply(ERROR, sequence, &(-errno).to_ne_bytes())
    }

    #[test]
    fn a_datagram_reads_back_as_its_messages() {
        let datagram = encode(&[request("a"), request("b")], u32::MAX);
        let read: Vec<_> = messages(&datagram).collect();
        let payload = [1, 2, 3, 4].as_slice();
        assert_eq!(read, [(16, u32::MAX, payload), (16, 0, payload)]);
    }

    proptest! {
        #[test]
        fn whatever_is_received_is_read_to_its_end(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let requests = [request("any")];
            let mut exchange = Exchange::new(&requests, 0);
            if exchange.take(&bytes).is_ok() && !exchange.answered[0] {
                prop_assert_eq!(exchange.unanswered(), Some(&requests[0]));
            }
        }
    }

    #[test]
    fn answers_go_to_their_requests_and_stale_ones_nowhere() {
        let requests = [request("first"), request("second")];
        let mut exchange = Exchange::new(&requests, 10);
        let datagram = [reply(16, 11, &[9; 4]), error(9, 1), error(10, 0)].concat();
        exchange.take(&datagram).unwrap();
        assert_eq!(exchange.unanswered(), Some(&requests[1]));
        exchange.take(&error(11, 0)).unwrap();
        assert_eq!(exchange.unanswered(), None);
        assert_eq!(exchange.answers, [vec![], vec![vec![9; 4]]]);
    }

    #[test]
    fn a_dump_that_went_wrong_is_refused() {
        let requests = [request("list")];
        for (end, is_refused) in
            [(vec![], false), (vec![0; 4], false), ((-4_i32).to_ne_bytes().to_vec(), true)]
        {
            let outcome = Exchange::new(&requests, 1).take(&reply(DONE, 1, &end));
            assert_eq!(outcome.is_err(), is_refused, "{end:?}");
        }
    }

    #[test]
    fn a_refusal_names_the_request_unless_it_is_tolerated() {
        let exists = Errno::EEXIST as i32;
        let requests = [request("add a"), request("add b").tolerating(Errno::EEXIST)];
        let mut exchange = Exchange::new(&requests, 1);
        exchange.take(&error(2, exists)).unwrap();
        let refused = exchange.take(&error(1, exists)).unwrap_err();
        assert_eq!((refused.to_string().as_str(), refused.errno()), ("add a", Some(Errno::EEXIST)));
    }
}
