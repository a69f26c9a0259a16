//! Launching a monitor.
//!
//! The program is copied once, at the daemon's start, into a sealed memory file and every monitor is executed from it:
//! all of them share its pages, and no container can write to it through `/proc/<pid>/exe` (CVE-2019-5736).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;

use cleat_conmon_proto::{Launch, Message};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use tokio::process::{Child, Command};

use super::{Connection, MonitorError};

/// The monitor's program, ready to be executed any number of times.
#[derive(Debug)]
pub(crate) struct Launcher {
    program: OwnedFd,
}

/// A monitor that has created its container. It is killed when this is dropped before [`Launched::let_go`]: a launch
/// that was given up leaves no monitor behind.
#[derive(Debug)]
pub(crate) struct Launched {
    /// The connection it was launched with.
    pub connection: Connection,
    /// The container's init, waiting to be started.
    pub pid: i32,
    monitor: Leash,
}

/// Kills a monitor unless it was let go.
#[derive(Debug)]
struct Leash {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Launched {
    /// The monitor's process id.
    pub(crate) fn monitor(&self) -> i32 {
        self.monitor.pid
    }

    /// The container runs: its monitor lives as long as it does. Returns the connection.
    pub(crate) fn let_go(mut self) -> Connection {
        self.monitor.pidfd = None;
        self.connection
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd
            && let Err(error) = cleat_sys::process::send_signal(pidfd, Signal::SIGKILL as i32)
            && error.raw_os_error() != Some(Errno::ESRCH as i32)
        {
            tracing::warn!(monitor = self.pid, %error, "a monitor whose launch was given up could not be killed");
        }
    }
}

impl Launcher {
    /// Copies the program `path` into a sealed memory file.
    pub(crate) fn new(path: &Path) -> Result<Self, MonitorError> {
        let program =
            sealed_copy(path).map_err(|source| MonitorError::Prepare { path: path.to_owned(), source })?;
        Ok(Self { program })
    }

    /// Starts a monitor for `launch` and waits until it has created the container, or says why it could not.
    pub(crate) async fn launch(&self, launch: &Launch) -> Result<Launched, MonitorError> {
        let (ours, theirs) = UnixStream::pair().map_err(MonitorError::Execute)?;
        let child = self.execute(launch, theirs).map_err(MonitorError::Execute)?;
        let pid = child.id().ok_or(MonitorError::Gone)?.cast_signed();
        // The child is not reaped yet, so that its id is its own.
        let pidfd = cleat_sys::process::open_pidfd(pid).map_err(MonitorError::Execute)?;
        super::process::reap(child);
        let monitor = Leash { pid, pidfd: Some(pidfd) };
        let mut connection = Connection::from_pair(ours).map_err(MonitorError::Execute)?;
        connection.send(launch, &[]).await?;
        match connection.receive().await?.ok_or(MonitorError::Gone)? {
            Message::Created { pid } => Ok(Launched { connection, pid, monitor }),
            Message::Failed(failure) => Err(MonitorError::Failed(failure)),
            other => Err(MonitorError::Unexpected(Box::new(other))),
        }
    }

    /// The standard library spawns without copying the daemon's page tables (posix_spawn), as long as nothing is asked
    /// for that it would have to do in the child.
    fn execute(&self, launch: &Launch, socket: UnixStream) -> io::Result<Child> {
        let complaints = super::lock::take(&launch.state_dir)?;
        Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg0("cleat-conmon")
            .arg(&launch.id)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(complaints)
            .spawn()
    }
}

fn sealed_copy(path: &Path) -> io::Result<OwnedFd> {
    let program = fs::read(path)?;
    let memory = memfd_create("cleat-conmon", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(&program)?;
    let seals =
        SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(OwnedFd::from(file))
}
