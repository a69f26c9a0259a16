//! Waiting in the foreground: for the end of a process, passing signals and the terminal's bytes on meanwhile.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use cleat_sys::process::Ended;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

use super::CommandError;

/// What is read of a terminal at once.
const BUFFER_BYTES: usize = 16 << 10;

/// Our signals, blocked and read from a descriptor.
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks what is passed on. What is born meanwhile gets an empty mask from the library.
    pub(super) fn block() -> Result<Self, CommandError> {
        let failed = |error: nix::Error| CommandError::System("block signals", error.into());
        let mut set = SigSet::all();
        for own in [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGABRT,
            Signal::SIGPIPE,
        ] {
            set.remove(own);
        }
        set.thread_block().map_err(failed)?;
        SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map(Self).map_err(failed)
    }
}

/// Waits until the process has ended: its exit code, as a shell tells it.
pub(super) fn until_end(
    signals: &Signals,
    process: &OwnedFd,
    console: Option<&OwnedFd>,
) -> Result<ExitCode, CommandError> {
    let failed = |error| CommandError::System("wait for the process", error);
    let terminal = console.map(Terminal::open).transpose().map_err(failed)?;
    let outcome = serve(signals, process, terminal.as_ref());
    drop(terminal);
    let ended = outcome.and_then(|()| cleat_sys::process::reap(process)).map_err(failed)?;
    Ok(ExitCode::from(match ended {
        Ended::Exited(code) => u8::try_from(code).unwrap_or(u8::MAX),
        Ended::Signaled(signal) => u8::try_from(128 + signal).unwrap_or(u8::MAX),
    }))
}

fn serve(signals: &Signals, process: &OwnedFd, terminal: Option<&Terminal<'_>>) -> io::Result<()> {
    let (stdin, mut input_open) = (io::stdin(), terminal.is_some());
    loop {
        let mut ready = vec![PollFd::new(process, PollFlags::IN), PollFd::new(&signals.0, PollFlags::IN)];
        if let Some(terminal) = terminal {
            ready.push(PollFd::new(terminal.master, PollFlags::IN));
            if input_open {
                ready.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        match poll(&mut ready, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let is_ready: Vec<bool> = ready.iter().map(|fd| !fd.revents().is_empty()).collect();
        if is_ready[1] {
            pass_signals(signals, process, terminal)?;
        }
        if let Some(terminal) = terminal {
            if is_ready[2] {
                terminal.copy_output()?;
            }
            if is_ready.get(3) == Some(&true) {
                input_open = terminal.copy_input()?;
            }
        }
        if is_ready[0] {
            // What was written before the end is still in the terminal.
            return terminal.map_or(Ok(()), Terminal::drain_output);
        }
    }
}

fn pass_signals(signals: &Signals, process: &OwnedFd, terminal: Option<&Terminal<'_>>) -> io::Result<()> {
    while let Some(info) = signals.0.read_signal().map_err(io::Error::from)? {
        match (i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()), terminal)
        {
            (Some(Signal::SIGCHLD), _) => {}
            (Some(Signal::SIGWINCH), Some(terminal)) => terminal.copy_size()?,
            (Some(signal), _) => match cleat_sys::process::send_signal(process, signal as i32) {
                Err(error) if error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) => {
                    return Err(error);
                }
                _ => {}
            },
            // Real-time signals have no name in `nix`.
            (None, _) => {}
        }
    }
    Ok(())
}

/// Our own terminal (if standard input is one) connected with a process's.
struct Terminal<'a> {
    master: &'a OwnedFd,
    /// How ours was before.
    saved: Option<Termios>,
}

impl<'a> Terminal<'a> {
    fn open(master: &'a OwnedFd) -> io::Result<Self> {
        let stdin = io::stdin();
        let saved = isatty(&stdin).then(|| tcgetattr(&stdin)).transpose()?;
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        }
        Ok(Self { master, saved })
    }

    fn copy_size(&self) -> io::Result<()> {
        let (height, width) = cleat_sys::pty::size(&io::stdin())?;
        cleat_sys::pty::set_size(self.master, height, width)
    }

    fn copy_output(&self) -> io::Result<usize> {
        let mut buffer = [0; BUFFER_BYTES];
        match rustix::io::read(self.master, &mut buffer) {
            // EIO: no process has the other side open.
            Ok(0) | Err(rustix::io::Errno::IO | rustix::io::Errno::AGAIN) => Ok(0),
            Ok(length) => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(&buffer[..length])?;
                stdout.flush()?;
                Ok(length)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn drain_output(&self) -> io::Result<()> {
        rustix::io::ioctl_fionbio(self.master, true)?;
        while self.copy_output()? > 0 {}
        Ok(())
    }

    /// Whether there may be more.
    fn copy_input(&self) -> io::Result<bool> {
        let mut buffer = [0; BUFFER_BYTES];
        let length = rustix::io::read(io::stdin().as_fd(), &mut buffer)?;
        if length > 0 {
            File::from(self.master.try_clone()?).write_all(&buffer[..length])?;
        }
        Ok(length > 0)
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        if let Some(saved) = &self.saved
            && let Err(errno) = tcsetattr(io::stdin(), OptionalActions::Now, saved)
        {
            eprintln!("cleat-runtime: restore the terminal: {errno}");
        }
    }
}
