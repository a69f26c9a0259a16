//! `pause` and `resume`.

use std::time::Duration;

use super::CommandError;
use super::arguments::{Arguments, Global};
use super::store::{Folder, Record, Status};

/// How long processes may take to stand still: as long as their longest uninterruptible operation.
const PAUSE_PATIENCE: Duration = Duration::from_secs(10);

/// `pause`.
pub(super) fn pause(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let record = in_status(arguments, global, &[Status::Created, Status::Running], "created or running")?;
    let cgroup = record.open_cgroup()?;
    if cgroup.pause(PAUSE_PATIENCE)? {
        return Ok(());
    }
    cgroup.resume()?;
    Err(CommandError::System("wait for the processes to stand still", std::io::ErrorKind::TimedOut.into()))
}

/// `resume`.
pub(super) fn resume(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let record = in_status(arguments, global, &[Status::Paused], "paused")?;
    Ok(record.open_cgroup()?.resume()?)
}

fn in_status(
    arguments: &mut Arguments,
    global: &Global,
    allowed: &[Status],
    wanted: &'static str,
) -> Result<Record, CommandError> {
    let id = arguments.only_id()?;
    let folder = Folder::open(&global.root, &id)?;
    let record = folder.read()?;
    let status = folder.status(&record);
    if allowed.contains(&status) {
        return Ok(record);
    }
    Err(CommandError::Status { id, status: status.name(), wanted })
}
