//! A streaming tar reader for what layers are made of: ustar, GNU and PAX archives.
//!
//! Own code, because a layer is hostile: every length is bounded before memory is spent, nothing is guessed, and what is
//! not understood is refused instead of skipped. It reads from any [`BufRead`] and touches no file, so it can be fuzzed.
//!
//! The order of authority over a field is the PAX record, the GNU long name, the header; all of them are read before
//! the entry's data is located, so two parsers cannot be made to disagree on where the next header is.

mod entry;
mod error;
mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead, Write};

pub use entry::{Entry, Kind, Segment, Xattr};
pub use error::TarError;
use header::{Block, Header};
use pax::Records;

/// Size of a block in bytes: headers are one, data is padded to a multiple.
const BLOCK: usize = 512;
/// Longest path or link target in bytes, as the kernel's PATH_MAX.
pub const MAX_PATH_BYTES: usize = 4096;
/// Largest PAX header in bytes.
pub const MAX_PAX_BYTES: u64 = 1 << 20;
/// Largest extended attribute in bytes, as the kernel's XATTR_SIZE_MAX.
pub const MAX_XATTR_BYTES: usize = 64 << 10;

/// An archive being read. What it reads besides the data taken by [`Archive::data`] (headers, padding, data nobody took,
/// what follows the end) is written to `record`: together with the data, that is the archive again.
pub struct Archive<R, S = io::Sink> {
    input: R,
    record: S,
    /// Bytes of the current entry's stored data not yet consumed.
    remaining: u64,
    /// Padding after them.
    padding: u64,
}

/// What extension headers say about the entry that follows them.
#[derive(Default)]
struct Extension {
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    pax: Records,
}

impl<R: BufRead> Archive<R> {
    /// Read from `input`, which stands at the first header.
    pub fn new(input: R) -> Self {
        Self::recording(input, io::sink())
    }
}

impl<R: BufRead, S: Write> Archive<R, S> {
    /// Read from `input` and write what is not data to `record`.
    pub fn recording(input: R, record: S) -> Self {
        Self { input, record, remaining: 0, padding: 0 }
    }

    /// The next entry, after skipping what is left of the current one. `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_entry()?;
        let mut extension = Extension::default();
        loop {
            let Some(block) = self.read_block()? else { return Ok(None) };
            let Some(header) = Header::parse(&block)? else { return Ok(None) };
            match header.kind {
                b'L' => extension.long_name = Some(self.read_long_name(header.size, "path")?),
                b'K' => extension.long_link = Some(self.read_long_name(header.size, "link target")?),
                b'x' => extension.pax = Records::parse(&self.read_extension(header.size, MAX_PAX_BYTES)?)?,
                // Global records (git's commit id) say nothing that is applied to a layer; Docker drops them too.
                b'g' => drop(self.read_extension(header.size, MAX_PAX_BYTES)?),
                _ => return self.begin_entry(&block, header, extension).map(Some),
            }
        }
    }

    /// The next bytes of the current entry's stored data, as they lie in the buffer; empty at its end.
    pub fn data(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let buffer = self.input.fill_buf().map_err(TarError::Read)?;
        if buffer.is_empty() {
            return Err(TarError::Truncated);
        }
        let length = usize::try_from(self.remaining).map_or(buffer.len(), |left| left.min(buffer.len()));
        Ok(&buffer[..length])
    }

    /// Mark `length` bytes of what [`Archive::data`] returned as used.
    pub fn consume(&mut self, length: usize) {
        self.remaining -= length as u64;
        self.input.consume(length);
    }

    /// Read everything behind the archive's end, since it counts for the layer's digest.
    pub fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let length = self.input.fill_buf().map_err(TarError::Read)?.len();
            if length == 0 {
                return Ok(());
            }
            self.pass_by(length)?;
        }
    }

    /// The source, wherever it stands, and the record.
    pub fn into_inner(self) -> (R, S) {
        (self.input, self.record)
    }

    /// Bytes of the current entry's stored data not yet consumed.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The current entry's data is not in the input: write all of it to the record, given here, instead.
    pub fn supply<E>(&mut self, data: impl FnOnce(&mut S) -> Result<(), E>) -> Result<(), E> {
        self.remaining = 0;
        data(&mut self.record)
    }

    /// Record and consume the next `length` bytes, which are in the buffer.
    fn pass_by(&mut self, length: usize) -> Result<(), TarError> {
        let buffer = self.input.fill_buf().map_err(TarError::Read)?;
        self.record.write_all(&buffer[..length]).map_err(TarError::Record)?;
        self.input.consume(length);
        Ok(())
    }

    fn begin_entry(
        &mut self,
        block: &Block,
        header: Header,
        extension: Extension,
    ) -> Result<Entry, TarError> {
        self.set_remaining(header.stored_bytes(&extension.pax)?);
        let mut entry = entry::assemble(header, extension)?;
        match sparse::format(&entry.kind, &entry.pax)? {
            sparse::Format::None => {}
            sparse::Format::Gnu => self.read_gnu_sparse(block, &mut entry)?,
            sparse::Format::Pax01 => entry.set_sparse(sparse::from_records(&entry.pax)?),
            sparse::Format::Pax10 => self.read_pax_sparse(&mut entry)?,
        }
        if let Some(segments) = &entry.segments {
            sparse::check(segments, entry.size, self.remaining)?;
        }
        Ok(entry)
    }

    fn set_remaining(&mut self, stored_bytes: u64) {
        self.remaining = stored_bytes;
        self.padding = stored_bytes.next_multiple_of(BLOCK as u64) - stored_bytes;
    }

    /// GNU's own form: four segments in the header, 21 more in each block after it.
    fn read_gnu_sparse(&mut self, block: &Block, entry: &mut Entry) -> Result<(), TarError> {
        let mut map = sparse::GnuMap::begin(block)?;
        while map.continues {
            let block = self.read_block()?.ok_or(TarError::Truncated)?;
            map.extend(&block)?;
        }
        entry.set_sparse(map.finish());
        Ok(())
    }

    /// PAX form 1.0: decimal numbers, one a line, in front of the data, padded to a block.
    fn read_pax_sparse(&mut self, entry: &mut Entry) -> Result<(), TarError> {
        let mut lines = sparse::MapText::default();
        while !lines.complete()? {
            let mut block = [0; BLOCK];
            if self.remaining < BLOCK as u64 {
                return Err(TarError::Sparse("its map is longer than its data"));
            }
            self.read_exact(&mut block)?;
            self.remaining -= BLOCK as u64;
            lines.feed(&block)?;
        }
        let size = sparse::real_size(&entry.pax)?;
        entry.set_sparse((size, lines.finish()?));
        Ok(())
    }

    fn skip_entry(&mut self) -> Result<(), TarError> {
        while self.remaining > 0 {
            let length = self.data()?.len();
            self.remaining -= length as u64;
            self.pass_by(length)?;
        }
        let mut padding = [0; BLOCK];
        let length = usize::try_from(self.padding).map_err(|_| TarError::Truncated)?;
        self.padding = 0;
        self.read_exact(&mut padding[..length])
    }

    fn read_long_name(&mut self, size: u64, what: &'static str) -> Result<Vec<u8>, TarError> {
        let limit = MAX_PATH_BYTES as u64 + 1;
        if size > limit {
            return Err(TarError::TooLong { what, bytes: size, limit });
        }
        let mut name = self.read_extension(size, limit)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    fn read_extension(&mut self, size: u64, limit: u64) -> Result<Vec<u8>, TarError> {
        if size > limit {
            return Err(TarError::TooLong { what: "extension header", bytes: size, limit });
        }
        let length = usize::try_from(size).map_err(|_| TarError::Truncated)?;
        let mut bytes = vec![0; length.next_multiple_of(BLOCK)];
        self.read_exact(&mut bytes)?;
        bytes.truncate(length);
        Ok(bytes)
    }

    /// A whole block; `None` where the input ends instead, which some writers do without the closing zeros.
    fn read_block(&mut self) -> Result<Option<Block>, TarError> {
        if self.input.fill_buf().map_err(TarError::Read)?.is_empty() {
            return Ok(None);
        }
        let mut block = [0; BLOCK];
        self.read_exact(&mut block)?;
        Ok(Some(block))
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), TarError> {
        self.input.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => TarError::Truncated,
            _ => TarError::Read(error),
        })?;
        self.record.write_all(bytes).map_err(TarError::Record)
    }
}

#[cfg(test)]
mod tests;
