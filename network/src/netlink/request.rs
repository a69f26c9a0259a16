//! One netlink message with the words for its failure.

use nix::errno::Errno;

use cleat_sys::netlink::flags::{ACK, REQUEST};

/// One message to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) payload: Vec<u8>,
    /// What it does and to what, for errors.
    pub(crate) words: String,
    /// A refusal that means the wanted state was there already.
    pub(crate) tolerated: Option<Errno>,
}

/// What the kernel said to one request besides its acknowledgement: the messages' payloads in order.
pub(crate) type Answer = Vec<Vec<u8>>;

impl Request {
    /// A message of type `kind` that asks for an acknowledgement.
    pub(crate) fn new(kind: u16, flags: u16, payload: Vec<u8>, words: String) -> Self {
        Self { kind, flags: flags | REQUEST | ACK, payload, words, tolerated: None }
    }

    /// A message that the kernel never acknowledges (the marks around an nftables batch).
    pub(crate) fn unacknowledged(kind: u16, payload: Vec<u8>, words: &str) -> Self {
        Self { kind, flags: REQUEST, payload, words: words.to_owned(), tolerated: None }
    }

    /// The same message, for which this refusal counts as done.
    pub(crate) fn tolerating(self, errno: Errno) -> Self {
        Self { tolerated: Some(errno), ..self }
    }

    /// Whether the kernel answers it by itself.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.flags & ACK != 0
    }
}
