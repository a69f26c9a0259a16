//! Writing archives of plain files, as small as the format allows.

use std::io::{self, Write};

/// Size of a block in bytes.
const BLOCK: usize = 512;
/// Largest size that fits the header's octal field.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// An archive being written.
pub(super) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out }
    }

    /// A file in memory.
    pub(super) fn file(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        self.begin(path, data.len() as u64)?;
        self.out.write_all(data)?;
        self.end(data.len() as u64)
    }

    /// The header of a file of `size` bytes, which are to be written to [`Writer::data`].
    pub(super) fn begin(&mut self, path: &str, size: u64) -> io::Result<()> {
        self.out.write_all(&header(path, size))
    }

    pub(super) fn data(&mut self) -> &mut W {
        &mut self.out
    }

    /// The padding after `size` bytes of data.
    pub(super) fn end(&mut self, size: u64) -> io::Result<()> {
        let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
        self.out.write_all(&[0; BLOCK][..padding])
    }

    /// The end of the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()
    }
}

/// A ustar header: owned by root, readable for all, of no particular time.
fn header(path: &str, size: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let name = path.as_bytes();
    debug_assert!(name.len() < 100, "paths in archives of images are short");
    block[..name.len()].copy_from_slice(name);
    block[100..108].copy_from_slice(b"0000644\0");
    block[108..116].copy_from_slice(b"0000000\0");
    block[116..124].copy_from_slice(b"0000000\0");
    if size <= MAX_OCTAL {
        block[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    } else {
        // GNU's form for large numbers: the first bit set, then the number in bytes.
        block[124] = 0x80;
        block[128..136].copy_from_slice(&size.to_be_bytes());
    }
    block[136..148].copy_from_slice(b"00000000000\0");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unpack::tar::Archive;

    #[test]
    fn the_reader_reads_what_is_written() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.file("a", b"data").unwrap();
        writer.file("b", &[7; 512]).unwrap();
        writer.finish().unwrap();
        assert_eq!(out.len(), 6 * 512 + 512 - 512);
        let mut archive = Archive::new(&out[..]);
        let one = archive.next_entry().unwrap().unwrap();
        assert_eq!((one.path, one.size, archive.data().unwrap()), (b"a".to_vec(), 4, &b"data"[..]));
        assert_eq!(archive.next_entry().unwrap().unwrap().size, 512);
        assert!(archive.next_entry().unwrap().is_none());
        let huge = header("huge", 1 << 40);
        let mut archive = Archive::new(&huge[..]);
        assert_eq!(archive.next_entry().unwrap().unwrap().size, 1 << 40);
    }
}
