//! What the daemon and a container's monitor say to each other, and the exit record.
//!
//! One message is one frame: a little-endian `u32` length in bytes, then that many bytes of JSON. Descriptors travel as
//! SCM_RIGHTS with the frame's first byte. The daemon launches a monitor with a connected socket as its standard input
//! and writes a [`Launch`]; the monitor answers [`Message::Created`] or [`Message::Failed`] and goes on serving that
//! connection, and every later one to `monitor.sock` in its state folder (mode 0700, peers of the monitor's own uid only).
//!
//! ```text
//! daemon                                   monitor
//!   Launch                       ──▶         forks the runtime, which creates the container
//!                                ◀──         Created { pid } | Failed
//!   Request::Start               ──▶         releases the container's init
//!                                ◀──         Done (init has executed the program) | Failed
//!   Request::Watch               ──▶         (on any connection; the launch connection watches from the start)
//!                                ◀──         Exited(ExitRecord), Oom        at once if it is so already
//!   Request::Exec + descriptors  ──▶         (a connection of its own)
//!                                ◀──         Created { pid } (+ pty master for a terminal) | Failed
//!   Request::KillExec            ──▶         kills the exec'd process and everything it started
//!                                ◀──         ExecExited { status }
//! ```
//!
//! OCI structures (a `process`, `resources`) travel as JSON text: the monitor hands them unread to a forked child, so
//! that its own heap does not grow with what a client sends.
#![forbid(unsafe_code)]

mod exit;
mod failure;
mod frame;
mod message;

pub use exit::{ExitRecord, ExitStatus};
pub use failure::Failure;
pub use frame::{FrameError, MAX_FRAME_BYTES, encode_header, frame_length};
pub use message::{Attach, Exec, ExecStdio, Launch, Log, Message, Request, Rootfs, Rotation, Stdin};

/// Version of this protocol. A monitor outlives the daemon that started it, so a daemon speaks every version of the
/// monitors that may still run: the current one and the two before it.
pub const VERSION: u32 = 1;

/// Name of the monitor's listening socket inside [`Launch::state_dir`].
pub const SOCKET_NAME: &str = "monitor.sock";

/// Name of the exit record inside [`Launch::state_dir`]: an [`ExitRecord`] as JSON, renamed into place when complete.
pub const EXIT_RECORD_NAME: &str = "exit.json";
