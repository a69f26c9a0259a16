//! Terminals: a new pair from a given devpts instance, window sizes, the controlling terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

/// Filesystem type of devpts, as statfs(2) tells it.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// A new terminal.
#[derive(Debug)]
pub struct Pty {
    /// The side that programs outside hold.
    pub master: OwnedFd,
    /// The side that the process gets as its standard streams.
    pub terminal: OwnedFd,
}

/// Opens a new terminal of the devpts instance whose root folder is `devpts`. The folder has to be the devpts itself
/// (`ENODEV` otherwise), so that nothing put in its place by a container is ever opened.
pub fn open(devpts: &impl AsFd) -> io::Result<Pty> {
    if rustix::fs::fstatfs(devpts)?.f_type != DEVPTS_MAGIC {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::openat2(devpts, c"ptmx", flags, Mode::empty(), resolve)?;
    rustix::pty::unlockpt(&master)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&master, peer)?;
    Ok(Pty { master, terminal })
}

/// Sets the size of the terminal on either side of a pair, in character cells.
pub fn set_size(terminal: &impl AsFd, height: u16, width: u16) -> io::Result<()> {
    let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(rustix::termios::tcsetwinsize(terminal, size)?)
}

/// The size of a terminal in character cells: height, width.
pub fn size(terminal: &impl AsFd) -> io::Result<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(terminal)?;
    Ok((size.ws_row, size.ws_col))
}

/// Makes `terminal` the controlling terminal of the calling session leader.
pub fn make_controlling(terminal: &impl AsFd) -> io::Result<()> {
    Ok(rustix::process::ioctl_tiocsctty(terminal)?)
}
