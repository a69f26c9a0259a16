//! The gate at which a created container's init waits before it executes its program.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::channel::{Channel, Received, shortened};
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::request;
use crate::{Failure, process};

/// What the caller sends to let init go on.
pub(crate) const GO: Go = Go;

/// See [`GO`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Go;

/// What init sends when its program could not be executed; that it was shows in the end of its side.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Outcome(pub(crate) Failure);

/// An open gate's descriptors.
#[derive(Debug)]
pub(super) enum Gate {
    Caller(Channel),
    Fifo { path: OwnedFd, procfs: Procfs },
}

impl Gate {
    /// Opens what init will need, while host paths can be reached.
    pub(super) fn open(gate: request::Gate<'_>, caller: &Channel) -> Result<Self, Failure> {
        match gate {
            request::Gate::Caller => Ok(Self::Caller(caller.try_clone().step(|| "open the gate")?)),
            request::Gate::Fifo(path) => {
                let step = || format!("open {}", path.display());
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let path = rustix::fs::open(path, flags, Mode::empty()).step(step)?;
                Ok(Self::Fifo { path, procfs: Procfs::open().step(|| "open /proc")? })
            }
        }
    }

    /// Waits to be let go, does what comes `before`, executes the program, and tells when one of them failed. Without anybody to open it (the caller has
    /// ended) init ends, too.
    pub(super) fn pass(
        self,
        prepared: process::Prepared,
        before: impl FnOnce() -> Result<(), Failure>,
    ) -> Option<Failure> {
        match self {
            Self::Caller(channel) => {
                let Ok(Received::Message(Go, _)) = channel.receive() else { return None };
                let failure = before().err().unwrap_or_else(|| process::execute(prepared));
                // A caller that is gone has nobody to tell; the exit code stays.
                channel.send(&Outcome(shortened(failure.clone())), &[]).ok();
                Some(failure)
            }
            Self::Fifo { path, procfs } => {
                // Blocks until somebody opens the other end.
                let fifo = procfs.reopen(&path, OFlags::WRONLY).ok()?;
                drop((path, procfs));
                let mut fifo = File::from(fifo);
                fifo.write_all(b"0").ok()?;
                let failure = before().err().unwrap_or_else(|| process::execute(prepared));
                if let Ok(text) = serde_json::to_vec(&failure) {
                    fifo.write_all(&text).ok();
                }
                Some(failure)
            }
        }
    }
}
