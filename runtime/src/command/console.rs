//! Handing a terminal's master side to who listens on `--console-socket`, a process to who does on `--pidfd-socket`.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::CommandError;

/// Connects to the socket and sends the master side of a terminal.
pub(super) fn send(socket: &Path, master: &OwnedFd) -> Result<(), CommandError> {
    // The bytes are a name for the descriptor, as runc sends it.
    send_descriptor(socket, b"/dev/ptmx", master).map_err(CommandError::file("send the terminal to", socket))
}

/// Connects to the socket and sends a pidfd.
pub(super) fn send_process(socket: &Path, pidfd: &OwnedFd) -> Result<(), CommandError> {
    send_descriptor(socket, b"pidfd", pidfd).map_err(CommandError::file("send the process to", socket))
}

fn send_descriptor(socket: &Path, name: &[u8], descriptor: &OwnedFd) -> std::io::Result<()> {
    let stream = UnixStream::connect(socket)?;
    cleat_sys::passing::send(&stream, name, &[descriptor.as_fd()]).map(drop)
}
