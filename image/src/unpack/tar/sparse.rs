//! Sparse files: GNU's header form, and GNU's PAX forms 0.0, 0.1 and 1.0 (GNU tar manual, "Storing Sparse Files").

use super::header::{Block, unsigned};
use super::pax::{Records, decimal};
use super::{BLOCK, Kind, Segment, TarError};

/// Most segments of one file: the map of a file that alternates 4 KiB of data and hole over 512 MiB.
const MAX_SEGMENTS: usize = 65_536;
/// Longest number in a map's text form: 2^63 has 19 digits.
const MAX_DIGITS: usize = 20;

/// Which form an entry uses.
pub(super) enum Format {
    None,
    Gnu,
    Pax01,
    Pax10,
}

/// The form that an entry's type and records tell.
pub(super) fn format(kind: &Kind, pax: &Records) -> Result<Format, TarError> {
    match (kind, pax.sparse.major, pax.sparse.minor) {
        (Kind::GnuSparse, None, _) => Ok(Format::Gnu),
        (Kind::File, Some(1), Some(0)) => Ok(Format::Pax10),
        (Kind::File, None, _) if pax.sparse.map.is_none() => Ok(Format::None),
        (Kind::File, None | Some(0), _) if pax.sparse.map.is_some() => Ok(Format::Pax01),
        (Kind::GnuSparse, ..) | (_, Some(_), _) => Err(TarError::Sparse("its version is unknown")),
        _ => Ok(Format::None),
    }
}

/// The size of the file with its holes.
pub(super) fn real_size(pax: &Records) -> Result<u64, TarError> {
    pax.sparse.real_size.ok_or(TarError::Sparse("its real size is missing"))
}

/// Size and segments from records alone (0.0 and 0.1).
pub(super) fn from_records(pax: &Records) -> Result<(u64, Vec<Segment>), TarError> {
    Ok((real_size(pax)?, pairs(pax.sparse.map.as_deref().unwrap_or_default())?))
}

fn pairs(numbers: &[u64]) -> Result<Vec<Segment>, TarError> {
    if numbers.len() > 2 * MAX_SEGMENTS {
        return Err(TarError::Sparse("its map has too many segments"));
    }
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(TarError::Sparse("its map has an odd count of numbers"));
    }
    Ok(pairs.iter().map(|[offset, length]| Segment { offset: *offset, length: *length }).collect())
}

/// Segments have to ascend, lie within the file, and hold exactly the stored data.
pub(super) fn check(segments: &[Segment], size: u64, stored_bytes: u64) -> Result<(), TarError> {
    if size > i64::MAX as u64 {
        return Err(TarError::Number("sparse size"));
    }
    let mut end = 0;
    let mut total = 0_u64;
    for segment in segments {
        if segment.offset < end {
            return Err(TarError::Sparse("its segments overlap or descend"));
        }
        let next = segment.offset.checked_add(segment.length).filter(|next| *next <= size);
        end = next.ok_or(TarError::Sparse("a segment lies beyond its end"))?;
        total += segment.length;
    }
    if total == stored_bytes {
        Ok(())
    } else {
        Err(TarError::Sparse("its segments and its data differ in length"))
    }
}

/// GNU's header form being read.
pub(super) struct GnuMap {
    size: u64,
    segments: Vec<Segment>,
    /// Whether one more block of segments follows.
    pub(super) continues: bool,
}

impl GnuMap {
    /// From the header: four segments at 386, a flag at 482, the real size at 483.
    pub(super) fn begin(block: &Block) -> Result<Self, TarError> {
        let size = unsigned(&block[483..495], "sparse size")?;
        let mut map = Self { size, segments: Vec::new(), continues: block[482] != 0 };
        map.take(&block[386..482])?;
        Ok(map)
    }

    /// From a block that follows: 21 segments and a flag.
    pub(super) fn extend(&mut self, block: &Block) -> Result<(), TarError> {
        self.continues = block[504] != 0;
        self.take(&block[..504])
    }

    fn take(&mut self, table: &[u8]) -> Result<(), TarError> {
        for slot in table.as_chunks::<24>().0 {
            if slot[0] == 0 {
                break;
            }
            let offset = unsigned(&slot[..12], "sparse map")?;
            let length = unsigned(&slot[12..], "sparse map")?;
            self.segments.push(Segment { offset, length });
        }
        if self.segments.len() > MAX_SEGMENTS {
            return Err(TarError::Sparse("its map has too many segments"));
        }
        Ok(())
    }

    /// Size and segments.
    pub(super) fn finish(self) -> (u64, Vec<Segment>) {
        (self.size, self.segments)
    }
}

/// The text map of form 1.0 being read: a count, then offset and length of each segment, each on a line.
#[derive(Default)]
pub(super) struct MapText {
    numbers: Vec<u64>,
    digits: Vec<u8>,
}

impl MapText {
    /// Whether all announced numbers are there.
    pub(super) fn complete(&self) -> Result<bool, TarError> {
        match self.numbers.first() {
            None => Ok(false),
            Some(count) if *count > MAX_SEGMENTS as u64 => {
                Err(TarError::Sparse("its map has too many segments"))
            }
            Some(count) => Ok(self.numbers.len() as u64 > 2 * count),
        }
    }

    /// Take in one block; what follows the last number is padding.
    pub(super) fn feed(&mut self, block: &[u8; BLOCK]) -> Result<(), TarError> {
        for byte in block {
            if self.complete()? {
                break;
            }
            match byte {
                b'\n' => {
                    self.numbers.push(decimal(&self.digits, "sparse map")?);
                    self.digits.clear();
                }
                _ if self.digits.len() < MAX_DIGITS => self.digits.push(*byte),
                _ => return Err(TarError::Number("sparse map")),
            }
        }
        Ok(())
    }

    /// The segments.
    pub(super) fn finish(self) -> Result<Vec<Segment>, TarError> {
        pairs(&self.numbers[1..])
    }
}
