//! One invocation of another runtime's program, and what it leaves: a process id, a terminal, a complaint.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Standard};

use serde::Deserialize;

use crate::failure::Step;
use crate::{Failure, Stdio};

/// The most that is read of a runtime's log, in bytes.
const MAX_LOG_BYTES: u64 = 1 << 20;

/// A command line in the making.
#[derive(Debug)]
pub(super) struct Invocation {
    program: PathBuf,
    state: PathBuf,
    global: Vec<OsString>,
    command: &'static str,
    arguments: Vec<OsString>,
    streams: Option<[OwnedFd; 3]>,
}

/// A line of a runtime's log.
#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl Invocation {
    pub(super) fn new(program: &Path, state: &Path, command: &'static str) -> Self {
        let (program, state) = (program.to_owned(), state.to_owned());
        Self { program, state, global: Vec::new(), command, arguments: Vec::new(), streams: None }
    }

    /// With an option before the command.
    pub(super) fn globally(mut self, option: &str) -> Self {
        self.global.push(option.into());
        self
    }

    /// With arguments after the command.
    pub(super) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(OsString::from));
        self
    }

    /// With somebody who waits for the terminal.
    pub(super) fn at(self, console: Option<&ConsoleSocket>) -> Self {
        match console {
            Some(console) => self.with(&["--console-socket", &console.path.to_string_lossy()]),
            None => self,
        }
    }

    /// With the standard streams that the container's process inherits.
    pub(super) fn on(mut self, stdio: &Stdio<'_>) -> Result<Self, Failure> {
        if let Stdio::Descriptors(streams) = stdio {
            let copy = |stream: std::os::fd::BorrowedFd<'_>| stream.try_clone_to_owned();
            let [stdin, stdout, stderr] = streams.map(copy);
            let step = || "copy the standard streams";
            self.streams = Some([stdin.step(step)?, stdout.step(step)?, stderr.step(step)?]);
        }
        Ok(self)
    }

    /// Runs it to its end.
    pub(super) fn run(self) -> Result<(), Failure> {
        let (program, command) = (self.program.clone(), self.command);
        let step = || format!("{} {command}", program.display());
        let log = self.state.join(format!("{command}-{}.log", std::process::id()));
        let status = self.command(&log).status().step(step);
        let complaint = complaint(&log);
        // Absent is fine: it had nothing to say.
        fs::remove_file(&log).ok();
        match status? {
            status if status.success() => Ok(()),
            status => Err(Failure::because(step(), complaint.unwrap_or_else(|| status.to_string()))),
        }
    }

    /// Runs it for the process that it leaves in a container: its number, and a descriptor of it.
    pub(super) fn run_for_process(self, container: &str) -> Result<(i32, OwnedFd), Failure> {
        // By our own number: several of these may be under way.
        let file = self.state.join(format!("pid-{}", std::process::id()));
        let step = || format!("read {}", file.display());
        self.with(&["--pid-file", &file.to_string_lossy(), container]).run()?;
        let text = fs::read_to_string(&file).step(step)?;
        fs::remove_file(&file).step(|| format!("remove {}", file.display()))?;
        let pid: i32 = text.trim().parse().step(step)?;
        let pidfd = cleat_sys::process::open_pidfd(pid).step(|| format!("hold process {pid}"))?;
        Ok((pid, pidfd))
    }

    fn command(self, log: &Path) -> Command {
        let mut command = Command::new(self.program);
        command.arg("--root").arg(self.state.join("root"));
        command.arg("--log").arg(log).args(["--log-format", "json"]);
        command.args(self.global).arg(self.command).args(self.arguments);
        match self.streams {
            Some([stdin, stdout, stderr]) => command.stdin(stdin).stdout(stdout).stderr(stderr),
            None => command.stdin(Standard::null()).stdout(Standard::null()).stderr(Standard::null()),
        };
        command
    }
}

/// The last error in a runtime's log.
fn complaint(log: &Path) -> Option<String> {
    let size = fs::metadata(log).ok()?.len();
    let text = if size <= MAX_LOG_BYTES { fs::read_to_string(log).ok()? } else { return None };
    last_error(&text)
}

fn last_error(log: &str) -> Option<String> {
    let entries = log.lines().rev().filter_map(|line| serde_json::from_str::<Entry>(line).ok());
    let mut errors = entries.filter(|entry| matches!(&*entry.level, "error" | "fatal"));
    errors.next().map(|entry| entry.msg)
}

/// A socket on which a runtime hands over the master side of a process's terminal.
#[derive(Debug)]
pub(super) struct ConsoleSocket {
    /// By a descriptor of ours: a socket's name has room for 107 bytes, a state folder may be deeper.
    path: PathBuf,
    _folder: OwnedFd,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Listens, if the process has a terminal.
    pub(super) fn of(stdio: &Stdio<'_>, folder: &Path) -> Result<Option<Self>, Failure> {
        let Stdio::Terminal { .. } = stdio else { return Ok(None) };
        let folder: OwnedFd = fs::File::open(folder).step(|| format!("open {}", folder.display()))?.into();
        let (own, number) = (std::process::id(), folder.as_raw_fd());
        let path = PathBuf::from(format!("/proc/{own}/fd/{number}/tty-{own}"));
        let listener = UnixListener::bind(&path).step(|| format!("listen on {}", path.display()))?;
        Ok(Some(Self { path, _folder: folder, listener }))
    }

    /// The terminal, at its size, once the runtime has sent it.
    pub(super) fn take(self, stdio: &Stdio<'_>) -> Result<OwnedFd, Failure> {
        let step = || "take the terminal";
        let received = self.listener.accept().and_then(|(stream, _)| {
            let mut name = [0; 256];
            cleat_sys::passing::receive(&stream, &mut name)
        });
        fs::remove_file(&self.path).step(|| format!("remove {}", self.path.display()))?;
        let master = received.step(step)?.1.into_iter().next();
        let master = master.ok_or_else(|| Failure::because(step(), "none came"))?;
        if let Stdio::Terminal { height, width } = *stdio
            && (height, width) != (0, 0)
        {
            cleat_sys::pty::set_size(&master.as_fd(), height, width).step(|| "size the terminal")?;
        }
        Ok(master)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_is_told() {
        let log = "{\"level\":\"warning\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\",\"time\":\"t\"}\nnot JSON\n";
        assert_eq!(last_error(log).as_deref(), Some("b"));
        assert_eq!(last_error("{\"msg\":\"a\"}\n"), None);
        assert_eq!(last_error(""), None);
    }

    #[test]
    fn a_failing_program_is_named_with_its_complaint() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("runtime");
        // --root DIR --log FILE ...
        fs::write(
            &program,
            "#!/bin/sh\necho '{\"level\":\"error\",\"msg\":\"no such thing\"}' >\"$4\"\nexit 3\n",
        )
        .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let failure = Invocation::new(&program, folder.path(), "state").with(&["x"]).run().unwrap_err();
        assert!(failure.step.ends_with("runtime state") && failure.reason == "no such thing", "{failure}");
        let missing = Invocation::new(&folder.path().join("none"), folder.path(), "state").run().unwrap_err();
        assert_eq!(missing.errno, Some(2));
    }
}
