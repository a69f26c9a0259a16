//! Messages of netlink and their attributes (`linux/netlink.h`, `struct nlmsghdr`, `struct nlattr`): written and read, without
//! the socket. Everything is in the host's byte order and padded to four bytes.

/// Bytes of `struct nlmsghdr`.
const MESSAGE_HEADER_BYTES: usize = 16;
/// Bytes before an attribute's value: length and type, two bytes each.
const ATTRIBUTE_HEADER_BYTES: usize = 4;
/// Set in the type of an attribute that contains attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;
/// The two flag bits of an attribute's type, which do not belong to its number.
const FLAG_BITS: u16 = 0b11 << 14;

/// `NLMSG_ERROR`: a negated error number, 0 for an acknowledgement.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;

/// Flags of a message.
pub mod flags {
    /// `NLM_F_REQUEST`: every message from us.
    pub const REQUEST: u16 = 0x001;
    /// `NLM_F_ACK`: answer in any case.
    pub const ACK: u16 = 0x004;
    /// `NLM_F_ECHO`: send the requester the announcement too.
    pub const ECHO: u16 = 0x008;
    /// `NLM_F_ROOT | NLM_F_MATCH`: answer with all objects, then with [`super::DONE`].
    pub const DUMP: u16 = 0x300;
    /// `NLM_F_REPLACE`: take the place of what exists.
    pub const REPLACE: u16 = 0x100;
    /// `NLM_F_EXCL`: fail where it exists.
    pub const EXCL: u16 = 0x200;
    /// `NLM_F_CREATE`: make what does not exist.
    pub const CREATE: u16 = 0x400;
    /// `NLM_F_APPEND`: put it after its like.
    pub const APPEND: u16 = 0x800;
}

/// What a message begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What is asked for, or what this is.
    pub kind: u16,
    /// [`flags`].
    pub flags: u16,
    /// The number by which an answer is told to its request.
    pub sequence: u32,
}

/// Appends a message to a datagram.
pub fn append(datagram: &mut Vec<u8>, header: Header, payload: &[u8]) {
    let length = MESSAGE_HEADER_BYTES + payload.len();
    let length = u32::try_from(length).expect("our messages are far shorter than 4 GiB");
    datagram.extend_from_slice(&length.to_ne_bytes());
    datagram.extend_from_slice(&header.kind.to_ne_bytes());
    datagram.extend_from_slice(&header.flags.to_ne_bytes());
    datagram.extend_from_slice(&header.sequence.to_ne_bytes());
    // Of nobody: the kernel numbers us.
    datagram.extend_from_slice(&0_u32.to_ne_bytes());
    datagram.extend_from_slice(payload);
    datagram.resize(aligned(datagram.len()), 0);
}

/// The messages in a datagram, each as its type, its number and its payload, up to the first that is malformed.
pub fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    std::iter::from_fn(move || {
        let header: [u8; MESSAGE_HEADER_BYTES] = *bytes.first_chunk()?;
        let [l0, l1, l2, l3, k0, k1, _, _, s0, s1, s2, s3, ..] = header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let payload = bytes.get(MESSAGE_HEADER_BYTES..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), u32::from_ne_bytes([s0, s1, s2, s3]), payload))
    })
}

/// A sequence of attributes being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

impl Attributes {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute with these bytes.
    #[must_use]
    pub fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER_BYTES + value.len());
        let length = length.expect("our attributes are far shorter than 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(aligned(self.0.len()), 0);
        self
    }

    /// Adds a number in network byte order, as nftables has them.
    #[must_use]
    pub fn be_u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text with its terminating zero.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute that contains `inner`.
    #[must_use]
    pub fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    /// As they are sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The attributes in `bytes`, each as its type and value, up to the first that is malformed.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(ATTRIBUTE_HEADER_BYTES..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind & !FLAG_BITS, value))
    })
}

/// A number in the host's byte order at the start of an attribute's value.
#[must_use]
pub fn ne_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A number in network byte order at the start of an attribute's value.
#[must_use]
pub fn be_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

/// The next multiple of four (`NLMSG_ALIGNTO`, `NLA_ALIGNTO`).
fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_values_read_back(values in proptest::collection::vec((0_u16..1 << 14, any::<Vec<u8>>()), 0..8)) {
            let written = values.iter().fold(Attributes::new(), |all, (kind, value)| all.bytes(*kind, value));
            let read: Vec<_> = attributes(written.as_bytes()).map(|(kind, value)| (kind, value.to_vec())).collect();
            prop_assert_eq!(read, values);
        }

        #[test]
        fn any_bytes_are_read_to_their_end(bytes in any::<Vec<u8>>()) {
            let read: usize = attributes(&bytes).map(|(_, value)| ATTRIBUTE_HEADER_BYTES + value.len()).sum();
            prop_assert!(read <= bytes.len());
            let read: usize = messages(&bytes).map(|(.., payload)| MESSAGE_HEADER_BYTES + payload.len()).sum();
            prop_assert!(read <= bytes.len());
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let inner = Attributes::new().be_u32(7, 0x0102_0304);
        let outer = Attributes::new().text(1, "eth0").nested(2, &inner).bytes(3, &[]);
        let read: Vec<_> = attributes(outer.as_bytes()).collect();
        assert_eq!(read, [(1, b"eth0\0".as_slice()), (2, inner.as_bytes()), (3, &[])]);
        assert_eq!(
            attributes(inner.as_bytes()).next().and_then(|(_, value)| be_u32(value)),
            Some(0x0102_0304)
        );
    }

    #[test]
    fn reading_stops_at_a_malformed_attribute() {
        for bytes in [
            [0_u8, 0, 0].as_slice(),
            &[3, 0, 1, 0],              // shorter than its own header
            &[0, 0, 1, 0],              // no length at all
            &[12, 0, 1, 0, 1, 2, 3, 4], // longer than what is left
        ] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }

    #[test]
    fn a_datagram_reads_back_as_its_messages() {
        let header = |sequence| Header { kind: 16, flags: flags::REQUEST, sequence };
        let mut datagram = Vec::new();
        append(&mut datagram, header(u32::MAX), &[1, 2, 3, 4, 5]);
        append(&mut datagram, header(0), &[6]);
        let read: Vec<_> = messages(&datagram).collect();
        assert_eq!(read, [(16, u32::MAX, [1, 2, 3, 4, 5].as_slice()), (16, 0, &[6])]);
    }

    #[test]
    fn malformed_datagrams_end_the_reading() {
        for bytes in [vec![0; 15], vec![0; 16], vec![255; 64]] {
            assert_eq!(messages(&bytes).count(), 0);
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn values_are_padded_to_four_bytes() {
        let written = Attributes::new().text(1, "lo");
        assert_eq!(written.as_bytes(), [7, 0, 1, 0, b'l', b'o', 0, 0]);
    }
}
