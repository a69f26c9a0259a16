//! Ends of child processes: init, exec'd processes, and the orphans a subreaper is handed.
//!
//! `wait(2)` for any child is sound here: the process has one thread, and nothing else in it reaps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use cleat_conmon_proto::ExitStatus;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::io::Errno;
use rustix::process::{WaitOptions, WaitStatus, wait};

/// Signals that would end or stop the monitor but are meant for others: the container would be left without an owner.
/// It ends when the container has ended; SIGKILL is for the rest.
const NOT_OURS: [Signal; 7] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// Readable when a child has ended.
pub(crate) struct ChildSignals(SignalFd);

impl ChildSignals {
    /// Starts to listen. To be called before the first child exists, so that no end is missed.
    pub(crate) fn new() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let child_signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        mask.extend(NOT_OURS);
        mask.thread_block()?;
        Ok(Self(child_signals))
    }

    /// Takes note of the signals so far. Children are to be reaped after this, not before: one may end in between.
    pub(crate) fn acknowledge(&self) -> io::Result<()> {
        while self.0.read_signal()?.is_some() {}
        Ok(())
    }
}

impl AsFd for ChildSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What there was to reap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaped {
    Child {
        pid: i32,
        status: ExitStatus,
    },
    /// Those that are left still run.
    NoneEnded,
    /// There is no child left at all.
    NoneLeft,
}

/// Reaps one child that has ended.
pub(crate) fn reap() -> io::Result<Reaped> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                return Ok(Reaped::Child { pid: pid.as_raw_nonzero().get(), status: exit_status(status) });
            }
            Ok(None) => return Ok(Reaped::NoneEnded),
            Err(Errno::CHILD) => return Ok(Reaped::NoneLeft),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Without WUNTRACED and WCONTINUED, what has not exited was ended by a signal.
fn exit_status(status: WaitStatus) -> ExitStatus {
    status.exit_status().map_or_else(
        || ExitStatus::Signaled(status.terminating_signal().unwrap_or_default()),
        ExitStatus::Exited,
    )
}
