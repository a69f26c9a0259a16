//! Pipes between the daemon and a process, or a container's monitor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::fcntl_setpipe_size;

/// Room asked for, in bytes: a process that prints much and a daemon that reads much take turns less often. An
/// unprivileged user's limit on all pipes may refuse it; the kernel's 64 KiB then have to do.
const PIPE_BYTES: usize = 256 << 10;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// To the process.
    In,
    /// From the process.
    Out,
}

/// Both ends.
#[derive(Debug)]
pub(super) struct Pipe {
    /// The daemon's, which does not block.
    pub ours: OwnedFd,
    /// The process's, which blocks as every program expects.
    pub theirs: OwnedFd,
}

impl Pipe {
    /// A pipe with more room than usual.
    pub(super) fn new(flow: Flow) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        match fcntl_setpipe_size(&reader, PIPE_BYTES) {
            Ok(_) | Err(Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        let pipe = match flow {
            Flow::In => Self { ours: writer, theirs: reader },
            Flow::Out => Self { ours: reader, theirs: writer },
        };
        set_nonblocking(&pipe.ours)?;
        Ok(pipe)
    }
}

/// Of this end alone: each end of a pipe, and each side of a terminal, has flags of its own.
pub(super) fn set_nonblocking(end: impl AsFd) -> io::Result<()> {
    Ok(ioctl_fionbio(end, true)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn bytes_flow_the_right_way_and_only_our_end_does_not_block() {
        for flow in [Flow::In, Flow::Out] {
            let pipe = Pipe::new(flow).unwrap();
            let nonblocking =
                |end: &OwnedFd| rustix::fs::fcntl_getfl(end).unwrap().contains(rustix::fs::OFlags::NONBLOCK);
            assert!(nonblocking(&pipe.ours) && !nonblocking(&pipe.theirs));
            let (source, sink) = match flow {
                Flow::In => (pipe.ours, pipe.theirs),
                Flow::Out => (pipe.theirs, pipe.ours),
            };
            std::fs::File::from(source).write_all(b"x").unwrap();
            let mut read = Vec::new();
            std::fs::File::from(sink).read_to_end(&mut read).unwrap();
            assert_eq!(read, b"x");
        }
    }
}
