//! A container's log as one: the file that is written to and those that were rotated away from it, the oldest first.
//!
//! The monitor moves a file only to the next higher number, the highest first, and then makes a new one. So the files are
//! opened from the lowest number on: one that moves meanwhile is found twice, never missed.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes read at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// Bytes read at a time where the last lines are looked for.
const BLOCK_BYTES: u64 = 64 << 10;

/// Which file it is, whatever it is called: device and inode, which no other has while it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity(u64, u64);

/// A log that is read line by line while it is written and rotated.
pub(super) struct LogFiles {
    path: PathBuf,
    /// How many there are at most.
    files: u32,
    current: Option<(Identity, BufReader<File>)>,
    /// What comes after it.
    newer: VecDeque<(Identity, File)>,
}

impl LogFiles {
    /// Opens the log, of which there are at most `files` files, at the first line of its last `tail`. Nothing may ever
    /// have been written.
    pub(super) fn open(path: &Path, files: u32, tail: Option<u64>) -> io::Result<Self> {
        let mut log = Self { path: path.to_owned(), files, current: None, newer: VecDeque::new() };
        log.newer = log.found_after(None)?;
        if let Some(lines) = tail {
            log.skip_to_last(lines)?;
        }
        Ok(log)
    }

    /// Reads the next line, without its newline, in place of what is in `line`; false at the end of what there is. A line
    /// that is being written is read when it is whole.
    pub(super) fn next_line(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            line.clear();
            if let Some((_, current)) = &mut self.current {
                current.read_until(b'\n', line)?;
                if line.pop_if(|last| *last == b'\n').is_some() {
                    return Ok(true);
                }
                current.seek_relative(-i64::try_from(line.len()).unwrap_or(i64::MAX))?;
            }
            if let Some((identity, next)) = self.newer.pop_front() {
                self.current = Some((identity, BufReader::with_capacity(BUFFER_BYTES, next)));
                continue;
            }
            // Where there is a newer file, the current one is complete: it is read to its end once more, then left.
            self.newer = self.found_after(self.current.as_ref().map(|(identity, _)| *identity))?;
            if self.newer.is_empty() {
                return Ok(false);
            }
        }
    }

    /// The files that are newer than the one that is `known`, or all: the oldest first.
    fn found_after(&self, known: Option<Identity>) -> io::Result<VecDeque<(Identity, File)>> {
        let mut found: VecDeque<(Identity, File)> = VecDeque::new();
        for number in 0..self.files {
            let file = match File::open(self.name(number)) {
                Ok(file) => file,
                // It is just being moved, or never was.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let metadata = file.metadata()?;
            let identity = Identity(metadata.dev(), metadata.ino());
            if known == Some(identity) {
                break;
            }
            if found.iter().all(|(other, _)| *other != identity) {
                found.push_front((identity, file));
            }
        }
        Ok(found)
    }

    /// The name of the file that was rotated `number` times.
    fn name(&self, number: u32) -> PathBuf {
        if number == 0 {
            return self.path.clone();
        }
        let mut name = self.path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        name.into()
    }

    /// Goes to where the last `lines` lines begin.
    fn skip_to_last(&mut self, lines: u64) -> io::Result<()> {
        let mut missing = lines;
        let mut first = self.newer.len();
        while first > 0 && (missing > 0 || first == self.newer.len()) {
            first -= 1;
            let file = &mut self.newer[first].1;
            let (start, found) = start_of_last(file, missing)?;
            file.seek(SeekFrom::Start(start))?;
            missing -= found;
        }
        self.newer.drain(..first);
        Ok(())
    }
}

/// Where the last `lines` lines begin, and how many there are up to that many.
fn start_of_last(file: &mut File, lines: u64) -> io::Result<(u64, u64)> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if lines == 0 || end == 0 {
        return Ok((end, 0));
    }
    // The newline that ends the last line begins no other.
    let (mut found, last) = (0, end - 1);
    while end > 0 {
        let start = end.saturating_sub(BLOCK_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        Read::take(&mut *file, end - start).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let place = start + at as u64;
            if place < last {
                found += 1;
                if found == lines {
                    return Ok((place + 1, found));
                }
            }
        }
        end = start;
    }
    // The first line has no newline before it.
    Ok((0, found + 1))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn rest(log: &mut LogFiles) -> String {
        let (mut all, mut line) = (Vec::new(), Vec::new());
        while log.next_line(&mut line).unwrap() {
            all.push(String::from_utf8(line.clone()).unwrap());
        }
        all.join(" ")
    }

    #[test]
    fn the_last_lines_are_found_from_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        assert_eq!(start_of_last(&mut file, 3).unwrap(), (0, 0));
        let long = "x".repeat(usize::try_from(BLOCK_BYTES).unwrap() + 5);
        write!(file, "1\n2\n{long}\n4\n").unwrap();
        let length = long.len() as u64;
        for (lines, start, found) in
            [(0, length + 7, 0), (1, length + 5, 1), (2, 4, 2), (3, 2, 3), (4, 0, 4), (9, 0, 4)]
        {
            assert_eq!(start_of_last(&mut file, lines).unwrap(), (start, found), "{lines}");
        }
    }

    #[test]
    fn rotated_files_are_read_as_one_from_any_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for (name, text) in [("log.2", "1\n2\n"), ("log.1", "3\n"), ("log", "4\n5\nunfinished")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        for (tail, expected) in [
            (None, "1 2 3 4 5"),
            (Some(9), "1 2 3 4 5"),
            (Some(4), "3 4 5"),
            (Some(5), "2 3 4 5"),
            (Some(0), ""),
        ] {
            // The unfinished line counts as one, as it will be.
            assert_eq!(rest(&mut LogFiles::open(&path, 3, tail).unwrap()), expected, "{tail:?}");
        }
        // Only as many as there may be.
        assert_eq!(rest(&mut LogFiles::open(&path, 1, None).unwrap()), "4 5");
    }

    #[test]
    fn a_reader_follows_rotations_and_misses_no_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotate = |text: &str| {
            for number in [2, 1] {
                let name = |number: u32| folder.path().join(format!("log.{number}"));
                if name(number).exists() {
                    fs::rename(name(number), name(number + 1)).unwrap();
                }
            }
            fs::rename(&path, folder.path().join("log.1")).unwrap();
            fs::write(&path, text).unwrap();
        };
        let mut log = LogFiles::open(&path, 4, None).unwrap();
        assert_eq!(rest(&mut log), "");
        fs::write(&path, "1\n").unwrap();
        assert_eq!(rest(&mut log), "1");
        fs::write(&path, "1\n2\n").unwrap();
        rotate("3\n");
        rotate("4\n");
        assert_eq!(rest(&mut log), "2 3 4");
        // The one that is read may be gone meanwhile: what is left is read.
        for text in ["5\n", "6\n", "7\n", "8\n", "9\n"] {
            rotate(text);
        }
        fs::remove_file(folder.path().join("log.3")).unwrap();
        assert_eq!(rest(&mut log), "7 8 9");
    }
}
