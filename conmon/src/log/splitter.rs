//! Cuts a stream of bytes into the pieces that become log lines, without knowing where they go.

use memchr::memchr;

/// The longest piece, in bytes. A longer line is cut into pieces of this size; it is the size at which Docker, containerd
/// and CRI-O cut too, so that readers of logs expect it.
pub(crate) const MAX_PIECE_BYTES: usize = 16 << 10;

/// Whether a piece ends its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// `F`: a newline followed.
    Full,
    /// `P`: no newline followed. The kubelet joins what comes after it without a newline, and so gives back exactly the
    /// bytes that were written, also for a last line that its program never ended.
    Partial,
}

/// One piece: what was held from earlier reads, then what is new, neither with the newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    pub(crate) tag: Tag,
    pub(crate) held: &'a [u8],
    pub(crate) new: &'a [u8],
}

/// The state of one stream: the text of a line whose newline has not come yet.
///
/// A piece is cut only when a byte more than [`MAX_PIECE_BYTES`] has come. A line of exactly that length is therefore
/// one full piece, and the end of a cut line is never empty.
pub(crate) struct Splitter {
    held: [u8; MAX_PIECE_BYTES],
    held_bytes: usize,
}

impl Splitter {
    /// An empty one. It can stand in a static, where it costs no memory until a line is held.
    pub(crate) const fn new() -> Self {
        Self { held: [0; MAX_PIECE_BYTES], held_bytes: 0 }
    }

    /// Takes what was read and hands over every piece that is complete with it, in order.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.finish_line(&bytes[..end], &mut sink);
            bytes = &bytes[end + 1..];
        }
        self.hold(bytes, &mut sink);
    }

    /// The stream ended: hands over the line that was left open, if there is one.
    pub(crate) fn finish(&mut self, mut sink: impl FnMut(Piece<'_>)) {
        if self.held_bytes > 0 {
            sink(Piece { tag: Tag::Partial, held: &self.held[..self.held_bytes], new: &[] });
            self.held_bytes = 0;
        }
    }

    fn finish_line(&mut self, line: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let rest = self.cut(line, sink);
        sink(Piece { tag: Tag::Full, held: &self.held[..self.held_bytes], new: rest });
        self.held_bytes = 0;
    }

    fn hold(&mut self, text: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
        let rest = self.cut(text, sink);
        let end = self.held_bytes + rest.len();
        self.held[self.held_bytes..end].copy_from_slice(rest);
        self.held_bytes = end;
    }

    /// Hands over whole pieces until what is held and what remains of `text` fit into one; returns that remainder.
    fn cut<'a>(&mut self, mut text: &'a [u8], sink: &mut impl FnMut(Piece<'_>)) -> &'a [u8] {
        while self.held_bytes + text.len() > MAX_PIECE_BYTES {
            let (new, rest) = text.split_at(MAX_PIECE_BYTES - self.held_bytes);
            sink(Piece { tag: Tag::Partial, held: &self.held[..self.held_bytes], new });
            self.held_bytes = 0;
            text = rest;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pieces = Vec<(Tag, Vec<u8>)>;
    type Case = (&'static [&'static [u8]], &'static [(Tag, &'static [u8])]);

    fn split(reads: &[&[u8]]) -> Pieces {
        let mut splitter = Splitter::new();
        let mut pieces = Vec::new();
        let mut sink = |piece: Piece<'_>| pieces.push((piece.tag, [piece.held, piece.new].concat()));
        for read in reads {
            splitter.push(read, &mut sink);
        }
        splitter.finish(&mut sink);
        pieces
    }

    /// What the kubelet makes of the pieces.
    fn joined(pieces: &Pieces) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, text) in pieces {
            bytes.extend_from_slice(text);
            if *tag == Tag::Full {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    #[test]
    fn lines_are_kept_together() {
        use Tag::{Full, Partial};
        let table: [Case; 9] = [
            (&[], &[]),
            (&[b""], &[]),
            (&[b"\n"], &[(Full, b"")]),
            (&[b"one\ntwo\n"], &[(Full, b"one"), (Full, b"two")]),
            (&[b"o", b"n", b"e", b"\n"], &[(Full, b"one")]),
            (
                &[b"one\ntw", b"o\n\nthr", b"ee"],
                &[(Full, b"one"), (Full, b"two"), (Full, b""), (Partial, b"three")],
            ),
            (&[b"nul\0\xff\xfe\r\n"], &[(Full, b"nul\0\xff\xfe\r")]),
            (&[b"\n\n\n"], &[(Full, b""), (Full, b""), (Full, b"")]),
            (&[b"prompt> "], &[(Partial, b"prompt> ")]),
        ];
        for (reads, expected) in table {
            let expected: Pieces = expected.iter().map(|(tag, text)| (*tag, text.to_vec())).collect();
            assert_eq!(split(reads), expected, "{reads:?}");
        }
    }

    #[test]
    fn long_lines_are_cut_where_the_next_byte_does_not_fit() {
        let lengths = |length: usize, newline: bool| -> Vec<(Tag, usize)> {
            let mut text = vec![b'x'; length];
            if newline {
                text.push(b'\n');
            }
            split(&[&text]).into_iter().map(|(tag, piece)| (tag, piece.len())).collect()
        };
        const MAX: usize = MAX_PIECE_BYTES;
        assert_eq!(lengths(MAX, true), [(Tag::Full, MAX)]);
        assert_eq!(lengths(MAX + 1, true), [(Tag::Partial, MAX), (Tag::Full, 1)]);
        assert_eq!(lengths(2 * MAX, true), [(Tag::Partial, MAX), (Tag::Full, MAX)]);
        assert_eq!(lengths(MAX, false), [(Tag::Partial, MAX)]);
        assert_eq!(
            lengths(2 * MAX + 5, false),
            [(Tag::Partial, MAX), (Tag::Partial, MAX), (Tag::Partial, 5)]
        );
    }

    /// Pieces depend on the bytes alone, not on how reads cut them, and nothing is lost, added or reordered.
    #[test]
    fn any_cut_of_any_stream_gives_the_same_pieces() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % below as u64) as usize
        };
        for _ in 0..300 {
            let one_newline_in = [2, 40, 5_000, 100_000][next(4)];
            let stream: Vec<u8> = (0..next(120_000))
                .map(|_| if next(one_newline_in) == 0 { b'\n' } else { next(256) as u8 })
                .collect();
            let whole = split(&[&stream]);
            let mut reads: Vec<&[u8]> = Vec::new();
            let mut rest = stream.as_slice();
            while !rest.is_empty() {
                let (read, after) = rest.split_at((1 + next(70_000)).min(rest.len()));
                reads.push(read);
                rest = after;
            }
            assert_eq!(split(&reads), whole);
            assert_eq!(joined(&whole), stream);
            assert!(whole.iter().all(|(_, piece)| piece.len() <= MAX_PIECE_BYTES && !piece.contains(&b'\n')));
        }
    }
}
