//! Executing one plugin: bounded in time and output, waited for by descriptors alone.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::{CniError, PluginError, request::Command};

/// The longest result in bytes. Plugins print a kilobyte or two.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// How much of the end of standard error is kept for messages, in bytes.
const STDERR_TAIL_BYTES: usize = 4 << 10;

/// How long a killed plugin may take to be gone. One that hangs in the kernel (on a dead network filesystem) is left to
/// it: nothing else can be done, and the pod's operation must not hang as well.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A plugin to be executed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Execution<'a> {
    pub(super) plugin: &'a str,
    pub(super) program: &'a Path,
    pub(super) command: Command,
    pub(super) environment: &'a [(&'static str, String)],
    pub(super) limit: Duration,
}

/// How a plugin ended and what it wrote.
struct Outcome {
    status: ExitStatus,
    output: Vec<u8>,
    stderr: Vec<u8>,
}

impl Execution<'_> {
    /// Executes the plugin with `input`; what it printed, if it succeeded.
    pub(super) fn run(&self, input: &[u8]) -> Result<Vec<u8>, CniError> {
        let failed = |source| self.failed(source);
        let mut running = Running::start(self, input).map_err(failed)?;
        let deadline = Instant::now() + self.limit;
        while !running.step(deadline).map_err(failed)? {
            if running.output.len() > MAX_OUTPUT_BYTES {
                let (plugin, command) = (self.plugin.to_owned(), self.command.as_str());
                return Err(CniError::TooMuchOutput { plugin, command, limit_bytes: MAX_OUTPUT_BYTES });
            }
            if Instant::now() >= deadline {
                let (plugin, command) = (self.plugin.to_owned(), self.command.as_str());
                return Err(CniError::Timeout { plugin, command, limit: self.limit });
            }
        }
        self.judge(running.finish().map_err(failed)?)
    }

    fn judge(&self, outcome: Outcome) -> Result<Vec<u8>, CniError> {
        if outcome.status.success() {
            return Ok(outcome.output);
        }
        let (plugin, command) = (self.plugin.to_owned(), self.command.as_str());
        match serde_json::from_slice::<PluginError>(&outcome.output) {
            Ok(source) => Err(CniError::Plugin { plugin, command, source }),
            Err(_) => {
                let stderr = String::from_utf8_lossy(&outcome.stderr).trim().to_owned();
                Err(CniError::NoReport { plugin, command, status: outcome.status, stderr })
            }
        }
    }

    fn failed(&self, source: io::Error) -> CniError {
        CniError::Execute { plugin: self.plugin.to_owned(), command: self.command.as_str(), source }
    }
}

/// A plugin that runs. It is killed, with the processes of its group, when this is dropped before its end.
struct Running<'a> {
    child: Child,
    pidfd: OwnedFd,
    is_reaped: bool,
    input: &'a [u8],
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    output: Vec<u8>,
    stderr_tail: Vec<u8>,
}

impl<'a> Running<'a> {
    fn start(execution: &Execution<'_>, input: &'a [u8]) -> io::Result<Self> {
        let mut child = std::process::Command::new(execution.program)
            .env("CNI_COMMAND", execution.command.as_str())
            .envs(execution.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that what the plugin starts can be killed with it.
            .process_group(0)
            .spawn()?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let pidfd = match pidfd_open(pid_of(&child), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(errno) => {
                kill_and_wait(&mut child)?;
                return Err(errno.into());
            }
        };
        let (output, stderr_tail) = (Vec::new(), Vec::new());
        let running =
            Self { child, pidfd, is_reaped: false, input, stdin, stdout, stderr, output, stderr_tail };
        running.set_nonblocking()?;
        Ok(running)
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        let ends = [
            self.stdin.as_ref().map(AsFd::as_fd),
            self.stdout.as_ref().map(AsFd::as_fd),
            self.stderr.as_ref().map(AsFd::as_fd),
        ];
        for end in ends.into_iter().flatten() {
            fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(())
    }

    /// Waits until something happens, at most until `deadline`, and deals with it. True when the plugin has ended.
    fn step(&mut self, deadline: Instant) -> io::Result<bool> {
        let has_ended = self.wait(deadline)?;
        self.feed()?;
        // Read after the end was noticed: what the plugin wrote is then in the pipes. A process that it left behind
        // may hold them open, so their end is not waited for.
        drain(&mut self.stdout, |bytes| self.output.extend_from_slice(bytes), MAX_OUTPUT_BYTES)?;
        drain(&mut self.stderr, |bytes| keep_tail(&mut self.stderr_tail, bytes), MAX_OUTPUT_BYTES)?;
        Ok(has_ended && self.output.len() <= MAX_OUTPUT_BYTES)
    }

    /// Waits for the plugin's end, for output, or for room for input. True at its end.
    fn wait(&self, deadline: Instant) -> io::Result<bool> {
        let mut polled = vec![PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        polled.extend(self.stdin.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLOUT)));
        polled.extend(self.stdout.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        polled.extend(self.stderr.as_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        match poll(&mut polled, timeout_until(deadline)) {
            Ok(_) => Ok(polled[0].any().unwrap_or(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Writes what the plugin has room for, and closes its standard input after the last byte.
    fn feed(&mut self) -> io::Result<()> {
        while let Some(stdin) = &mut self.stdin {
            match stdin.write(self.input) {
                Ok(written) => self.input = &self.input[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A plugin that does not read its input may still have an answer.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.input = &[],
                Err(error) => return Err(error),
            }
            if self.input.is_empty() {
                self.stdin = None;
            }
        }
        Ok(())
    }

    /// The outcome of a plugin that has ended.
    fn finish(mut self) -> io::Result<Outcome> {
        let status = self.child.wait()?;
        self.is_reaped = true;
        Ok(Outcome {
            status,
            output: std::mem::take(&mut self.output),
            stderr: std::mem::take(&mut self.stderr_tail),
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        let killed = kill_process_group(pid_of(&self.child), Signal::KILL).map_err(io::Error::from);
        let mut polled = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        let gone = poll(&mut polled, timeout_until(Instant::now() + KILL_GRACE));
        let reaped = match gone {
            Ok(0) => Err(io::Error::from(io::ErrorKind::TimedOut)),
            Ok(_) => self.child.wait().map(drop),
            Err(errno) => Err(errno.into()),
        };
        for error in [killed, reaped].into_iter().filter_map(Result::err) {
            tracing::warn!(
                pid = self.child.id(),
                error = &error as &dyn std::error::Error,
                "kill a CNI plugin"
            );
        }
    }
}

/// Reads what is there, at most `limit` bytes more than once over, and lets go of the pipe at its end.
fn drain<P: Read>(pipe: &mut Option<P>, mut keep: impl FnMut(&[u8]), limit: usize) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    let mut total = 0;
    while let Some(end) = pipe.as_mut().filter(|_| total <= limit) {
        match end.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(length) => {
                keep(&buffer[..length]);
                total += length;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8]) {
    tail.extend_from_slice(bytes);
    let surplus = tail.len().saturating_sub(STDERR_TAIL_BYTES);
    tail.drain(..surplus);
}

/// The time left, rounded up to milliseconds so that no wait ends just before its deadline.
fn timeout_until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_millis() + u128::from(!left.is_zero());
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn kill_and_wait(child: &mut Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

    use super::*;

    struct Script {
        _dir: tempfile::TempDir,
        path: PathBuf,
    }

    /// A plugin that is a shell script.
    fn script(text: &str) -> Script {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Script { _dir: dir, path }
    }

    /// Runs a script; a script that was written while another thread forked is busy for a moment.
    fn run(text: &str, input: &[u8], limit: Duration) -> Result<Vec<u8>, CniError> {
        let script = script(text);
        let environment = [("CNI_CONTAINERID", "abc".to_owned())];
        let execution = Execution {
            plugin: "fake",
            program: &script.path,
            command: Command::Add,
            environment: &environment,
            limit,
        };
        loop {
            match execution.run(input) {
                Err(CniError::Execute { source, .. })
                    if source.kind() == io::ErrorKind::ExecutableFileBusy =>
                {
                    std::thread::yield_now();
                }
                other => return other,
            }
        }
    }

    const AMPLE: Duration = Duration::from_secs(30);

    #[test]
    fn a_plugin_gets_its_input_and_environment_and_answers() {
        let printed = run("echo $CNI_COMMAND $CNI_CONTAINERID; cat", b"{}", AMPLE).unwrap();
        assert_eq!(printed, b"ADD abc\n{}");
    }

    #[test]
    fn input_larger_than_a_pipe_is_passed_while_output_is_read() {
        let input = vec![b'x'; 700_000];
        assert_eq!(run("cat", &input, AMPLE).unwrap(), input);
    }

    #[test]
    fn a_plugin_that_reads_nothing_may_succeed() {
        assert_eq!(run("exec <&-; echo done", &vec![b'x'; 700_000], AMPLE).unwrap(), b"done\n");
    }

    #[test]
    fn a_report_is_decoded() {
        let refused = run(
            r#"echo '{"cniVersion":"1.0.0","code":11,"msg":"later","details":"busy"}'; exit 1"#,
            b"",
            AMPLE,
        );
        let Err(CniError::Plugin { source, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(source.code, PluginError::TRY_AGAIN_LATER);
        assert_eq!(source.to_string(), "later (code 11): busy");
    }

    #[test]
    fn a_failure_without_a_report_shows_the_end_of_standard_error() {
        let refused = run("head -c 100000 /dev/zero | tr '\\0' x >&2; echo boom >&2; exit 3", b"", AMPLE);
        let Err(CniError::NoReport { status, stderr, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(status.code(), Some(3));
        assert!(stderr.ends_with("xxboom") || stderr.ends_with("x\nboom"), "{stderr}");
        assert!(stderr.len() <= STDERR_TAIL_BYTES);
    }

    #[test]
    fn a_hanging_plugin_is_killed_with_what_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("pid");
        let text = format!("sleep 1000 & echo $! >{}; wait", pid_file.display());
        let refused = run(&text, b"", Duration::from_millis(500));
        assert!(matches!(refused, Err(CniError::Timeout { .. })), "{refused:?}");
        let pid = fs::read_to_string(&pid_file).unwrap();
        // The orphan is a zombie until the init process reaps it.
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z ") || stat.contains(") X "), "{stat}");
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_result_up() {
        let started = Instant::now();
        assert_eq!(run("sleep 20 & echo done", b"", AMPLE).unwrap(), b"done\n");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn output_is_bounded() {
        for text in ["cat /dev/zero", "head -c 2000000 /dev/zero"] {
            let refused = run(text, b"", AMPLE);
            assert!(matches!(refused, Err(CniError::TooMuchOutput { .. })), "{text}: {refused:?}");
        }
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_named() {
        let execution = Execution {
            plugin: "fake",
            program: Path::new("/nonexistent/fake"),
            command: Command::Del,
            environment: &[],
            limit: AMPLE,
        };
        let error = execution.run(b"").unwrap_err();
        assert_eq!(error.to_string(), "execute CNI plugin fake for DEL");
    }
}
