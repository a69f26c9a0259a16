//! A compiled filter, ready for `seccomp(2)`, and its form on the way to the process that loads it.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

/// The longest program the kernel takes (`BPF_MAXINSNS`), instructions.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
const NEW_LISTENER: u32 = 1 << 3;

/// Bytes of one instruction (`struct sock_filter`).
const INSTRUCTION_BYTES: usize = 8;

/// A classic BPF instruction: the kernel's `struct sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip if a comparison holds.
    pub jt: u8,
    /// How many if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program, at most [`MAX_INSTRUCTIONS`].
    pub instructions: Vec<Instruction>,
    /// Flags for `SECCOMP_SET_MODE_FILTER`, [`Self::notify`]'s included.
    pub flags: u32,
    /// Socket of the agent that the listener's descriptor goes to, where calls are notified.
    pub listener_path: Option<PathBuf>,
    /// What to tell that agent.
    pub listener_metadata: Option<String>,
}

/// Bytes that are no filter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// They end too early.
    #[error("seccomp filter ends after {0} bytes, in the middle of a field")]
    Truncated(usize),
    /// They do not end where they should.
    #[error("seccomp filter is followed by {0} bytes that do not belong to it")]
    Trailing(usize),
    /// More instructions than the kernel takes.
    #[error("seccomp filter of {0} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
    /// The metadata is not UTF-8.
    #[error("listener metadata of the seccomp filter is not UTF-8")]
    Metadata,
}

impl Instruction {
    /// The instruction as the kernel reads it on this machine.
    fn to_bytes(self) -> [u8; INSTRUCTION_BYTES] {
        let ([a, b], [c, d, e, f]) = (self.code.to_ne_bytes(), self.k.to_ne_bytes());
        [a, b, self.jt, self.jf, c, d, e, f]
    }

    fn from_bytes([a, b, jt, jf, c, d, e, f]: [u8; INSTRUCTION_BYTES]) -> Self {
        Self { code: u16::from_ne_bytes([a, b]), jt, jf, k: u32::from_ne_bytes([c, d, e, f]) }
    }
}

impl Filter {
    /// Whether calls are handed to an agent: loading the filter then returns a descriptor for it.
    #[must_use]
    pub fn notify(&self) -> bool {
        self.flags & NEW_LISTENER != 0
    }

    /// The program as the kernel reads it: an array of `struct sock_filter`. [`Self::flags`] go beside it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.instructions.iter().flat_map(|instruction| instruction.to_bytes()).collect()
    }

    /// The whole filter, flags and listener included, for another process on this machine.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let path = self.listener_path.as_ref().map(|path| path.as_os_str().as_bytes());
        let metadata = self.listener_metadata.as_ref().map(String::as_bytes);
        let mut bytes = Vec::with_capacity(self.instructions.len() * INSTRUCTION_BYTES + 64);
        put_number(&mut bytes, self.flags as usize);
        put_optional(&mut bytes, path);
        put_optional(&mut bytes, metadata);
        put_number(&mut bytes, self.instructions.len());
        bytes.extend(self.to_bytes());
        bytes
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader { bytes, at: 0 };
        let flags = reader.number()?;
        let listener_path = reader.optional()?.map(|path| std::ffi::OsString::from_vec(path).into());
        let metadata = reader.optional()?.map(String::from_utf8).transpose();
        let listener_metadata = metadata.map_err(|_| FormatError::Metadata)?;
        let count = reader.number()? as usize;
        if count > MAX_INSTRUCTIONS {
            return Err(FormatError::TooLong(count));
        }
        let instructions =
            (0..count).map(|_| reader.array().map(Instruction::from_bytes)).collect::<Result<_, _>>()?;
        match bytes.len() - reader.at {
            0 => Ok(Self { instructions, flags, listener_path, listener_metadata }),
            rest => Err(FormatError::Trailing(rest)),
        }
    }
}

/// Flags, counts and lengths of texts are all far below the limit of a `u32`.
fn put_number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend(u32::try_from(number).unwrap_or(u32::MAX).to_ne_bytes());
}

/// A length plus one and the bytes, or 0 for none.
fn put_optional(bytes: &mut Vec<u8>, content: Option<&[u8]>) {
    put_number(bytes, content.map_or(0, |content| content.len() + 1));
    bytes.extend(content.unwrap_or_default());
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let rest = &self.bytes[self.at..];
        let found = rest.first_chunk::<N>().ok_or(FormatError::Truncated(self.bytes.len()))?;
        self.at += N;
        Ok(*found)
    }

    fn number(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_ne_bytes)
    }

    fn optional(&mut self) -> Result<Option<Vec<u8>>, FormatError> {
        let Some(length) = (self.number()? as usize).checked_sub(1) else {
            return Ok(None);
        };
        let content = self.bytes[self.at..].get(..length).ok_or(FormatError::Truncated(self.bytes.len()))?;
        self.at += length;
        Ok(Some(content.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(count: usize) -> Filter {
        let instruction =
            |n: usize| Instruction { code: 0x35, jt: 1, jf: 255, k: u32::try_from(n).unwrap() << 20 };
        Filter {
            instructions: (0..count).map(instruction).collect(),
            flags: NEW_LISTENER | 1,
            listener_path: Some("/run/agent.sock".into()),
            listener_metadata: Some(String::new()),
        }
    }

    #[test]
    fn a_filter_reads_back() {
        let without = Filter { listener_path: None, listener_metadata: None, flags: 0, ..filter(3) };
        for filter in [filter(0), filter(300), without] {
            assert_eq!(Filter::decode(&filter.encode()), Ok(filter));
        }
        assert!(filter(1).notify());
    }

    #[test]
    fn the_program_is_laid_out_for_the_kernel() {
        let instruction = Instruction { code: 0x0035, jt: 1, jf: 2, k: 0x0403_0201 };
        let filter = Filter { instructions: vec![instruction; 2], ..filter(0) };
        let mut expected = 0x0035_u16.to_ne_bytes().to_vec();
        expected.extend([1, 2]);
        expected.extend(0x0403_0201_u32.to_ne_bytes());
        assert_eq!(filter.to_bytes(), expected.repeat(2));
    }

    #[test]
    fn other_bytes_are_no_filter() {
        let bytes = filter(2).encode();
        for end in 0..bytes.len() {
            assert!(matches!(Filter::decode(&bytes[..end]), Err(FormatError::Truncated(_))), "{end}");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(Filter::decode(&longer), Err(FormatError::Trailing(1)));
        assert_eq!(Filter::decode(&filter(MAX_INSTRUCTIONS + 1).encode()), Err(FormatError::TooLong(4097)));
        let everything = [0xff; 64];
        assert!(Filter::decode(&everything).is_err());
    }
}
