//! Programs that run while the test goes on: with pipes, or at a terminal of their own.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::machine::patience;
use crate::process::{Ended, kill_and_wait, wait_limited};

/// How long a killed one may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// A program with pipes at its streams. Killed when dropped.
#[derive(Debug)]
pub struct Client {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collector,
    stderr: Collector,
}

/// A program at a terminal. Killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    master: File,
    parts: Receiver<Vec<u8>>,
    seen: String,
}

/// What is read of a stream, on a thread: a pipe that nobody empties would stop its writer.
#[derive(Debug)]
struct Collector {
    thread: Option<JoinHandle<std::io::Result<Vec<u8>>>>,
}

impl Client {
    /// Starts `command` with a pipe at each of its streams.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let stdin = child.stdin.take();
        let stdout = Collector::new(child.stdout.take().context("its output")?);
        let stderr = Collector::new(child.stderr.take().context("its errors")?);
        Ok(Self { child, stdin, stdout, stderr })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Writes to its standard input.
    ///
    /// # Errors
    /// Fails when it reads no more.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stdin.as_mut().context("its input is closed")?.write_all(bytes).context("write to it")
    }

    /// Takes its standard input, to write to it elsewhere or to keep it open.
    pub fn take_stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Ends its input, waits until it has ended, and returns what it wrote.
    ///
    /// # Errors
    /// Fails when it does not end within `limit`.
    pub fn finish(mut self, limit: Duration) -> Result<Output> {
        self.stdin = None;
        self.output(limit)
    }

    /// Waits until it has ended and returns what it wrote. Its input stays as it is.
    ///
    /// # Errors
    /// Fails when it does not end within `limit`.
    pub fn output(&mut self, limit: Duration) -> Result<Output> {
        if wait_limited(self.child.id(), limit)? == Ended::No {
            kill_and_wait(self.child.id(), KILL_LIMIT)?;
            let (out, err) = (self.stdout.take()?, self.stderr.take()?);
            let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err));
            bail!("no end after {} s; it wrote {out:?} and {err:?}", limit.as_secs());
        }
        let status = self.child.wait().context("wait for it")?;
        Ok(Output { status, stdout: self.stdout.take()?, stderr: self.stderr.take()? })
    }

    /// Kills it.
    ///
    /// # Errors
    /// Fails when it does not end.
    pub fn kill(self) -> Result<()> {
        kill_and_wait(self.child.id(), KILL_LIMIT)
    }
}

impl Collector {
    fn new(mut source: impl Read + Send + 'static) -> Self {
        let read = move || {
            let mut bytes = Vec::new();
            source.read_to_end(&mut bytes).map(|_| bytes)
        };
        Self { thread: Some(std::thread::spawn(read)) }
    }

    fn take(&mut self) -> Result<Vec<u8>> {
        let thread = self.thread.take().context("its output was taken already")?;
        let read = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        read.context("read what it wrote")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Terminal {
    pub(crate) fn spawn(mut command: Command, rows: u16, columns: u16) -> Result<Self> {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .context("open a terminal")?;
        grantpt(&master).and_then(|()| unlockpt(&master)).context("unlock a terminal")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags).context("open the other side of a terminal")?;
        set_size(&master, rows, columns)?;
        let copy = || slave.try_clone().context("copy a descriptor");
        command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        drop(command);
        let master = File::from(master);
        let parts = read_parts(master.try_clone().context("copy a descriptor")?);
        Ok(Self { child, master, parts, seen: String::new() })
    }

    /// Types `text`.
    ///
    /// # Errors
    /// Fails when the terminal takes nothing.
    pub fn enter(&mut self, text: &str) -> Result<()> {
        self.master.write_all(text.as_bytes()).context("write to the terminal")
    }

    /// Changes the size, as the frame of a window does.
    ///
    /// # Errors
    /// Fails when the kernel refuses.
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        set_size(&self.master, rows, columns)
    }

    /// Waits until `words` are shown, and returns all that was shown since the last call, up to and with them.
    ///
    /// # Errors
    /// Fails when they are not shown within `limit`.
    pub fn await_text(&mut self, words: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + patience(limit);
        loop {
            if let Some(place) = self.seen.find(words) {
                let rest = self.seen.split_off(place + words.len());
                return Ok(std::mem::replace(&mut self.seen, rest));
            }
            match self.parts.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(part) => self.seen.push_str(&String::from_utf8_lossy(&part)),
                Err(RecvTimeoutError::Timeout) => bail!("no {words:?} within {limit:?}: {:?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => bail!("it ended without {words:?}: {:?}", self.seen),
            }
        }
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// Fails when it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if wait_limited(self.child.id(), limit)? == Ended::No {
            bail!("no end after {limit:?}: {:?}", self.seen);
        }
        self.child.wait().context("wait for it")
    }

    /// Kills the program.
    ///
    /// # Errors
    /// Fails when it does not end.
    pub fn kill(self) -> Result<()> {
        kill_and_wait(self.child.id(), KILL_LIMIT)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    if let Err(error) = kill_and_wait(child.id(), KILL_LIMIT) {
        eprintln!("client: {error:#}");
    }
    if let Err(error) = child.wait() {
        eprintln!("client: wait for process {}: {error}", child.id());
    }
}

fn set_size(master: &impl rustix::fd::AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).context("set a terminal's size")
}

/// What a terminal shows, as it comes; ended by the end of the last process there.
fn read_parts(mut master: File) -> Receiver<Vec<u8>> {
    let (send, receive) = channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        loop {
            match master.read(&mut bytes) {
                Ok(length @ 1..) if send.send(bytes[..length].to_vec()).is_ok() => {}
                Err(error) if error.raw_os_error() == Some(Errno::INTR.raw_os_error()) => {}
                // EIO: nobody is at the other side any more.
                _ => return,
            }
        }
    });
    receive
}
