//! What a command printed, as far as it is kept: the last bytes, up to a limit for both streams together.
//!
//! The end of a long output is kept because what went wrong stands there. The longer of the two streams gives way first,
//! so that a flood on one does not wash a line on the other away.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;

use cleat_conmon_proto::ExitStatus;
use nix::errno::Errno;
use tokio::net::unix::pipe;

/// Most bytes read from a pipe at once: a full pipe of the kernel's default size.
const CHUNK_BYTES: usize = 64 * 1024;

/// What an exec'd process printed and how it ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExecOutput {
    /// Its standard output, or the end of it.
    pub stdout: Vec<u8>,
    /// Its standard error, or the end of it.
    pub stderr: Vec<u8>,
    /// Exit code, or 128 plus the signal's number.
    pub code: i32,
    /// Bytes it printed before those that are kept.
    pub dropped_bytes: u64,
}

/// Both output streams and what was read of them.
pub(super) struct Output {
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    kept: Kept,
}

/// One of the two streams.
#[derive(Clone, Copy, Debug)]
enum Name {
    Stdout,
    Stderr,
}

/// The last bytes of both streams.
#[derive(Default)]
struct Kept {
    stdout: VecDeque<u8>,
    stderr: VecDeque<u8>,
    limit_bytes: usize,
    dropped_bytes: u64,
}

impl Output {
    /// Pipes, and what the process gets: standard input (nothing), output and error. At most `limit_bytes` are kept.
    pub(super) fn new(limit_bytes: usize) -> io::Result<(Self, [OwnedFd; 3])> {
        let (out, stdout) = pipe_pair()?;
        let (err, stderr) = pipe_pair()?;
        let null = OpenOptions::new().read(true).open("/dev/null")?;
        let kept = Kept { limit_bytes, ..Kept::default() };
        Ok((Self { stdout: Some(stdout), stderr: Some(stderr), kept }, [null.into(), out, err]))
    }

    /// Reads what one of the streams has; pending for ever when both have ended.
    pub(super) async fn read(&mut self) -> io::Result<()> {
        let name = tokio::select! {
            ready = readable(self.stdout.as_ref()) => { ready?; Name::Stdout }
            ready = readable(self.stderr.as_ref()) => { ready?; Name::Stderr }
        };
        let Some(pipe) = self.pipe(name) else { return Ok(()) };
        let mut chunk = [0; CHUNK_BYTES];
        match pipe.try_read(&mut chunk) {
            Ok(length) => self.take(name, &chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Reads all that is there, whether the executor has noticed it yet or not, and waits for nothing.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0; CHUNK_BYTES];
        for name in [Name::Stdout, Name::Stderr] {
            while let Some(pipe) = self.pipe(name) {
                match nix::unistd::read(pipe, &mut chunk) {
                    Ok(length) => self.take(name, &chunk[..length]),
                    Err(Errno::EAGAIN) => break,
                    Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }

    /// All that is kept of what was read.
    pub(super) fn finish(self, status: ExitStatus) -> ExecOutput {
        ExecOutput {
            stdout: self.kept.stdout.into(),
            stderr: self.kept.stderr.into(),
            code: status.code(),
            dropped_bytes: self.kept.dropped_bytes,
        }
    }

    fn pipe(&self, name: Name) -> Option<&pipe::Receiver> {
        match name {
            Name::Stdout => self.stdout.as_ref(),
            Name::Stderr => self.stderr.as_ref(),
        }
    }

    /// Keeps what was read of one stream. Nothing read means its end.
    fn take(&mut self, name: Name, read: &[u8]) {
        match (name, read.is_empty()) {
            (Name::Stdout, true) => self.stdout = None,
            (Name::Stderr, true) => self.stderr = None,
            (_, false) => self.kept.add(name, read),
        }
    }
}

impl Kept {
    /// Adds `read`, after making room for it: the memory in use never exceeds the limit.
    fn add(&mut self, name: Name, read: &[u8]) {
        let (of_out, of_err) = match name {
            Name::Stdout => (self.stdout.len() + read.len(), self.stderr.len()),
            Name::Stderr => (self.stdout.len(), self.stderr.len() + read.len()),
        };
        let (of_out, of_err) = excess(of_out, of_err, self.limit_bytes);
        self.dropped_bytes += (of_out + of_err) as u64;
        let (out, err) = match name {
            Name::Stdout => (read, &[][..]),
            Name::Stderr => (&[][..], read),
        };
        append(&mut self.stdout, out, of_out);
        append(&mut self.stderr, err, of_err);
    }
}

/// How many bytes to drop of streams that are `out` and `err` bytes long, for `limit` to be left: of the longer one until
/// they are of one length, then of both.
fn excess(out: usize, err: usize, limit: usize) -> (usize, usize) {
    let excess = (out + err).saturating_sub(limit);
    let of_longer = excess.min(out.abs_diff(err));
    let (half, rest) = ((excess - of_longer) / 2, (excess - of_longer).div_ceil(2));
    if out > err { (of_longer + half, rest) } else { (half, of_longer + rest) }
}

/// Puts `read` behind `kept` and drops the first `excess` bytes of the whole.
fn append(kept: &mut VecDeque<u8>, read: &[u8], excess: usize) {
    let of_kept = excess.min(kept.len());
    kept.drain(..of_kept);
    kept.extend(&read[excess - of_kept..]);
}

async fn readable(pipe: Option<&pipe::Receiver>) -> io::Result<()> {
    match pipe {
        Some(pipe) => pipe.readable().await,
        None => std::future::pending().await,
    }
}

/// A pipe: the process's end, which blocks as every program expects, and ours, which does not.
fn pipe_pair() -> io::Result<(OwnedFd, pipe::Receiver)> {
    let (reader, writer) = io::pipe()?;
    Ok((writer.into(), pipe::Receiver::from_owned_fd(reader.into())?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_last_bytes_are_kept_and_the_longer_stream_gives_way() {
        use Name::{Stderr, Stdout};
        for (parts, out, err, dropped) in [
            (&[(Stdout, "123456")][..], "123456", "", 0),
            (&[(Stdout, "1234567")], "234567", "", 1),
            (&[(Stdout, "123"), (Stdout, "456789")], "456789", "", 3),
            (&[(Stdout, "12345"), (Stderr, "abc")], "345", "abc", 2),
            (&[(Stderr, "abc"), (Stdout, "12345")], "345", "abc", 2),
            (&[(Stderr, "a"), (Stdout, "123456789")], "56789", "a", 4),
            (&[(Stdout, "1234"), (Stderr, "abcdefgh"), (Stdout, "5")], "345", "fgh", 7),
        ] {
            let mut kept = Kept { limit_bytes: 6, ..Kept::default() };
            for (name, text) in parts {
                kept.add(*name, text.as_bytes());
                assert!(kept.stdout.len() + kept.stderr.len() <= 6, "{parts:?}");
            }
            let text = |kept: VecDeque<u8>| String::from_utf8(kept.into()).unwrap();
            let got = (text(kept.stdout), text(kept.stderr), kept.dropped_bytes);
            assert_eq!(got, (out.to_owned(), err.to_owned(), dropped), "{parts:?}");
        }
    }

    #[tokio::test]
    async fn a_process_left_behind_does_not_hold_the_output() {
        let (mut output, [_, out, _err]) = Output::new(100).unwrap();
        let mut held = std::fs::File::from(out);
        held.write_all(b"said").unwrap();
        output.drain().unwrap();
        assert_eq!(output.finish(ExitStatus::Exited(0)).stdout, b"said");
    }
}
