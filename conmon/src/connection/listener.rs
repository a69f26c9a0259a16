//! The monitor's own socket, and who may speak to it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use cleat_conmon_proto::SOCKET_NAME;
use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::geteuid;

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenerError {
    #[error("listen on {SOCKET_NAME} in the state folder")]
    Bind(#[source] io::Error),
}

/// The listening socket; its name leaves the folder with it.
pub(crate) struct Listener {
    socket: UnixListener,
    folder: OwnedFd,
}

impl Listener {
    /// Listens on [`SOCKET_NAME`] in `folder`. A name that a monitor which was killed left there is replaced; that no two
    /// monitors run for one container is the daemon's care.
    pub(crate) fn bind(folder: OwnedFd) -> Result<Self, ListenerError> {
        unlink(folder.as_fd()).map_err(|errno| ListenerError::Bind(errno.into()))?;
        // By way of the descriptor, since a socket's address ends after 108 bytes wherever the folder lies.
        let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET_NAME}", folder.as_raw_fd()));
        let socket = UnixListener::bind(path).map_err(ListenerError::Bind)?;
        socket.set_nonblocking(true).map_err(ListenerError::Bind)?;
        Ok(Self { socket, folder })
    }

    /// The next client that waits, if there is one and it may be here.
    pub(crate) fn accept(&self) -> io::Result<Option<UnixStream>> {
        loop {
            match self.socket.accept() {
                Ok((client, _)) if is_own_user(&client)? => {
                    client.set_nonblocking(true)?;
                    return Ok(Some(client));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // The client gave up while it waited.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(errno) = unlink(self.folder.as_fd()) {
            crate::complaint::complain(format_args!("remove {SOCKET_NAME}: {errno}"));
        }
    }
}

fn unlink(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    match unlinkat(folder, SOCKET_NAME, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// The folder's mode keeps others out already; this holds where somebody has widened it.
fn is_own_user(client: &UnixStream) -> io::Result<bool> {
    Ok(socket_peercred(client)?.uid == geteuid())
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn accepts_its_own_user_and_takes_its_name_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET_NAME);
        std::fs::write(&path, "left behind").unwrap();
        let listener = Listener::bind(File::open(folder.path()).unwrap().into()).unwrap();
        assert!(listener.accept().unwrap().is_none());
        let _client = UnixStream::connect(&path).unwrap();
        assert!(listener.accept().unwrap().is_some());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_deeper_than_a_socket_address_serves() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("x".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let listener = Listener::bind(File::open(&deep).unwrap().into()).unwrap();
        assert!(deep.join(SOCKET_NAME).exists());
        drop(listener);
    }
}
