//! The messages themselves.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{ExitRecord, ExitStatus, Failure};

/// What a monitor is started for: the first frame on its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// [`crate::VERSION`] of the daemon.
    pub version: u32,
    /// The container's id, unique on the host.
    pub id: String,
    /// Folder with the container's `config.json`.
    pub bundle: PathBuf,
    /// Folder of this container alone, mode 0700: the monitor puts its socket and the exit record there.
    pub state_dir: PathBuf,
    /// Where the root filesystem comes from.
    pub rootfs: Rootfs,
    /// Where the container's output goes; with none only attached clients get it.
    pub log: Option<Log>,
    /// What the container reads; without meaning where `terminal` is set.
    pub stdin: Stdin,
    /// The program of another OCI runtime that is to make the container; none means the built-in one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<PathBuf>,
    /// `process.terminal` of the specification, repeated here so that the monitor need not parse it: the container
    /// gets a terminal for its standard streams, and its output is logged as `stdout`.
    pub terminal: bool,
}

/// Where a container's root filesystem comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// `root.path` of the specification, a folder that is ready to use.
    Ready,
    /// An overlay mounted inside the container's own mount namespace, so that the host's mount table never holds it.
    Overlay {
        /// Read-only layers, the topmost first.
        lower: Vec<PathBuf>,
        /// The container's own changes.
        upper: PathBuf,
        /// The kernel's scratch folder, on the filesystem of `upper`.
        work: PathBuf,
    },
}

/// A container's log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Log {
    /// The CRI's format: `<RFC 3339 time with nanoseconds> <stdout|stderr> <F|P> <line>`.
    Cri {
        /// The file, created with mode 0640 and appended to.
        path: PathBuf,
        /// When the monitor begins another file by itself; with none it does so only when it is told to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rotation: Option<Rotation>,
    },
}

/// How a log is kept small. Older files have the log's name with `.1`, `.2` and so on behind it, the oldest the highest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// A file with this many bytes or more takes no further line.
    pub max_bytes: u64,
    /// How many files there are at most, the one that is written to among them; at least 1.
    pub files: u32,
}

/// What a container's standard input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// A pipe that stays open until the container ends.
    Open,
    /// A pipe that is closed when the first attached client closes its side.
    Once,
}

/// What a client asks a monitor for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Let the created container execute its program. Answer: `Done` or `Failed`.
    Start,
    /// Send `Exited` and `Oom` on this connection from now on, at once where they have already happened.
    Watch,
    /// Run one more process in the container; one at a time on a connection. Answer: `Created` or `Failed`, later
    /// `ExecExited`. What the process leaves running goes on.
    Exec(Exec),
    /// Kill the process that this connection's `Exec` started and everything it started in turn. Answer: `ExecExited`
    /// of the process; `Failed` where none of this connection's runs.
    KillExec,
    /// Join the container's standard streams from now on: before `Start` that is from the first byte. The frame carries a
    /// descriptor for each field that is set, in this order: a reading end for the container's standard input, writing
    /// ends for its output and its error output (a terminal's output is `stdout` alone). Answer: `Done` or `Failed`. The
    /// monitor closes its ends when this connection ends; the output ends also when the container has ended and all its
    /// output was passed on. Passed descriptors become non-blocking, also for who shares them.
    Attach(Attach),
    /// Close the log file and open it anew by its name (after a rotation). Answer: `Done` or `Failed`.
    ReopenLog,
    /// Set the size of the container's terminal. Answer: `Done` or `Failed`.
    Resize {
        /// Rows.
        height: u16,
        /// Columns.
        width: u16,
    },
    /// Change limits: `linux.resources` of the OCI specification as JSON text. All of it or nothing. Answer: `Done` or
    /// `Failed`.
    Update {
        /// The JSON text.
        resources: String,
    },
    /// Take a checkpoint of the running container, which goes on. Answer: `Done` or `Failed`, with `EOPNOTSUPP` where
    /// there is no criu, or it cannot work on this kernel.
    Checkpoint {
        /// Folder with the container's `config.json`.
        bundle: PathBuf,
        /// Where the images go; made if it is missing.
        images: PathBuf,
        /// Where the log goes; made if it is missing.
        work: PathBuf,
    },
}

/// One more process in a running container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Unique among the execs of this container, at most 64 characters of `[a-z0-9-]`: names its cgroup.
    pub id: String,
    /// `process` of the OCI specification as JSON text, complete (user, environment, capabilities, ...).
    pub process: String,
    /// Its standard streams.
    pub stdio: ExecStdio,
    /// Whether the process, and everything it started, is killed when this connection ends before it does (a probe);
    /// otherwise it goes on without an owner.
    pub kill_on_disconnect: bool,
}

/// Which of the container's standard streams a client joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attach {
    /// Whether what can be read from a passed descriptor goes to the container's standard input.
    pub stdin: bool,
    /// Whether the container's output is written to a passed descriptor.
    pub stdout: bool,
    /// The same for its error output; a terminal has none.
    pub stderr: bool,
    /// After how long, in milliseconds, a client that takes none of the output that waits for it is detached: it holds
    /// up the container meanwhile. None waits for as long as the connection stays.
    pub stall_limit_ms: Option<u32>,
}

/// An exec'd process's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecStdio {
    /// The frame carries three descriptors: standard input, output and error. The process uses them directly; no byte
    /// passes through the monitor.
    Descriptors,
    /// A terminal is made inside the container; `Created` carries its master side.
    Terminal {
        /// Rows at the start.
        height: u16,
        /// Columns at the start.
        width: u16,
    },
}

/// What a monitor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The container, or the exec'd process, exists: its process id in the monitor's pid namespace.
    Created {
        /// The process id.
        pid: i32,
    },
    /// The request was carried out.
    Done,
    /// The request failed and left nothing behind.
    Failed(Failure),
    /// The container's init ended; all output is in the log, and the record is on disk (a monitor that could not write
    /// it stays, tries again, and tells whoever watches).
    Exited(ExitRecord),
    /// The kernel killed a process of the container for want of memory.
    Oom,
    /// This connection's exec'd process ended.
    ExecExited {
        /// How.
        status: ExitStatus,
    },
}
