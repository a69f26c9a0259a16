//! One 512-byte header block (POSIX ustar, and GNU's variations of it).

use super::pax::Records;
use super::{BLOCK, TarError};

/// A raw block.
pub(super) type Block = [u8; BLOCK];

/// The fields of a header.
pub(super) struct Header {
    pub(super) name: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime_s: i64,
    pub(super) kind: u8,
    pub(super) link: Vec<u8>,
    pub(super) major: u32,
    pub(super) minor: u32,
}

impl Header {
    /// Parse a block; `None` if it is all zeros, which ends an archive.
    pub(super) fn parse(block: &Block) -> Result<Option<Self>, TarError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        verify_checksum(block)?;
        let kind = block[156];
        let is_device = matches!(kind, b'3' | b'4');
        let device = |field, what| if is_device { small(field, what) } else { Ok(0) };
        let header = Self {
            name: full_name(block),
            mode: small(&block[100..108], "mode")? & 0o7777,
            uid: unsigned(&block[108..116], "uid")?,
            gid: unsigned(&block[116..124], "gid")?,
            size: unsigned(&block[124..136], "size")?,
            mtime_s: number(&block[136..148], "mtime")?,
            kind,
            link: text(&block[157..257]).to_vec(),
            major: device(&block[329..337], "device major")?,
            minor: device(&block[337..345], "device minor")?,
        };
        Ok(Some(header))
    }

    /// Bytes of data behind the header. Types that have none by definition are not believed if they announce some.
    pub(super) fn stored_bytes(&self, pax: &Records) -> Result<u64, TarError> {
        let has_data = matches!(self.kind, b'0' | 0 | b'7' | b'S');
        let size = pax.size.unwrap_or(self.size);
        if size > i64::MAX as u64 {
            return Err(TarError::Number("size"));
        }
        Ok(if has_data { size } else { 0 })
    }
}

/// The unsigned sum of all bytes, the checksum field itself counted as spaces; old writers summed signed bytes.
fn verify_checksum(block: &Block) -> Result<(), TarError> {
    let found = unsigned(&block[148..156], "checksum")?;
    let bytes =
        || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let computed = bytes().map(u64::from).sum::<u64>();
    let signed = bytes().map(|byte| i64::from(byte.cast_signed())).sum::<i64>();
    if found == computed || i64::try_from(found) == Ok(signed) {
        return Ok(());
    }
    Err(TarError::Checksum { found, computed })
}

/// ustar archives split long names over two fields; GNU archives use the second one for times.
fn full_name(block: &Block) -> Vec<u8> {
    let name = text(&block[0..100]);
    let prefix = text(&block[345..500]);
    let is_ustar = &block[257..263] == b"ustar\0";
    if !is_ustar || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

fn small(field: &[u8], what: &'static str) -> Result<u32, TarError> {
    u32::try_from(number(field, what)?).map_err(|_| TarError::Number(what))
}

/// A number that may not be negative.
pub(super) fn unsigned(field: &[u8], what: &'static str) -> Result<u64, TarError> {
    u64::try_from(number(field, what)?).map_err(|_| TarError::Number(what))
}

/// Octal digits between spaces and NULs, or GNU's base 256 (first bit set, two's complement).
fn number(field: &[u8], what: &'static str) -> Result<i64, TarError> {
    if field[0] & 0x80 != 0 {
        return base256(field).ok_or(TarError::Number(what));
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    digits[..end]
        .iter()
        .try_fold(0_i64, |value, byte| match byte {
            b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
            _ => None,
        })
        .ok_or(TarError::Number(what))
}

fn base256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { i64::from(field[0] | 0x80) - 256 } else { i64::from(field[0] & 0x3f) };
    field[1..].iter().try_fold(first, |value, byte| value.checked_mul(256)?.checked_add(i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_in_all_their_forms() {
        let cases: [(&[u8], Option<i64>); 9] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777777\0", Some(0o77_777_777_777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"0000648\0", None),
            (b"-000001\0", None),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field, "x").ok(), expected, "{field:?}");
        }
    }
}
