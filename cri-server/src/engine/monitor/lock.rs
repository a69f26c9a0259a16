//! The lock that tells whether a monitor lives, whoever launched it.
//!
//! What a monitor says on its standard error goes to a file in its state folder. The daemon locks that file (flock(2))
//! before it executes the monitor and then closes it. Such a lock belongs to the open file, which only the monitor and
//! the runtime's processes that it forks have from then on: it is held for exactly as long as one of them lives. A daemon
//! that finds the folder of another one's launch can so tell when that is over, at whatever step it was.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Name of the file in a monitor's state folder that takes its complaints, and its lock.
const COMPLAINTS: &str = "monitor.log";

/// How often the lock is tried: no event tells of it. Most monitors end within the first.
const TRY_AGAIN: [Duration; 2] = [Duration::from_micros(200), Duration::from_millis(10)];

/// The file that takes the complaints of the monitor in `state_dir`.
pub(super) fn complaints(state_dir: &Path) -> PathBuf {
    state_dir.join(COMPLAINTS)
}

/// The file that a new monitor in `state_dir` gets as its standard error, locked.
pub(super) fn take(state_dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(state_dir.join(COMPLAINTS))?;
    file.try_lock()?;
    Ok(file)
}

/// Waits until no monitor of `state_dir` lives, at most `limit`; whether that is so. Blocks.
pub(super) fn wait_until_free(state_dir: &Path, limit: Duration) -> io::Result<bool> {
    let file = match File::open(state_dir.join(COMPLAINTS)) {
        // Nobody was launched there.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        opened => opened?,
    };
    let deadline = Instant::now() + limit;
    let [mut pause, longest] = TRY_AGAIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(false),
            Err(TryLockError::WouldBlock) => sleep(pause),
        }
        pause = longest.min(pause * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// More than any test takes.
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn the_lock_is_the_monitors_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let file = take(folder.path()).unwrap();
        let mut monitor = Command::new("cat").stdin(Stdio::piped()).stderr(file).spawn().unwrap();
        assert!(!wait_until_free(folder.path(), Duration::ZERO).unwrap());
        assert_eq!(take(folder.path()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(monitor.stdin.take());
        assert!(wait_until_free(folder.path(), LONG).unwrap());
        monitor.wait().unwrap();
    }

    #[test]
    fn a_folder_without_a_monitor_is_free() {
        let folder = tempfile::tempdir().unwrap();
        assert!(wait_until_free(folder.path(), Duration::ZERO).unwrap());
        assert!(wait_until_free(&folder.path().join("absent"), Duration::ZERO).unwrap());
        drop(take(folder.path()).unwrap());
        assert!(wait_until_free(folder.path(), Duration::ZERO).unwrap());
    }
}
