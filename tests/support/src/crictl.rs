//! The real crictl, pointed at one daemon.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::binaries::tool;
use crate::client::{Client, Terminal};
use crate::machine::patience;
use crate::world::World;

/// How long one call may take, unless told otherwise.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long crictl waits for one answer of the daemon.
const ANSWER_LIMIT: Duration = Duration::from_secs(50);

/// crictl for the daemon at one socket.
#[derive(Debug)]
pub struct Crictl<'w> {
    world: &'w World,
    program: PathBuf,
    config: PathBuf,
}

impl<'w> Crictl<'w> {
    /// crictl in `world` for the daemon at `socket`; its configuration is kept in `folder`, so that the machine's own
    /// never counts.
    ///
    /// # Errors
    /// Fails when crictl is not installed.
    pub fn new(world: &'w World, socket: &Path, folder: &Path) -> Result<Self> {
        let config = folder.join("crictl.yaml");
        let socket = socket.display();
        let answer_s = patience(ANSWER_LIMIT).as_secs();
        let text = format!(
            "runtime-endpoint: unix://{socket}\nimage-endpoint: unix://{socket}\ntimeout: {answer_s}\n"
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        Ok(Self { world, program: tool("crictl")?, config })
    }

    /// Runs `crictl ARGUMENTS...`, whatever it ends with.
    ///
    /// # Errors
    /// Fails when it does not end within a minute.
    pub fn output(&self, arguments: &[&str]) -> Result<Output> {
        let config: [&OsStr; 2] = ["--config".as_ref(), self.config.as_ref()];
        let all: Vec<&OsStr> = config.into_iter().chain(arguments.iter().map(OsStr::new)).collect();
        self.world.run(&self.program, &all, CALL_LIMIT)
    }

    /// `crictl ARGUMENTS...`, to be run with whatever streams.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.world.command(&self.program);
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// Starts `crictl ARGUMENTS...` with a pipe at each of its streams.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Client> {
        Client::spawn(self.command(arguments))
    }

    /// Starts `crictl ARGUMENTS...` at a terminal of its own, of so many rows and columns.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn_at_terminal(&self, arguments: &[&str], rows: u16, columns: u16) -> Result<Terminal> {
        let mut command = self.world.command("setsid");
        command.args(["--wait", "--ctty"]).arg(&self.program);
        command.arg("--config").arg(&self.config).args(arguments);
        Terminal::spawn(command, rows, columns)
    }

    /// Runs `crictl ARGUMENTS...` and returns its standard output without the last line break.
    ///
    /// # Errors
    /// Fails, with what crictl said, when it ends with a code other than 0.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "crictl {arguments:?}: {}\n{errors}", output.status);
        let text = String::from_utf8(output.stdout).context("crictl's output")?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// Runs `crictl ARGUMENTS...` and reads its output as JSON.
    ///
    /// # Errors
    /// As [`Crictl::run`], and when the output is not JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(arguments)?;
        serde_json::from_str(&text).with_context(|| format!("crictl {arguments:?} wrote no JSON: {text}"))
    }

    /// Runs `crictl ARGUMENTS...`, which has to fail, and returns what it said.
    ///
    /// # Errors
    /// Fails when it succeeds.
    pub fn failure(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        if output.status.success() {
            bail!("crictl {arguments:?} succeeded: {}", String::from_utf8_lossy(&output.stdout));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
