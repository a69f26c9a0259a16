//! PAX extended headers (POSIX.1-2001 pax, "ustar Interchange Format" extensions).

use super::entry::Xattr;
use super::{MAX_PATH_BYTES, MAX_XATTR_BYTES, TarError};

/// Prefix of the records that hold extended attributes, as star, GNU tar and Go write them.
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";
/// Longest name of an extended attribute in bytes, as the kernel's XATTR_NAME_MAX.
const MAX_XATTR_NAME_BYTES: usize = 255;

/// The records of one header that matter to a layer.
#[derive(Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<(i64, u32)>,
    pub(super) xattrs: Vec<Xattr>,
    pub(super) sparse: SparseRecords,
}

/// Records with the prefix `GNU.sparse.`, in their three versions.
#[derive(Default)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    pub(super) real_size: Option<u64>,
    /// Offsets and lengths in turn (0.0 and 0.1).
    pub(super) map: Option<Vec<u64>>,
}

impl Records {
    /// Parse a whole header: `<length> <key>=<value>\n`, the length counting itself.
    pub(super) fn parse(mut bytes: &[u8]) -> Result<Self, TarError> {
        let mut records = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = split_record(bytes)?;
            records.take(key, value)?;
            bytes = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"path" => self.path = Some(path(value, "path")?),
            b"linkpath" => self.link = Some(path(value, "link target")?),
            b"size" => self.size = Some(decimal(value, "size")?),
            b"uid" => self.uid = Some(decimal(value, "uid")?),
            b"gid" => self.gid = Some(decimal(value, "gid")?),
            b"mtime" => self.mtime = Some(time(value)?),
            b"GNU.sparse.major" => self.sparse.major = Some(decimal(value, "sparse version")?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(decimal(value, "sparse version")?),
            b"GNU.sparse.name" => self.sparse.name = Some(path(value, "path")?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => {
                self.sparse.real_size = Some(decimal(value, "sparse size")?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.map.get_or_insert_default().push(decimal(value, "sparse map")?);
            }
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',').map(|number| decimal(number, "sparse map"));
                self.sparse.map = Some(numbers.collect::<Result<_, _>>()?);
            }
            _ => self.take_xattr(key, value)?,
        }
        Ok(())
    }

    /// Records that are neither known nor attributes (`ctime`, `LIBARCHIVE.creationtime`, comments) carry nothing a
    /// layer keeps.
    fn take_xattr(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let Some(name) = key.strip_prefix(XATTR_PREFIX) else { return Ok(()) };
        if name.is_empty() || name.len() > MAX_XATTR_NAME_BYTES || name.contains(&0) {
            return Err(TarError::Pax("an extended attribute has no valid name"));
        }
        if value.len() > MAX_XATTR_BYTES {
            let (bytes, limit) = (value.len() as u64, MAX_XATTR_BYTES as u64);
            return Err(TarError::TooLong { what: "extended attribute", bytes, limit });
        }
        self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
        Ok(())
    }
}

/// Key, value, and what follows the record.
type Split<'a> = (&'a [u8], &'a [u8], &'a [u8]);

fn split_record(bytes: &[u8]) -> Result<Split<'_>, TarError> {
    let space =
        bytes.iter().take(8).position(|byte| *byte == b' ').ok_or(TarError::Pax("a record has no length"))?;
    let length = usize::try_from(decimal(&bytes[..space], "record length")?)
        .map_err(|_| TarError::Number("record length"))?;
    if length <= space + 1 || length > bytes.len() {
        return Err(TarError::Pax("a record's length is wrong"));
    }
    let (record, rest) = bytes.split_at(length);
    let body = record[space + 1..].strip_suffix(b"\n").ok_or(TarError::Pax("a record has no newline"))?;
    let equals = body.iter().position(|byte| *byte == b'=').ok_or(TarError::Pax("a record has no '='"))?;
    Ok((&body[..equals], &body[equals + 1..], rest))
}

fn path(value: &[u8], what: &'static str) -> Result<Vec<u8>, TarError> {
    if value.len() > MAX_PATH_BYTES {
        return Err(TarError::TooLong { what, bytes: value.len() as u64, limit: MAX_PATH_BYTES as u64 });
    }
    Ok(value.to_vec())
}

/// Decimal digits and nothing else.
pub(super) fn decimal(text: &[u8], what: &'static str) -> Result<u64, TarError> {
    let digits = text.iter().try_fold(0_u64, |value, byte| match byte {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(byte - b'0')),
        _ => None,
    });
    digits.filter(|_| !text.is_empty()).ok_or(TarError::Number(what))
}

/// Seconds since the epoch with an optional sign and fraction, as whole seconds and nanoseconds upwards.
fn time(text: &[u8]) -> Result<(i64, u32), TarError> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |rest| (true, rest));
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let seconds = i64::try_from(decimal(&text[..point], "mtime")?).map_err(|_| TarError::Number("mtime"))?;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(TarError::Number("mtime"));
    }
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanos = padded.fold(0, |value, byte| value * 10 + u32::from(byte - b'0'));
    Ok(match (negative, nanos) {
        (false, nanos) => (seconds, nanos),
        (true, 0) => (-seconds, 0),
        (true, nanos) => (-seconds - 1, 1_000_000_000 - nanos),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_fraction_below_zero_too() {
        let cases: [(&str, Option<(i64, u32)>); 7] = [
            ("12", Some((12, 0))),
            ("12.5", Some((12, 500_000_000))),
            ("12.1234567899", Some((12, 123_456_789))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-3", Some((-3, 0))),
            ("", None),
            ("1.x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text.as_bytes()).ok(), expected, "{text}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in
            ["x", "5 a=b", "9 a=b\n", "4 =\n", "0 a=b\n", "6 aab\n", "99999999999999999999 a=b\n", "6 a=bX"]
        {
            let known_good = bytes == "4 =\n";
            assert_eq!(Records::parse(bytes.as_bytes()).is_ok(), known_good, "{bytes:?}");
        }
    }
}
