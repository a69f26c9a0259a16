//! What a process prints on its way into a connection: moved by the kernel where it can be, else copied.
//!
//! A frame's header tells its length, and what is in a process's pipe may be taken back by the process, which can open its
//! end through /proc. So pages move from there into a pipe of our own first, and from that into the socket (splice(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::wire::{HEADROOM, Wire};

/// Most bytes of a frame. Larger ones only cost clients memory: theirs are allocated for each frame.
const FRAME_BYTES: usize = 128 * 1024;

/// A pipe of our own.
pub(crate) struct Stage {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Stage {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        match fcntl_setpipe_size(&writer, FRAME_BYTES) {
            // An unprivileged user's limit on all pipes; less room has to do.
            Ok(_) | Err(Errno::PERM) => Ok(Self { reader, writer }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes what is in a pipe; 0 at its end.
    fn take(&self, from: BorrowedFd<'_>) -> Result<usize, Errno> {
        splice(from, None, &self.writer, None, FRAME_BYTES, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)
    }

    /// Moves up to `length` of the bytes taken into a socket.
    pub(crate) fn give(&self, to: BorrowedFd<'_>, length: usize) -> io::Result<usize> {
        Ok(splice(&self.reader, None, to, None, length, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
    }
}

/// How a stream's bytes go.
pub(crate) enum Source {
    /// From pipe to socket, without passing through here.
    Moved(Stage),
    /// Through a buffer: a terminal, or a connection that is no socket.
    Copied(Vec<u8>),
}

impl Source {
    pub(crate) fn new(wire: &Wire) -> io::Result<Self> {
        if wire.is_socket() { Ok(Self::Moved(Stage::new()?)) } else { Ok(Self::copied()) }
    }

    fn copied() -> Self {
        Self::Copied(vec![0; HEADROOM + FRAME_BYTES])
    }

    /// Takes what there is; 0 is the end.
    pub(crate) fn take(&mut self, from: &OwnedFd) -> io::Result<usize> {
        loop {
            let taken = match self {
                Self::Moved(stage) => stage.take(from.as_fd()),
                Self::Copied(buffer) => rustix::io::read(from, &mut buffer[HEADROOM..]),
            };
            match taken {
                Err(Errno::INTR) => {}
                // The master of a terminal that nobody holds.
                Err(Errno::IO) => return Ok(0),
                Err(Errno::INVAL) if matches!(self, Self::Moved(_)) => *self = Self::copied(),
                taken => return Ok(taken?),
            }
        }
    }

    /// Sends the `length` bytes just taken.
    pub(crate) async fn send(&mut self, wire: &Wire, channel: u32, length: usize) -> io::Result<()> {
        match self {
            Self::Moved(stage) => wire.send_staged(channel, stage, length).await,
            Self::Copied(buffer) => wire.send(channel, &mut buffer[..HEADROOM + length]).await,
        }
    }
}
