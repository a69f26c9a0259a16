//! rtnetlink(7), as little of it as devices need: requests that the kernel answers, then acknowledges.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send};

/// Bytes of `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;
/// Bytes of `struct nlattr`, whose values begin at multiples of four.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// The kernel answers in pieces of up to 32 KB (`NLMSG_GOODSIZE` of a dump).
const BUFFER_BYTES: usize = 32 << 10;

// Kinds and flags of linux/netlink.h.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
/// All objects of a kind are asked for (`NLM_F_DUMP`).
pub(super) const DUMP: u16 = 0x300;
/// An object is made, which is not there yet (`NLM_F_CREATE | NLM_F_EXCL`).
pub(super) const CREATE: u16 = 0x600;
/// The kind of an attribute is what remains without `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND_MASK: u16 = 0x3fff;

/// A connection with the network namespace that its maker is in, wherever that goes afterwards.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

/// What follows the header of a message: a structure of the kernel's, then attributes.
pub(super) struct Body(Vec<u8>);

impl Body {
    pub(super) fn new(structure: &[u8]) -> Self {
        Self(structure.to_vec())
    }

    pub(super) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len()).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// An attribute of text, which the kernel wants with its end marked.
    pub(super) fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), b"\0"].concat())
    }
}

impl Socket {
    pub(crate) fn open() -> io::Result<Self> {
        // Without a protocol it is the first, NETLINK_ROUTE.
        let (family, kind) = (AddressFamily::NETLINK, SocketType::RAW);
        Ok(Self(rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?))
    }

    /// Sends a request and gives the answers to it, without their headers, once the kernel has said that it is done.
    pub(super) fn ask(&self, kind: u16, flags: u16, body: Body) -> io::Result<Vec<Vec<u8>>> {
        let length = u32::try_from(HEADER_BYTES + body.0.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER_BYTES + body.0.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | ACKNOWLEDGE | flags).to_ne_bytes());
        // Sequence and port: there is one request at a time, and the kernel numbers us.
        message.extend([0; 8]);
        message.extend(body.0);
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
fn take(mut bytes: &[u8], answers: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    while bytes.len() >= HEADER_BYTES {
        let length = number(bytes, 0).and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        if length < HEADER_BYTES || length > bytes.len() {
            return Err(Errno::BADMSG.into());
        }
        let (message, kind) = (&bytes[HEADER_BYTES..length], u16::from_ne_bytes([bytes[4], bytes[5]]));
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
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The number of four bytes at an offset.
pub(super) fn number(bytes: &[u8], offset: usize) -> Option<u32> {
    let four = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(four.try_into().ok()?))
}

/// The value of the first attribute of a kind, in an answer that begins with a structure of so many bytes.
pub(super) fn attribute(answer: &[u8], structure_bytes: usize, wanted: u16) -> Option<&[u8]> {
    let mut rest = answer.get(structure_bytes..)?;
    while rest.len() >= ATTRIBUTE_HEADER_BYTES {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]]));
        let kind = u16::from_ne_bytes([rest[2], rest[3]]) & KIND_MASK;
        let value = rest.get(ATTRIBUTE_HEADER_BYTES..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_of_any_length() {
        let body = Body::new(&[9; 8]).with(1, b"a").with_text(3, "eth0").with(2, &7_u32.to_ne_bytes());
        assert_eq!(attribute(&body.0, 8, 3), Some(&b"eth0\0"[..]));
        assert_eq!(attribute(&body.0, 8, 2).and_then(|value| number(value, 0)), Some(7));
        assert_eq!(attribute(&body.0, 8, 4), None);
        // A length beyond the end, or of nothing.
        assert_eq!(attribute(&[200, 0, 1, 0, 1], 0, 1), None);
        assert_eq!(attribute(&[0, 0, 2, 0, 0], 0, 1), None);
    }

    #[test]
    fn an_answer_ends_with_its_acknowledgement_or_its_error() {
        let message = |kind: u16, payload: &[u8]| {
            let length = u32::try_from(HEADER_BYTES + payload.len()).unwrap();
            [&length.to_ne_bytes(), &kind.to_ne_bytes()[..], &[0; 10], payload].concat()
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
