//! The container's standard streams: what init is given, and the ends that stay here.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cleat_conmon_proto::{Launch, Stdin};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::{Errno, read};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::attach::Outputs;
use crate::complaint::complain;
use crate::log::{BATCH_BYTES, Batch, LogError, LogFile, Splitter, StreamName, Timestamp};
use crate::poller::{Interest, Poller, Source};

/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;

/// Room asked for in each output pipe, in bytes: a writer is not stopped while the monitor is not scheduled. An
/// unprivileged user's limit on all pipes may refuse it; the kernel's 64 KiB then have to do.
pub(crate) const PIPE_BYTES: usize = 256 << 10;

/// Reads of one stream before the others and the clients have their turn.
const READS_PER_TURN: usize = 4;

/// Reads of one stream once the container has ended: more than the largest pipe holds, and an end for one that a process
/// elsewhere goes on filling.
const LAST_READS: usize = 32;

/// The most that comes from one stream once the container has ended, in bytes.
pub(crate) const LAST_BYTES: usize = LAST_READS * READ_BYTES;

/// What every stream shares, and what each holds: in the zeroed part of the program, whose pages cost nothing until they
/// are used.
struct Buffers {
    read: [u8; READ_BYTES],
    batch: [u8; BATCH_BYTES],
    stdout: Splitter,
    stderr: Splitter,
}

static BUFFERS: Mutex<Buffers> = Mutex::new(Buffers {
    read: [0; READ_BYTES],
    batch: [0; BATCH_BYTES],
    stdout: Splitter::new(),
    stderr: Splitter::new(),
});

/// The descriptors for init's standard input, output and error; closed here once init has them.
pub(crate) type InitEnds = [OwnedFd; 3];

/// Whether a stream may still have bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Open {
        /// How many were read.
        bytes: usize,
    },
    Ended,
}

/// One stream's end that stays here.
struct Stream {
    name: StreamName,
    descriptor: OwnedFd,
    has_ended: bool,
    /// What the poller was last told.
    is_read: bool,
}

/// The container's output on its way into the log, and its input.
pub(crate) struct Stdio {
    /// Standard output and error, or the terminal alone under the name of standard output. A terminal stays here after
    /// its end as well: closing it would hang up on processes that are still there.
    streams: Vec<Stream>,
    log: Option<LogFile>,
    buffers: MutexGuard<'static, Buffers>,
    /// The writing end of the container's input, until somebody takes it.
    input: Option<OwnedFd>,
}

impl Stdio {
    /// Without a terminal: makes what init is given. Also without a log: a client may attach.
    pub(crate) fn with_pipes(launch: &Launch, log: Option<LogFile>) -> io::Result<(Self, InitEnds)> {
        let (init_input, input) = match launch.stdin {
            Stdin::Null => (dev_null(OFlags::RDONLY)?, None),
            Stdin::Open | Stdin::Once => {
                let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
                fcntl_setfl(&write_end, OFlags::NONBLOCK)?;
                (read_end, Some(write_end))
            }
        };
        let mut streams = Vec::new();
        let mut init_end = |name| {
            let (descriptor, init_end) = output_pipe()?;
            streams.push(Stream { name, descriptor, has_ended: false, is_read: true });
            Ok::<_, io::Error>(init_end)
        };
        let ends = [init_input, init_end(StreamName::Stdout)?, init_end(StreamName::Stderr)?];
        Ok((Self { streams, log, buffers: lock_buffers(), input }, ends))
    }

    /// With a terminal, whose master side comes later.
    pub(crate) fn with_terminal(log: Option<LogFile>) -> Self {
        Self { streams: Vec::new(), log, buffers: lock_buffers(), input: None }
    }

    /// Takes the terminal's master side.
    pub(crate) fn set_console(&mut self, console: OwnedFd) -> io::Result<()> {
        fcntl_setfl(&console, OFlags::RDWR | OFlags::NONBLOCK)?;
        // A copy of its own, which can be waited for on its own.
        self.input = Some(console.try_clone()?);
        let name = StreamName::Stdout;
        self.streams.push(Stream { name, descriptor: console, has_ended: false, is_read: true });
        Ok(())
    }

    /// Waits for all streams.
    pub(crate) fn register(&self, poller: &Poller) -> io::Result<()> {
        self.streams.iter().try_for_each(|stream| {
            poller.add(&stream.descriptor, Source::Output(stream.name), Interest::READABLE)
        })
    }

    /// Reads from now on only the streams that `reads` names.
    pub(crate) fn set_reading(
        &mut self,
        poller: &Poller,
        reads: impl Fn(StreamName) -> bool,
    ) -> io::Result<()> {
        for stream in self.streams.iter_mut().filter(|stream| !stream.has_ended) {
            let is_read = reads(stream.name);
            if is_read != stream.is_read {
                let interest = if is_read { Interest::READABLE } else { Interest::NOTHING };
                poller.change(&stream.descriptor, Source::Output(stream.name), interest)?;
                stream.is_read = is_read;
            }
        }
        Ok(())
    }

    /// Whether stream `name` may still give something.
    pub(crate) fn is_open(&self, name: StreamName) -> bool {
        self.streams.iter().any(|stream| stream.name == name && !stream.has_ended)
    }

    /// Hands over the container's input.
    pub(crate) fn take_input(&mut self) -> Option<OwnedFd> {
        self.input.take()
    }

    /// Waits no more for one stream.
    pub(crate) fn deregister(&self, poller: &Poller, name: StreamName) -> io::Result<()> {
        let mut named = self.streams.iter().filter(|stream| stream.name == name);
        named.try_for_each(|stream| poller.remove(&stream.descriptor))
    }

    /// Brings what one stream has to the log and to `outputs`, up to a turn's worth. After `Ended` it is not to be waited
    /// for any more.
    pub(crate) fn read(&mut self, poller: &Poller, name: StreamName, outputs: &mut Outputs) -> Flow {
        let mut reads = 0;
        self.read_while(name, |bytes| {
            outputs.pass(poller, name, bytes);
            reads += 1;
            bytes.len() == READ_BYTES && reads < READS_PER_TURN && !outputs.holds(name)
        })
    }

    /// Whether all streams have ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.streams.iter().all(|stream| stream.has_ended)
    }

    /// Brings the last bytes and the lines that were left open to the log: nobody reads after this.
    pub(crate) fn finish(&mut self, poller: &Poller, outputs: &mut Outputs) {
        for name in [StreamName::Stdout, StreamName::Stderr] {
            let mut reads = 0;
            self.read_while(name, |bytes| {
                outputs.pass(poller, name, bytes);
                reads += 1;
                bytes.len() == READ_BYTES && reads < LAST_READS
            });
            let Some(log) = &mut self.log else { continue };
            let buffers = &mut *self.buffers;
            let mut batch = Batch::new(&mut buffers.batch, log, Timestamp::now(), name);
            match name {
                StreamName::Stdout => buffers.stdout.finish(|piece| batch.add(piece)),
                StreamName::Stderr => buffers.stderr.finish(|piece| batch.add(piece)),
            }
            batch.finish();
        }
    }

    /// Opens the log anew by its name. Nothing but lines that are still open is held back from the old one.
    pub(crate) fn reopen_log(&mut self) -> Result<(), LogError> {
        self.log.as_mut().map_or(Ok(()), LogFile::reopen)
    }

    /// Sets the terminal's size; `ENOTTY` without a terminal.
    pub(crate) fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let console = self.streams.first().ok_or(Errno::NOTTY)?;
        Ok(tcsetwinsize(&console.descriptor, size)?)
    }

    /// Reads stream `name` until nothing is there or `pass_on`, which is given each read's bytes, has enough.
    fn read_while(&mut self, name: StreamName, mut pass_on: impl FnMut(&[u8]) -> bool) -> Flow {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.name == name) else {
            return Flow::Ended;
        };
        let buffers = &mut *self.buffers;
        let mut total = 0;
        loop {
            let bytes = match read(&stream.descriptor, &mut buffers.read) {
                Ok(bytes @ 1..) => &buffers.read[..bytes],
                Err(Errno::AGAIN | Errno::INTR) => break,
                end => {
                    note_read_error(name, end.err());
                    stream.has_ended = true;
                    return Flow::Ended;
                }
            };
            total += bytes.len();
            if let Some(log) = &mut self.log {
                let mut batch = Batch::new(&mut buffers.batch, log, Timestamp::now(), name);
                match name {
                    StreamName::Stdout => buffers.stdout.push(bytes, |piece| batch.add(piece)),
                    StreamName::Stderr => buffers.stderr.push(bytes, |piece| batch.add(piece)),
                }
                batch.finish();
            }
            if !pass_on(bytes) {
                break;
            }
        }
        Flow::Open { bytes: total }
    }
}

/// A terminal reads as EIO once no process holds its other side: that is its end (tty_ioctl(4)).
fn note_read_error(name: StreamName, errno: Option<Errno>) {
    if let Some(errno) = errno.filter(|errno| *errno != Errno::IO) {
        complain(format_args!("read {name:?} of the container: {errno}; it is not logged further"));
    }
}

/// Our reading end, and the writing end for init. Only ours does not block: the flag would be init's otherwise.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setfl(&read_end, OFlags::NONBLOCK)?;
    match fcntl_setpipe_size(&read_end, PIPE_BYTES) {
        Ok(_) | Err(Errno::PERM) => Ok((read_end, write_end)),
        Err(errno) => Err(errno.into()),
    }
}

pub(crate) fn dev_null(access: OFlags) -> io::Result<OwnedFd> {
    Ok(open("/dev/null", access | OFlags::CLOEXEC, Mode::empty())?)
}

fn lock_buffers() -> MutexGuard<'static, Buffers> {
    BUFFERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The streams of `ends` as the runtime takes them.
pub(crate) fn for_init(ends: &InitEnds) -> cleat_runtime::Stdio<'_> {
    cleat_runtime::Stdio::Descriptors([ends[0].as_fd(), ends[1].as_fd(), ends[2].as_fd()])
}
