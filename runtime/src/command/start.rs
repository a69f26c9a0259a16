//! `start`.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use cleat_runtime::Failure;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};

use super::arguments::{Arguments, Global};
use super::store::{Folder, Status};
use super::{CommandError, hooks};

/// `start`.
pub(super) fn command(arguments: &mut Arguments, global: &Global) -> Result<(), CommandError> {
    let id = arguments.only_id()?;
    let folder = Folder::open(&global.root, &id)?;
    let record = folder.read()?;
    let status = folder.status(&record);
    if status != Status::Created {
        return Err(CommandError::Status { id, status: status.name(), wanted: "created" });
    }
    let init = record.init().ok_or(CommandError::Absent(id))?;
    let fifo = folder.fifo();
    let text = pass(&fifo, &init).map_err(CommandError::file("open the gate", &fifo))?;
    fs::remove_file(&fifo).map_err(CommandError::file("remove", &fifo))?;
    match text.as_slice() {
        b"0" => hooks::after_start(&record, || record.kill()),
        [b'0', failure @ ..] => Err(serde_json::from_slice::<Failure>(failure)
            .map_or_else(|source| CommandError::Json { path: fifo, source }, CommandError::Runtime)),
        _ => Err(CommandError::Status { id: record.id, status: "stopped", wanted: "created" }),
    }
}

/// Opens the reading end, which lets init go on, and reads to the end: init's writing end closes when it executes its
/// program. Opened without waiting, so that an init that has ended meanwhile does not block this forever.
fn pass(fifo: &Path, init: &std::os::fd::OwnedFd) -> std::io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let reader = rustix::fs::open(fifo, flags, Mode::empty())?;
    let mut ready = [PollFd::new(&reader, PollFlags::IN), PollFd::new(init, PollFlags::IN)];
    while poll(&mut ready, None) == Err(rustix::io::Errno::INTR) {}
    rustix::io::ioctl_fionbio(&reader, false)?;
    let mut text = Vec::new();
    File::from(reader).read_to_end(&mut text)?;
    Ok(text)
}
