//! Regular files.

use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::io::{Errno, pwrite, retry_on_intr};

use super::error::UnpackError;
use super::tar::{Archive, Entry, Segment};

/// So many zeros in a row that come as one piece become a hole: a gigabyte of them costs neither disk nor time.
const HOLE_BYTES: usize = 64 << 10;

/// A new file, open for writing; EEXIST if the name is taken. Of `mode` it gets as much as can be given before its owner is
/// known and as this process's mask allows.
pub(super) fn create(parent: &OwnedFd, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::from_raw_mode(mode & 0o777))
}

/// Write the entry's data to `created`, straight from the stream's buffer.
pub(super) fn fill<R: BufRead, S: Write>(
    created: &OwnedFd,
    entry: &Entry,
    archive: &mut Archive<R, S>,
    path: &[u8],
) -> Result<(), UnpackError> {
    let whole = [Segment { offset: 0, length: entry.size }];
    let mut ends_in_hole = entry.segments.is_some();
    for segment in entry.segments.as_deref().unwrap_or(&whole) {
        let mut at = segment.offset;
        let end = segment.offset + segment.length;
        while at < end {
            let data = archive.data().map_err(UnpackError::tar)?;
            let length = usize::try_from(end - at).map_or(data.len(), |left| left.min(data.len()));
            let data = &data[..length];
            let written = if is_hole(data) {
                ends_in_hole = true;
                length
            } else {
                retry_on_intr(|| pwrite(created, data, at))
                    .map_err(|error| UnpackError::io("write to", path, error))?
            };
            archive.consume(written);
            at += written as u64;
        }
    }
    if ends_in_hole {
        ftruncate(created, entry.size).map_err(|error| UnpackError::io("set the size of", path, error))?;
    }
    Ok(())
}

/// Whether `data` is long and all zeros: each byte is the one before it, which is a comparison of memory.
fn is_hole(data: &[u8]) -> bool {
    data.len() >= HOLE_BYTES && data[0] == 0 && data[1..] == data[..data.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_runs_of_nothing_but_zeros_are_holes() {
        let zeros = vec![0; HOLE_BYTES];
        assert!(is_hole(&zeros));
        assert!(!is_hole(&zeros[1..]), "a hole of less than that gains nothing");
        for at in [0, 1, HOLE_BYTES / 2, HOLE_BYTES - 1] {
            let mut data = zeros.clone();
            data[at] = 1;
            assert!(!is_hole(&data), "{at}");
        }
        assert!(!is_hole(&vec![7; HOLE_BYTES]));
    }
}
