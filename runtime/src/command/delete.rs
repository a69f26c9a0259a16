//! `delete`.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::arguments::{Arguments, Global, one_id, set};
use super::store::{Folder, Record, Status};
use super::{CommandError, hooks};

/// How long a killed container may take to end: the kernel is freeing its memory.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// `delete`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let mut force = false;
    let positional = arguments.each(None, |option| match option.name {
        "force" | "f" => set(&mut force),
        _ => Ok(false),
    })?;
    let id = one_id(positional)?;
    let folder = match Folder::open(&global.root, &id) {
        Err(CommandError::Absent(_)) if force => return Ok(()),
        other => other?,
    };
    let record = match folder.read() {
        // A creation that was interrupted.
        Err(_) if force => return folder.remove(),
        other => other?,
    };
    let status = folder.status(&record);
    if status != Status::Stopped && !force {
        return Err(CommandError::Status { id, status: status.name(), wanted: "stopped" });
    }
    remove(global, &folder, &record)
}

/// Ends what there is of a container and removes it.
pub(super) fn remove(global: &Global, folder: &Folder, record: &Record) -> Result<(), CommandError> {
    let cgroup = record.open_cgroup()?;
    record.kill()?;
    if let Some(init) = record.init() {
        await_end(&init)?;
    }
    if !cgroup.wait_empty(END_PATIENCE)? {
        return Err(CommandError::System("wait for the processes' end", std::io::ErrorKind::TimedOut.into()));
    }
    cleat_runtime::remove_cgroup(&cgroup)?;
    record.release()?;
    folder.remove()?;
    hooks::after_end(global, record);
    Ok(())
}

fn await_end(init: &OwnedFd) -> Result<(), CommandError> {
    let failed = |error| CommandError::System("wait for init's end", error);
    let timeout = Timespec::try_from(END_PATIENCE).map_err(|error| failed(std::io::Error::other(error)))?;
    match poll(&mut [PollFd::new(init, PollFlags::IN)], Some(&timeout)) {
        Ok(0) => Err(failed(std::io::ErrorKind::TimedOut.into())),
        Ok(_) => Ok(()),
        Err(errno) => Err(failed(errno.into())),
    }
}
