//! Header blocks: name-value pairs, compressed with one zlib stream a direction (SPDY/3 section 2.6.10).

use flate2::{Decompress, FlushDecompress, Status};

use super::{SpdyError, word};

/// The dictionary of SPDY/3 section 2.6.10.1; its Adler-32 checksum is e3c6a7c2.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// Most bytes that a block may decompress to.
const BLOCK_BYTES: usize = 16 * 1024;
/// Most pairs in a block.
const PAIRS: usize = 64;

/// A block's pairs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of `name`, which is in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// The receiving direction's compression state.
pub(crate) struct Inflater(Decompress);

impl Inflater {
    pub(crate) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// Reads one block. Everything is decompressed, because the next block continues with this one's history.
    pub(crate) fn headers(&mut self, mut block: &[u8]) -> Result<Headers, SpdyError> {
        let mut plain = Vec::with_capacity(BLOCK_BYTES + 1);
        loop {
            let (before_in, before_out) = (self.0.total_in(), plain.len());
            match self.0.decompress_vec(block, &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Err(SpdyError::Headers("its stream ends")),
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0
                        .set_dictionary(DICTIONARY)
                        .map_err(|_| SpdyError::Headers("it wants another dictionary"))?;
                }
                Err(_) => return Err(SpdyError::Headers("it cannot be decompressed")),
            }
            if plain.len() > BLOCK_BYTES {
                return Err(SpdyError::Headers("it is too large"));
            }
            let taken = (self.0.total_in() - before_in) as usize;
            block = &block[taken..];
            if block.is_empty() || (taken == 0 && plain.len() == before_out) {
                return parse(&plain);
            }
        }
    }
}

/// A block without pairs: a stored deflate block of four zeros, after the zlib header in the first block.
pub(super) fn empty_block(first: bool) -> Vec<u8> {
    let mut block = Vec::with_capacity(15);
    if first {
        // Deflate with a 32 KiB window and a preset dictionary (RFC 1950), then the dictionary's checksum.
        block.extend_from_slice(&[0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2]);
    }
    // The second, empty block is a flush: Go hands out nothing before it sees one.
    block.extend_from_slice(&[0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
    block
}

fn parse(mut plain: &[u8]) -> Result<Headers, SpdyError> {
    let count = word(take(&mut plain, 4)?) as usize;
    if count > PAIRS {
        return Err(SpdyError::Headers("it has too many pairs"));
    }
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let name = string(&mut plain)?.to_ascii_lowercase();
        pairs.push((name, string(&mut plain)?));
    }
    Ok(Headers(pairs))
}

fn string(plain: &mut &[u8]) -> Result<String, SpdyError> {
    let length = word(take(plain, 4)?) as usize;
    let bytes = take(plain, length)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| SpdyError::Headers("it is not text"))
}

fn take<'a>(plain: &mut &'a [u8], length: usize) -> Result<&'a [u8], SpdyError> {
    plain.split_off(..length).ok_or(SpdyError::Headers("it is cut short"))
}

/// A client's side of the compression.
#[cfg(test)]
pub(crate) struct Deflater(flate2::Compress);

#[cfg(test)]
impl Deflater {
    pub(crate) fn new() -> Self {
        let mut deflater = flate2::Compress::new(flate2::Compression::best(), true);
        deflater.set_dictionary(DICTIONARY).unwrap();
        Self(deflater)
    }

    /// The next block, of pairs.
    pub(crate) fn block(&mut self, pairs: &[(&str, &str)]) -> Vec<u8> {
        let length = |text: &str| u32::try_from(text.len()).unwrap().to_be_bytes();
        let mut plain = u32::try_from(pairs.len()).unwrap().to_be_bytes().to_vec();
        for text in pairs.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend(length(text));
            plain.extend(text.bytes());
        }
        self.plain(&plain)
    }

    /// The next block, of anything.
    pub(crate) fn plain(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut block = Vec::with_capacity(plain.len() + 256);
        self.0.compress_vec(plain, &mut block, flate2::FlushCompress::Sync).unwrap();
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn blocks_continue_one_another() {
        let (mut deflater, mut inflater) = (Deflater::new(), Inflater::new());
        for _ in 0..3 {
            let headers = inflater.headers(&deflater.block(&[("streamType", "stdin")])).unwrap();
            assert_eq!(headers.get("streamtype"), Some("stdin"));
        }
    }

    #[test]
    fn our_empty_blocks_can_be_read() {
        let mut inflater = Inflater::new();
        for first in [true, false, false] {
            assert_eq!(inflater.headers(&empty_block(first)).unwrap(), Headers::default());
        }
    }

    #[test]
    fn a_bomb_is_refused() {
        let block = Deflater::new().plain(&vec![0; 10 << 20]);
        assert!(matches!(Inflater::new().headers(&block), Err(SpdyError::Headers("it is too large"))));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged(plain in proptest::collection::vec(any::<u8>(), 0..200)) {
            let judged = Inflater::new().headers(&Deflater::new().plain(&plain));
            prop_assert_eq!(judged.is_ok(), parse(&plain).is_ok());
            drop(Inflater::new().headers(&plain));
        }
    }
}
