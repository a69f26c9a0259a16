//! Regular files.

use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ftruncate, openat};
use rustix::io::{Errno, pwrite, retry_on_intr};

use super::error::UnpackError;
use super::tar::{Archive, Entry, Segment};

/// A new file, open for writing; EEXIST if the name is taken.
pub(super) fn create(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::RUSR | Mode::WUSR)
}

/// Write the entry's data to `created`, straight from the stream's buffer.
pub(super) fn fill<R: BufRead, S: Write>(
    created: &OwnedFd,
    entry: &Entry,
    archive: &mut Archive<R, S>,
    path: &[u8],
) -> Result<(), UnpackError> {
    let whole = [Segment { offset: 0, length: entry.size }];
    for segment in entry.segments.as_deref().unwrap_or(&whole) {
        let mut at = segment.offset;
        let end = segment.offset + segment.length;
        while at < end {
            let data = archive.data().map_err(UnpackError::tar)?;
            let length = usize::try_from(end - at).map_or(data.len(), |left| left.min(data.len()));
            let written = retry_on_intr(|| pwrite(created, &data[..length], at))
                .map_err(|error| UnpackError::io("write to", path, error))?;
            archive.consume(written);
            at += written as u64;
        }
    }
    if entry.segments.is_some() {
        ftruncate(created, entry.size).map_err(|error| UnpackError::io("set the size of", path, error))?;
    }
    Ok(())
}
