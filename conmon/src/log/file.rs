//! The log file: appended to by this process alone, opened anew after a rotation, its own or another's, and never a
//! reason to stall.

use std::error::Error as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use cleat_conmon_proto::Rotation;
use memchr::memrchr;
use rustix::fs::OFlags;

use super::rotation::{make_room, taken};
use crate::complaint::complain;

/// Readable by the owner and the group, which node agents that ship logs are given.
const MODE: u32 = 0o640;

/// The log file could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("open log file {path}")]
    Open { path: PathBuf, source: io::Error },
    #[error("log file {0} is not a regular file")]
    NotRegular(PathBuf),
    #[error("rotate log file {path}")]
    Rotate { path: PathBuf, source: io::Error },
}

/// An open log file and the name it has to be opened by again.
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    rotation: Option<Rotation>,
    /// What the file has, as far as its rotation has to know.
    bytes: u64,
    /// Writes that failed since the last one that worked; complained of once.
    failed_writes: u64,
    /// Whether the last rotation failed, which was complained of.
    is_stuck: bool,
}

impl LogFile {
    /// Opens the file at `path`, creating it where it is missing.
    pub(crate) fn open(path: PathBuf, rotation: Option<Rotation>) -> Result<Self, LogError> {
        let (file, bytes) = open(&path)?;
        Ok(Self { path, file, rotation, bytes, failed_writes: 0, is_stuck: false })
    }

    /// Opens the file anew by its name. On failure the old one stays in use, and no new one was made.
    pub(crate) fn reopen(&mut self) -> Result<(), LogError> {
        (self.file, self.bytes) = open(&self.path)?;
        Ok(())
    }

    /// Appends `lines`, which end with a newline. What cannot be written (a full disk) is lost: a container must neither
    /// stall nor end because of its log.
    pub(crate) fn append(&mut self, lines: &[u8]) {
        let Some(rotation) = self.rotation else { return self.write(lines) };
        let mut rest = lines;
        while !rest.is_empty() {
            if self.bytes >= rotation.max_bytes {
                self.rotate(rotation.files);
            }
            let (now, later) = rest.split_at(taken(rest, rotation.max_bytes.saturating_sub(self.bytes)));
            self.write(now);
            rest = later;
        }
    }

    /// Begins another file. Where that fails the old one grows on.
    fn rotate(&mut self, files: u32) {
        let rotated = make_room(&self.path, files)
            .map_err(|source| LogError::Rotate { path: self.path.clone(), source })
            .and_then(|()| self.reopen());
        match rotated {
            Ok(()) => self.is_stuck = false,
            Err(error) if !self.is_stuck => {
                complain(format_args!("{error}; it grows beyond its limit: {:?}", error.source()));
                self.is_stuck = true;
            }
            Err(_) => {}
        }
    }

    fn write(&mut self, lines: &[u8]) {
        match write_lines(&mut self.file, lines) {
            Ok(()) => {
                self.bytes += lines.len() as u64;
                self.note_success();
            }
            Err(error) => self.note_failure(&error),
        }
    }

    fn note_success(&mut self) {
        if self.failed_writes > 0 {
            complain(format_args!(
                "log file {}: writable again, {} writes were lost",
                self.path.display(),
                self.failed_writes
            ));
            self.failed_writes = 0;
        }
    }

    fn note_failure(&mut self, error: &io::Error) {
        if self.failed_writes == 0 {
            complain(format_args!(
                "write log file {}: {error}; output is lost until it can be written",
                self.path.display()
            ));
        }
        self.failed_writes += 1;
    }
}

/// The file, and how many bytes it has.
fn open(path: &PathBuf) -> Result<(File, u64), LogError> {
    // The folder may be reachable by a container (a host path volume): neither a link nor a FIFO in the file's place
    // may lead or block the monitor.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(MODE)
        .custom_flags(flags.bits() as i32)
        .open(path)
        .map_err(|source| LogError::Open { path: path.clone(), source })?;
    match file.metadata() {
        Ok(metadata) if metadata.is_file() => Ok((file, metadata.len())),
        Ok(_) => Err(LogError::NotRegular(path.clone())),
        Err(source) => Err(LogError::Open { path: path.clone(), source }),
    }
}

/// Writes all of `lines`; where that fails half-way through a line, takes that line's beginning back, so that a reader
/// never takes it for a whole one.
fn write_lines(file: &mut File, lines: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < lines.len() {
        match file.write(&lines[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                take_back(file, torn_bytes(&lines[..written]))?;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// How much of a line that was not finished stands at the end of `written`.
fn torn_bytes(written: &[u8]) -> u64 {
    let whole = memrchr(b'\n', written).map_or(0, |newline| newline + 1);
    (written.len() - whole) as u64
}

fn take_back(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    file.set_len(file.metadata()?.len().saturating_sub(bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn appends_and_reopens_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.log");
        fs::write(&path, "before\n").unwrap();
        let mut log = LogFile::open(path.clone(), None).unwrap();
        log.append(b"one\n");
        fs::rename(&path, folder.path().join("rotated")).unwrap();
        log.append(b"two\n");
        log.reopen().unwrap();
        log.append(b"three\n");
        assert_eq!(fs::read(folder.path().join("rotated")).unwrap(), b"before\none\ntwo\n");
        assert_eq!(fs::read(&path).unwrap(), b"three\n");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o137, 0, "no access beyond 0640");
    }

    #[test]
    fn a_failed_reopen_leaves_the_old_file_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("0.log");
        fs::create_dir(path.parent().unwrap()).unwrap();
        let mut log = LogFile::open(path.clone(), None).unwrap();
        fs::rename(path.parent().unwrap(), folder.path().join("moved")).unwrap();
        let error = log.reopen().unwrap_err();
        assert!(matches!(error, LogError::Open { source, .. } if source.kind() == io::ErrorKind::NotFound));
        log.append(b"still here\n");
        assert_eq!(fs::read(folder.path().join("moved").join("0.log")).unwrap(), b"still here\n");
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let link = folder.path().join("link");
        symlink(&target, &link).unwrap();
        assert!(matches!(LogFile::open(link, None), Err(LogError::Open { .. })));
        assert!(!target.exists());
        assert!(matches!(LogFile::open(PathBuf::from("/dev/null"), None), Err(LogError::NotRegular(_))));
    }

    /// No line is lost or cut, and a file ends with the line that reached the limit.
    #[test]
    fn lines_go_on_in_another_file_where_one_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let rotation = Some(Rotation { max_bytes: 6, files: 3 });
        let mut log = LogFile::open(path.clone(), rotation).unwrap();
        log.append(b"1\n2\n3\n4\n5\n");
        log.append(b"a long line\n");
        drop(log);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!((read("log.1"), read("log")), ("1\n2\n3\n".into(), "4\n5\na long line\n".into()));
        // Its size is known to the next monitor, too.
        let mut log = LogFile::open(path, rotation).unwrap();
        log.append(b"6\n");
        assert_eq!((read("log.2"), read("log")), ("1\n2\n3\n".into(), "6\n".into()));
        log.append(b"7\n8\n9\n");
        assert_eq!((read("log.2"), read("log.1")), ("4\n5\na long line\n".into(), "6\n7\n8\n".into()));
        assert_eq!((read("log"), fs::read_dir(folder.path()).unwrap().count()), ("9\n".into(), 3));
    }

    #[test]
    fn the_torn_end_is_what_follows_the_last_newline() {
        let table: [(&[u8], u64); 5] = [(b"", 0), (b"a\n", 0), (b"a\nb", 1), (b"abc", 3), (b"a\n\nbc", 2)];
        for (written, torn) in table {
            assert_eq!(torn_bytes(written), torn);
        }
    }
}
