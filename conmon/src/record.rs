//! The exit record: whole or not there, whenever this process or the daemon dies.
//!
//! It is not synced: the state folder need not survive a reboot, and after a power cut every container has ended anyway.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;

use cleat_conmon_proto::{EXIT_RECORD_NAME, ExitRecord};
use rustix::fs::{Mode, OFlags, openat, renameat};

/// The record's name until it is complete.
const DRAFT_NAME: &str = "exit.json.draft";

/// The exit record could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("encode the exit record")]
    Encode(#[source] serde_json::Error),
    #[error("write {DRAFT_NAME} in the state folder")]
    Write(#[source] io::Error),
    #[error("rename {DRAFT_NAME} to {EXIT_RECORD_NAME} in the state folder")]
    Publish(#[source] io::Error),
}

impl RecordError {
    /// Whether the state folder was removed while it was held open: nothing can be made in it any more.
    pub(crate) fn is_for_want_of_the_folder(&self) -> bool {
        matches!(self, Self::Write(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Writes `record` to [`EXIT_RECORD_NAME`] in `folder`: data, then its name.
pub(crate) fn write_record(folder: BorrowedFd<'_>, record: &ExitRecord) -> Result<(), RecordError> {
    let json = serde_json::to_vec(record).map_err(RecordError::Encode)?;
    write_draft(folder, &json).map_err(RecordError::Write)?;
    renameat(folder, DRAFT_NAME, folder, EXIT_RECORD_NAME).map_err(|errno| RecordError::Publish(errno.into()))
}

fn write_draft(folder: BorrowedFd<'_>, json: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(folder, DRAFT_NAME, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(json)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use cleat_conmon_proto::{ExitStatus, VERSION};

    use super::*;

    #[test]
    fn a_record_reads_back_and_leaves_no_draft() {
        let folder = tempfile::tempdir().unwrap();
        let record = ExitRecord {
            version: VERSION,
            id: "c1".into(),
            pid: 12,
            status: ExitStatus::Signaled(9),
            oom_killed: true,
            started_at_ns: 1,
            finished_at_ns: 2,
        };
        let handle = File::open(folder.path()).unwrap();
        for _ in 0..2 {
            write_record(handle.as_fd(), &record).unwrap();
            let json = std::fs::read(folder.path().join(EXIT_RECORD_NAME)).unwrap();
            assert_eq!(serde_json::from_slice::<ExitRecord>(&json).unwrap(), record);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_folder_that_was_removed_is_told_from_other_failures() {
        let folder = tempfile::tempdir().unwrap();
        let handle = File::open(folder.path()).unwrap();
        let record = ExitRecord {
            version: VERSION,
            id: "c1".into(),
            pid: 12,
            status: ExitStatus::Exited(0),
            oom_killed: false,
            started_at_ns: 1,
            finished_at_ns: 2,
        };
        std::fs::create_dir(folder.path().join(DRAFT_NAME)).unwrap();
        assert!(!write_record(handle.as_fd(), &record).unwrap_err().is_for_want_of_the_folder());
        drop(folder);
        assert!(write_record(handle.as_fd(), &record).unwrap_err().is_for_want_of_the_folder());
    }
}
