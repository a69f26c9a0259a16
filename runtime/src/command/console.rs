//! Handing a terminal's master side to who listens on `--console-socket`.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::CommandError;

/// Connects to the socket and sends the descriptor.
pub(super) fn send(socket: &Path, master: &OwnedFd) -> Result<(), CommandError> {
    let stream = UnixStream::connect(socket).map_err(CommandError::file("connect to", socket))?;
    // The bytes are a name for the descriptor, as runc sends it.
    cleat_sys::passing::send(&stream, b"/dev/ptmx", &[master.as_fd()])
        .map(|_| ())
        .map_err(CommandError::file("send the terminal to", socket))
}
