//! Netlink attributes: type, length and value, padded to four bytes and nestable (`linux/netlink.h`, `struct nlattr`).

/// Bytes before an attribute's value: length and type, two bytes each.
const HEADER_BYTES: usize = 4;

/// Set in the type of an attribute that contains attributes (`NLA_F_NESTED`).
const NESTED: u16 = 1 << 15;

/// The two flag bits of an attribute's type, which do not belong to its number.
const FLAG_BITS: u16 = 0b11 << 14;

/// A sequence of attributes being written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an attribute with these bytes.
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length =
            u16::try_from(HEADER_BYTES + value.len()).expect("our attributes are far shorter than 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(value);
        self.0.resize(aligned(self.0.len()), 0);
        self
    }

    /// Adds a number in network byte order, as nftables has them.
    pub(crate) fn be_u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds a text with its terminating zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, &[value.as_bytes(), &[0]].concat())
    }

    /// Adds an attribute that contains `inner`.
    pub(crate) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The attributes in `bytes`, each as its type and value, up to the first that is malformed.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(*bytes.get(2..)?.first_chunk()?);
        let value = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind & !FLAG_BITS, value))
    })
}

/// A number in the host's byte order at the start of an attribute's value.
pub(crate) fn ne_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A number in network byte order at the start of an attribute's value.
pub(crate) fn be_u32(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_be_bytes)
}

/// The next multiple of four (`NLA_ALIGNTO`).
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
            let read: usize = attributes(&bytes).map(|(_, value)| HEADER_BYTES + value.len()).sum();
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

    #[cfg(target_endian = "little")]
    #[test]
    fn values_are_padded_to_four_bytes() {
        let written = Attributes::new().text(1, "lo");
        assert_eq!(written.as_bytes(), [7, 0, 1, 0, b'l', b'o', 0, 0]);
    }
}
