//! rtnetlink(7), as little of it as devices need: requests that the kernel answers, then acknowledges.

use std::io;
use std::os::fd::OwnedFd;

use cleat_sys::netlink::{Attributes, DONE, ERROR, Header, append, attributes, flags, messages};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};

/// The kernel answers in pieces of up to 32 KB (`NLMSG_GOODSIZE` of a dump).
const BUFFER_BYTES: usize = 32 << 10;

/// An object is made, which is not there yet.
pub(super) const CREATE: u16 = flags::CREATE | flags::EXCL;

/// A connection with the network namespace that its maker is in, wherever that goes afterwards.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// What follows the header of a message: a structure of the kernel's, then attributes.
pub(super) struct Body {
    structure: Vec<u8>,
    attributes: Attributes,
}

impl Body {
    pub(super) fn new(structure: &[u8]) -> Self {
        Self { structure: structure.to_vec(), attributes: Attributes::new() }
    }

    pub(super) fn with(self, kind: u16, value: &[u8]) -> Self {
        Self { attributes: self.attributes.bytes(kind, value), ..self }
    }

    /// An attribute of text, which the kernel wants with its end marked.
    pub(super) fn with_text(self, kind: u16, text: &str) -> Self {
        Self { attributes: self.attributes.text(kind, text), ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        [self.structure.as_slice(), self.attributes.as_bytes()].concat()
    }
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        // Without a protocol it is the first, NETLINK_ROUTE.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        Ok(Self(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?))
    }

    /// Sends a request and gives the answers to it, without their headers, once the kernel has said that it is done.
    pub(super) fn ask(&self, kind: u16, more: u16, body: Body) -> io::Result<Vec<Vec<u8>>> {
        // There is one request at a time, which needs no number.
        let header = Header { kind, flags: flags::REQUEST | flags::ACK | more, sequence: 0 };
        let mut message = Vec::new();
        append(&mut message, header, &body.bytes());
        send(&self.0, &message, SendFlags::empty())?;
        let (mut answers, mut buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
        loop {
            let length = match recv(&self.0, &mut buffer[..], RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                other => other?.0,
            };
            if take(&buffer[..length], &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

/// Takes the messages of one datagram; true when the last of them ends the answer.
fn take(bytes: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    let mut is_empty = true;
    for (kind, _, message) in messages(bytes) {
        is_empty = false;
        match kind {
            // An acknowledgement is an error of number zero.
            ERROR | DONE => {
                return match number(message, 0).unwrap_or(0).cast_signed() {
                    0 => Ok(true),
                    error => Err(io::Error::from_raw_os_error(-error)),
                };
            }
            _ => answers.push(message.to_vec()),
        }
    }
    if is_empty { Err(Errno::BADMSG.into()) } else { Ok(false) }
}

/// The number of four bytes at an offset.
pub(super) fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let four = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// The value of the first attribute of a kind, in an answer that begins with a structure of so many bytes.
pub(super) fn attribute(answer: &[u8], structure_bytes: usize, wanted: u16) -> Option<&[u8]> {
    attributes(answer.get(structure_bytes..)?).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_of_any_length() {
        let body = Body::new(&[9; 8]).with(1, b"a").with_text(3, "eth0").with(2, &7_u32.to_ne_bytes());
        let bytes = body.bytes();
        assert_eq!(attribute(&bytes, 8, 3), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(&bytes, 8, 2).and_then(|value| number(value, 0)), Some(7));
        assert_eq!(attribute(&bytes, 8, 4), None);
        // A length beyond the end, or of nothing.
        assert_eq!(attribute(&[200, 0, 1, 0, 1], 0, 1), None);
        assert_eq!(attribute(&[0, 0, 2, 0, 0], 0, 1), None);
    }

    #[test]
    fn an_answer_ends_with_its_acknowledgement_or_its_error() {
        let message = |kind: u16, payload: &[u8]| {
            let mut datagram = Vec::new();
            append(&mut datagram, Header { kind, flags: 0, sequence: 0 }, payload);
            datagram
        };
        let mut answers = Vec::new();
        assert!(!take(&message(16, b"link"), &mut answers).unwrap());
        let both = [message(16, b"more"), message(DONE, &[0; 4])].concat();
        assert!(take(&both, &mut answers).unwrap());
        assert_eq!(answers, [b"link", b"more"]);
        let refused = message(ERROR, &(-19_i32).to_ne_bytes());
        assert_eq!(take(&refused, &mut answers).unwrap_err().raw_os_error(), Some(19));
        assert!(take(&message(16, b"cut")[..18], &mut answers).is_err());
    }
}
