//! A client at the streams of a process: what a door gets for an exec or an attach.
//!
//! The door moves bytes between its client and the descriptors, by whatever protocol it speaks; nothing here reads or
//! writes them. Dropping a session is how a client leaves: the pipes close, and a terminal made for it hangs up.
//!
//! ```text
//!  client ──▶ stdin  ─pipe──▶ process (or the monitor, for an attach)
//!         ◀── stdout ◀─pipe──
//!         ◀── stderr ◀─pipe──
//!         ─── resizer ──▶ the terminal's size        ending ──▶ exit code
//! ```

use std::os::fd::OwnedFd;
use std::sync::Arc;

use cleat_conmon_proto::Request;
use rustix::termios::{Winsize, tcsetwinsize};

use super::attach::ContainerEnd;
use super::error::{EngineError, Result};
use super::exec::ExecEnd;
use super::monitor::{self, MonitorError, Process};

/// Which of a process's streams a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    /// Standard input.
    pub stdin: bool,
    /// Standard output; all output of a terminal.
    pub stdout: bool,
    /// Standard error; a terminal has none.
    pub stderr: bool,
}

/// Size of a terminal in characters; zeros where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A client's side of a process.
pub(crate) struct Session {
    /// Where the client's input goes, if it is wanted; closing it is the end of input. Does not block.
    pub stdin: Option<OwnedFd>,
    /// Where standard output comes from. A terminal ends with `EIO` in place of the end of the file. Does not block.
    pub stdout: Option<OwnedFd>,
    /// Where standard error comes from. Does not block.
    pub stderr: Option<OwnedFd>,
    /// Sets the terminal's size.
    pub resizer: Resizer,
    /// Tells the end.
    pub ending: Ending,
}

/// Sets the size of a session's terminal, if it has one.
#[derive(Clone)]
pub(crate) enum Resizer {
    /// There is none: sizes are of no interest.
    Nothing,
    /// A terminal of the session's own: its master side.
    Own(Arc<OwnedFd>),
    /// That of a container, which its monitor holds.
    Container(Arc<Process>),
}

impl Resizer {
    /// Sets the size.
    pub(crate) async fn resize(&self, size: TerminalSize) -> Result<()> {
        match self {
            Self::Nothing => Ok(()),
            Self::Own(master) => {
                let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
                tcsetwinsize(master, size).map_err(|errno| {
                    EngineError::step("resize", "the terminal of an exec", &std::io::Error::from(errno))
                })
            }
            Self::Container(process) => {
                let failed = |error: MonitorError| {
                    EngineError::step("resize", format!("the terminal of process {}", process.pid()), &error)
                };
                let request = Request::Resize { height: size.rows, width: size.columns };
                let mut connection = process.connect().await.map_err(failed)?;
                let answer = connection.ask(&request, &[]).await.map_err(failed)?;
                monitor::done(answer).map_err(failed)
            }
        }
    }
}

/// The end of what a session is with.
pub(crate) enum Ending {
    /// An exec'd process.
    Exec(ExecEnd),
    /// A container's program.
    Container(ContainerEnd),
}

impl Ending {
    /// Waits for the end and gives the exit code, or 128 plus the signal's number. May be dropped and called again.
    ///
    /// What the process printed is in the descriptors by then, and may be more than was read of them. A process that it
    /// left behind can hold them open for ever: what is in them now is all there is to wait for.
    pub(crate) async fn wait(&mut self) -> Result<i32> {
        match self {
            Self::Exec(end) => end.wait().await,
            Self::Container(end) => end.wait().await,
        }
    }
}
