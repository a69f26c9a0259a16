//! Puts the lines of one read together, prefix by prefix, so that they reach the file in one write.

use super::LogFile;
use super::splitter::{MAX_PIECE_BYTES, Piece, Tag};
use super::timestamp::{TIMESTAMP_BYTES, Timestamp};

/// Room for the lines of one write, in bytes: a read of 64 KiB with lines of 40 bytes and more fits whole.
pub(crate) const BATCH_BYTES: usize = 128 << 10;

/// ` stdout F `, behind the timestamp.
const LABEL_BYTES: usize = 10;
const PREFIX_BYTES: usize = TIMESTAMP_BYTES + LABEL_BYTES;

const _: () =
    assert!(PREFIX_BYTES + MAX_PIECE_BYTES < BATCH_BYTES, "the longest line fits into an empty batch");

/// The stream a line came from, as the CRI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamName {
    Stdout,
    Stderr,
}

/// Lines on their way to the file. Ends with [`Batch::finish`]; what is dropped before is not written.
pub(crate) struct Batch<'a> {
    text: &'a mut [u8; BATCH_BYTES],
    bytes: usize,
    file: &'a mut LogFile,
    full: [u8; PREFIX_BYTES],
    partial: [u8; PREFIX_BYTES],
}

impl<'a> Batch<'a> {
    /// An empty batch of lines that `stream` gave at `time`, put together in `text`.
    pub(crate) fn new(
        text: &'a mut [u8; BATCH_BYTES],
        file: &'a mut LogFile,
        time: Timestamp,
        stream: StreamName,
    ) -> Self {
        let full = prefix(time, stream, Tag::Full);
        let partial = prefix(time, stream, Tag::Partial);
        Self { text, bytes: 0, file, full, partial }
    }

    /// Adds one line; writes what is there first when there is no room left.
    pub(crate) fn add(&mut self, piece: Piece<'_>) {
        let needed = PREFIX_BYTES + piece.held.len() + piece.new.len() + 1;
        if self.bytes + needed > BATCH_BYTES {
            self.write();
        }
        let prefix = if piece.tag == Tag::Full { self.full } else { self.partial };
        self.put(&prefix);
        if !piece.held.is_empty() {
            self.put(piece.held);
        }
        self.put(piece.new);
        self.text[self.bytes] = b'\n';
        self.bytes += 1;
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) {
        self.write();
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.bytes + bytes.len();
        copy_line(&mut self.text[self.bytes..end], bytes);
        self.bytes = end;
    }

    fn write(&mut self) {
        if self.bytes > 0 {
            self.file.append(&self.text[..self.bytes]);
            self.bytes = 0;
        }
    }
}

/// Copies `from` to `to`, which is as long. Most lines are short, and for these a C library's copy is mostly its own
/// beginning (musl's above all): up to 128 bytes are two blocks of a size that the compiler knows.
fn copy_line(to: &mut [u8], from: &[u8]) {
    match from.len() {
        65..=128 => copy_ends::<64>(to, from),
        33..=64 => copy_ends::<32>(to, from),
        17..=32 => copy_ends::<16>(to, from),
        8..=16 => copy_ends::<8>(to, from),
        _ => to.copy_from_slice(from),
    }
}

/// Copies the first and the last `N` bytes, which is everything where the text has no more than twice as many.
fn copy_ends<const N: usize>(to: &mut [u8], from: &[u8]) {
    if let (Some(to), Some(from)) = (to.first_chunk_mut::<N>(), from.first_chunk::<N>()) {
        *to = *from;
    }
    if let (Some(to), Some(from)) = (to.last_chunk_mut::<N>(), from.last_chunk::<N>()) {
        *to = *from;
    }
}

fn prefix(time: Timestamp, stream: StreamName, tag: Tag) -> [u8; PREFIX_BYTES] {
    let label: &[u8; LABEL_BYTES] = match (stream, tag) {
        (StreamName::Stdout, Tag::Full) => b" stdout F ",
        (StreamName::Stdout, Tag::Partial) => b" stdout P ",
        (StreamName::Stderr, Tag::Full) => b" stderr F ",
        (StreamName::Stderr, Tag::Partial) => b" stderr P ",
    };
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..TIMESTAMP_BYTES].copy_from_slice(time.as_bytes());
    prefix[TIMESTAMP_BYTES..].copy_from_slice(label);
    prefix
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn logged(pieces: &[Piece<'_>], stream: StreamName) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        let mut file = LogFile::open(path.clone(), None).unwrap();
        let mut text = Box::new([0; BATCH_BYTES]);
        let mut batch = Batch::new(&mut text, &mut file, Timestamp::at(Duration::from_secs(1)), stream);
        for piece in pieces {
            batch.add(*piece);
        }
        batch.finish();
        std::fs::read(path).unwrap()
    }

    #[test]
    fn a_line_is_time_stream_tag_and_content() {
        let pieces = [
            Piece { tag: Tag::Full, held: b"he", new: b"llo" },
            Piece { tag: Tag::Partial, held: b"", new: b"\0\xff" },
        ];
        assert_eq!(
            logged(&pieces, StreamName::Stderr),
            b"1970-01-01T00:00:01.000000000Z stderr F hello\n1970-01-01T00:00:01.000000000Z stderr P \0\xff\n"
        );
    }

    #[test]
    fn more_than_a_batch_is_written_in_order() {
        let numbers: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
        let pieces: Vec<Piece<'_>> =
            numbers.iter().map(|text| Piece { tag: Tag::Full, held: b"", new: text.as_bytes() }).collect();
        let text = String::from_utf8(logged(&pieces, StreamName::Stdout)).unwrap();
        let read: Vec<&str> = text.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
        assert_eq!(read, numbers);
    }

    #[test]
    fn a_line_of_any_length_is_copied_whole() {
        let line: Vec<u8> = (0..300_u32).map(|number| (number % 251) as u8).collect();
        for length in 0..line.len() {
            let mut copy = vec![0xff; length];
            copy_line(&mut copy, &line[..length]);
            assert_eq!(copy, line[..length]);
        }
    }

    #[test]
    fn the_longest_lines_fit() {
        let (held, new) = (vec![b'a'; 6_000], vec![b'b'; MAX_PIECE_BYTES - 6_000]);
        let pieces = [Piece { tag: Tag::Partial, held: &held, new: &new }; 30];
        assert_eq!(logged(&pieces, StreamName::Stdout).len(), 30 * (PREFIX_BYTES + MAX_PIECE_BYTES + 1));
    }
}
