//! A network and a mount namespace of a test's own.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::machine::patience;
use crate::process::{kill_and_wait, pidfd_of, poll_readable};

/// Whether mounts made in a [`World`] reach namespaces copied from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They do not.
    Private,
    /// They do; tests of mount propagation need it.
    Shared,
}

/// The namespaces, held by a process that ends with the test: its standard input is a pipe from here.
#[derive(Debug)]
pub struct World {
    holder: Child,
}

/// How long making the namespaces may take.
const MAKE_LIMIT: Duration = Duration::from_secs(10);

/// How long the holder may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

impl World {
    /// Makes the namespaces, with the loopback interface up and the mounts of this process.
    ///
    /// # Errors
    /// Fails without root.
    pub fn new(propagation: Propagation) -> Result<Self> {
        let mode = match propagation {
            Propagation::Private => "private",
            Propagation::Shared => "shared",
        };
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", mode, "--"]);
        command.args(["sh", "-c", "ip link set lo up && echo ready && exec cat >/dev/null"]);
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start unshare")?;
        let mut world = Self { holder };
        world.await_ready().context("make network and mount namespaces (needs root)")?;
        Ok(world)
    }

    fn await_ready(&mut self) -> Result<()> {
        let output = self.holder.stdout.take().context("output of unshare")?;
        let output = output.into();
        poll_readable(&[&output, &pidfd_of(&self.holder)?], MAKE_LIMIT)?;
        let mut line = String::new();
        BufReader::new(std::fs::File::from(output)).read_line(&mut line).context("read from unshare")?;
        ensure!(line == "ready\n", "unshare said {line:?}");
        Ok(())
    }

    /// The process that holds the namespaces.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// `program` to be run inside. The process started is the program itself, not a wrapper.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.pid();
        command.arg(format!("--net=/proc/{pid}/ns/net")).arg(format!("--mount=/proc/{pid}/ns/mnt"));
        command.arg("--").arg(program);
        command
    }

    /// Runs `program` inside to its end; kills it after `limit`.
    ///
    /// # Errors
    /// Fails when it cannot be started or did not end in time; not when it ends with a code other than 0.
    pub fn run(&self, program: impl AsRef<OsStr>, arguments: &[&OsStr], limit: Duration) -> Result<Output> {
        let limit = patience(limit);
        let mut command = self.command("timeout");
        command.arg("--kill-after=1").arg(format!("{}", limit.as_secs().max(1)));
        command.arg(program.as_ref()).args(arguments).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("run {command:?}"))?;
        // timeout(1) ends with 124 when it had to step in, 137 when it had to kill.
        let stopped = matches!(output.status.code(), Some(124 | 137));
        ensure!(!stopped, "no end after {} s: {command:?}", limit.as_secs());
        Ok(output)
    }

    /// Runs the line `script` with `sh` inside and returns what it wrote.
    ///
    /// # Errors
    /// Fails when it ends with a code other than 0 or takes longer than a minute.
    pub fn shell(&self, script: &str) -> Result<String> {
        let output = self.run("sh", &["-c".as_ref(), script.as_ref()], Duration::from_secs(60))?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{script}: {}\n{errors}", output.status);
        String::from_utf8(output.stdout).with_context(|| format!("output of {script}"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Err(error) = kill_and_wait(self.holder.id(), END_LIMIT) {
            eprintln!("world: {error:#}");
        }
        if let Err(error) = self.holder.wait() {
            eprintln!("world: wait for process {}: {error}", self.holder.id());
        }
    }
}
