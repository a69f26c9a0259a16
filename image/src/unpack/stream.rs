//! A layer's stream: compressed bytes in, archive bytes out, bounded and digested on the way.

use std::io::{self, BufRead, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

use super::error::StreamError;
use crate::reference::{Algorithm, Digest, Hasher};

/// Size of the buffer between decompression and files: large enough that a system call's price does not show.
const BUFFER_BYTES: usize = 256 << 10;
/// Largest window a zstd frame may ask for, as a power of two: 128 MiB, zstd's own default limit for streams. (Without
/// one a frame of a few bytes could ask for 2 GiB.)
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The source with the bytes that were looked at put back.
type Source<R> = Chain<Cursor<Vec<u8>>, R>;

/// A decompressed layer being read. What it hands out has been digested and counted.
pub struct LayerStream<R: BufRead> {
    decoder: Decoder<R>,
    hasher: Hasher,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    left: u64,
    limit: u64,
}

enum Decoder<R: BufRead> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Source<R>>),
}

impl<R: BufRead> LayerStream<R> {
    /// Read `source`, which may decompress to at most `limit` bytes. The compression is told by the first bytes, since
    /// registries are full of layers with the wrong media type.
    pub fn new(mut source: R, algorithm: Algorithm, limit: u64) -> io::Result<Self> {
        let mut magic = Vec::with_capacity(ZSTD_MAGIC.len());
        source.by_ref().take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic)?;
        let is_zstd = magic == ZSTD_MAGIC;
        let is_gzip = magic.starts_with(&GZIP_MAGIC);
        let source = Cursor::new(magic).chain(source);
        let decoder = if is_zstd {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            Decoder::Zstd(decoder)
        } else if is_gzip {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else {
            Decoder::Plain(source)
        };
        let buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        Ok(Self { decoder, hasher: Hasher::new(algorithm), buffer, start: 0, end: 0, left: limit, limit })
    }

    /// How many bytes it has decompressed to so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.limit - self.left
    }

    /// The digest of all that was read.
    pub fn finish(self) -> Digest {
        self.hasher.finish()
    }

    /// Fill the buffer as far as one pass of the decoder goes, so that digest and files work on large pieces.
    fn refill(&mut self) -> io::Result<()> {
        (self.start, self.end) = (0, 0);
        while self.end < self.buffer.len() {
            let count = self.decoder.read(&mut self.buffer[self.end..])?;
            if count == 0 {
                break;
            }
            self.end += count;
        }
        let count = self.end as u64;
        self.left =
            self.left.checked_sub(count).ok_or_else(|| io::Error::other(StreamError::Bomb(self.limit)))?;
        self.hasher.update(&self.buffer[..self.end]);
        Ok(())
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) => source.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(decoder) => decoder.read(buffer),
        }
    }
}

impl<R: BufRead> BufRead for LayerStream<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    fn consume(&mut self, count: usize) {
        self.start += count;
    }
}

impl<R: BufRead> Read for LayerStream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8], limit: u64) -> io::Result<(Vec<u8>, Digest)> {
        let mut stream = LayerStream::new(bytes, Algorithm::Sha256, limit)?;
        let mut out = Vec::new();
        stream.read_to_end(&mut out)?;
        Ok((out, stream.finish()))
    }

    #[test]
    fn every_compression_gives_the_same_bytes_and_digest() {
        let plain: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        let zstd = zstd::bulk::compress(&plain, 1).unwrap();
        let two_members = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
        for bytes in [plain.clone(), gzip(&plain), zstd, two_members] {
            let (out, digest) = read(&bytes, u64::MAX).unwrap();
            assert!(out == plain);
            assert_eq!(digest, Digest::of(&plain));
        }
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        let plain = vec![7; 300_000];
        for bytes in [gzip(&plain), zstd::bulk::compress(&plain, 1).unwrap()] {
            assert!(read(&bytes[..bytes.len() - 3], u64::MAX).is_err());
        }
    }

    #[test]
    fn a_bomb_is_cut_off_at_the_limit() {
        let plain = vec![0; 10 << 20];
        for bytes in [gzip(&plain), zstd::bulk::compress(&plain, 1).unwrap()] {
            let error = read(&bytes, 1 << 20).unwrap_err();
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StreamError>());
            assert_eq!(inner, Some(&StreamError::Bomb(1 << 20)));
            assert!(read(&bytes, 10 << 20).is_ok(), "exactly the limit is allowed");
        }
    }

    #[test]
    fn a_huge_zstd_window_is_refused() {
        // Frame header: no single segment, window descriptor exponent 21 (2^31 bytes), then one empty last block.
        let frame = [&ZSTD_MAGIC[..], &[0x00, 21 << 3, 0x01, 0x00, 0x00]].concat();
        assert!(read(&frame, u64::MAX).is_err());
        let modest = [&ZSTD_MAGIC[..], &[0x00, 13 << 3, 0x01, 0x00, 0x00]].concat();
        assert!(read(&modest, u64::MAX).is_ok());
    }
}
