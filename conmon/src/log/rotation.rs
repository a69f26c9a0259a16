//! Rotating a log by its size: which lines still go into a file, and the names that older files move to.
//!
//! A file only ever moves to the next higher number, the highest first. Who opens the files from the lowest number to the
//! highest therefore misses none that is kept, whatever moves meanwhile.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use memchr::memchr;

/// How many bytes of `lines` still go into a file that has `room` before it is full: up to the end of the line that
/// fills it.
pub(super) fn taken(lines: &[u8], room: u64) -> usize {
    let filled = usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(1);
    let rest = lines.get(filled..).unwrap_or_default();
    memchr(b'\n', rest).map_or(lines.len(), |newline| filled + newline + 1)
}

/// Moves the file at `path`, and those before it, out of the way, so that at most `files` are there with a new one: the
/// oldest goes where there are more.
///
/// # Errors
/// When one cannot be moved; some may have been.
pub(super) fn make_room(path: &Path, files: u32) -> io::Result<()> {
    if files <= 1 {
        return fs::remove_file(path);
    }
    let highest = files - 1;
    let is_free = |number: &u32| fs::symlink_metadata(older(path, *number)).is_err();
    let free = (1..highest).find(is_free).unwrap_or(highest);
    for number in (1..free).rev() {
        fs::rename(older(path, number), older(path, number + 1))?;
    }
    fs::rename(path, older(path, 1))
}

/// The name of the file that was rotated `number` times.
fn older(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_takes_whole_lines_until_it_is_full() {
        let table: [(&[u8], u64, usize); 7] = [
            (b"a\nb\n", 100, 4),
            (b"a\nb\n", 4, 4),
            (b"a\nb\n", 3, 4),
            (b"a\nb\n", 2, 2),
            (b"a\nb\n", 1, 2),
            (b"a\nb\n", 0, 2),
            (b"long\n", 2, 5),
        ];
        for (lines, room, bytes) in table {
            assert_eq!(taken(lines, room), bytes, "{lines:?} {room}");
        }
    }

    #[test]
    fn older_files_move_up_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let names = || {
            let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
            let mut all: Vec<_> = entries
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    format!("{name}={}", fs::read_to_string(entry.path()).unwrap())
                })
                .collect();
            all.sort();
            all.join(" ")
        };
        for (text, expected) in [("1", "log.1=1"), ("2", "log.1=2 log.2=1"), ("3", "log.1=3 log.2=2")] {
            fs::write(&path, text).unwrap();
            make_room(&path, 3).unwrap();
            assert_eq!(names(), expected);
        }
        fs::write(&path, "4").unwrap();
        make_room(&path, 1).unwrap();
        assert_eq!(names(), "log.1=3 log.2=2");
        assert!(make_room(&path, 3).is_err());
    }
}
