//! An engine under test.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_test_support::{Cleat, Client, World, tool};
use serde_json::Value;
use tempfile::TempDir;

use crate::BUSYBOX;

/// How long one command may take.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A daemon with the Docker Engine API. All of it goes when it is dropped.
pub struct Engine {
    cleat: Cleat,
    docker: PathBuf,
    folder: TempDir,
}

/// What a command said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Its output, without the last line break.
    pub out: String,
    /// Its error output, without the last line break.
    pub err: String,
}

impl Said {
    fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
        Self {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }
}

/// Runs `body` on an engine that has busybox, then removes every container, network and image and looks for leaks. A failure is a
/// panic while the engine still exists, so that its log is kept and shown.
///
/// # Panics
/// When the test fails.
#[track_caller]
pub fn check(body: impl FnOnce(&mut Engine) -> Result<()>) {
    let mut engine = match Engine::start() {
        Ok(engine) => engine,
        Err(error) => panic!("{error:?}"),
    };
    let outcome = (|| {
        // A first container makes what stays: the bridge, the firewall's table, cgroups of the parent.
        engine.run(&["pull", "-q", BUSYBOX])?;
        engine.run(&["run", "--rm", BUSYBOX, "true"])?;
        let before = engine.cleat.snapshot()?;
        body(&mut engine)?;
        engine.clear()?;
        engine.run(&["pull", "-q", BUSYBOX])?;
        before.leaks(&engine.cleat.snapshot()?).none()
    })();
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

impl Engine {
    /// Starts one without images, for a program that is no test; a test is a body of [`check`].
    ///
    /// # Errors
    /// Fails when the daemon does not get ready.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("cd-").tempdir().context("make a folder")?;
        let listen = format!("docker.listen = \"unix://{}/docker.sock\"\n", folder.path().display());
        let cleat = Cleat::builder().registry().settings(&listen).start()?;
        Ok(Self { cleat, docker: tool("docker")?, folder })
    }

    /// The daemon.
    pub fn cleat(&mut self) -> &mut Cleat {
        &mut self.cleat
    }

    /// The namespaces it runs in.
    #[must_use]
    pub fn world(&self) -> &World {
        self.cleat.world()
    }

    /// The socket of the Docker Engine API.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// A folder of the test's own.
    #[must_use]
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.client(&self.docker, arguments)
    }

    fn client(&self, program: &std::path::Path, arguments: &[&str]) -> Command {
        let mut command = self.cleat.world().command(program);
        let folder = self.folder.path().display();
        command.env("DOCKER_HOST", format!("unix://{folder}/docker.sock"));
        command.env("DOCKER_CONFIG", self.folder.path().join("config"));
        command.env_remove("DOCKER_CONTEXT").args(arguments);
        command
    }

    /// Runs `docker ARGUMENTS...`, whatever it ends with.
    ///
    /// # Errors
    /// Fails when it does not end within a minute.
    pub fn docker(&self, arguments: &[&str]) -> Result<Said> {
        self.docker_with(arguments, b"")
    }

    /// The same with this for standard input.
    ///
    /// # Errors
    /// Fails when it does not end within a minute.
    pub fn docker_with(&self, arguments: &[&str], input: &[u8]) -> Result<Said> {
        let mut client = Client::spawn(self.command(arguments))?;
        client.write(input)?;
        drop(client.take_stdin());
        let output = client.finish(CALL_LIMIT).with_context(|| format!("docker {arguments:?}"))?;
        Ok(Said::of(&output))
    }

    /// Runs `docker-compose -f FILE ARGUMENTS...` and returns its output. Its progress goes to its error output.
    ///
    /// # Errors
    /// Fails, with what it said, when it ends with a code other than 0.
    pub fn compose(&self, file: &std::path::Path, arguments: &[&str]) -> Result<String> {
        let mut command = self.client(&tool("docker-compose")?, &["--progress", "plain", "-f"]);
        command.arg(file).args(arguments).stdin(Stdio::null());
        let said = Said::of(&Client::spawn(command)?.finish(CALL_LIMIT)?);
        ensure!(said.code == 0, "docker-compose {arguments:?}: {said:?}");
        Ok(said.out)
    }

    /// Starts `docker ARGUMENTS...` with a pipe at each of its streams.
    ///
    /// # Errors
    /// Fails when it cannot be started.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Client> {
        Client::spawn(self.command(arguments))
    }

    /// Runs `docker ARGUMENTS...` and returns its output.
    ///
    /// # Errors
    /// Fails, with what it said, when it ends with a code other than 0.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        let said = self.docker(arguments)?;
        ensure!(said.code == 0, "docker {arguments:?}: {said:?}");
        Ok(said.out)
    }

    /// One request by curl: its status and its body.
    ///
    /// # Errors
    /// Fails when curl does.
    pub fn curl(&self, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
        let socket = self.socket();
        let mut command = self.cleat.world().command(tool("curl")?);
        command.args(["-sS", "--max-time", "60", "-X", method, "-w", "\n%{http_code}"]);
        command.args(["-H", "Content-Type: application/json", "-d", body, "--unix-socket"]).arg(socket);
        command.arg(format!("http://d{path}")).stdin(Stdio::null());
        let output = command.output().context("run curl")?;
        let said = Said::of(&output);
        ensure!(said.code == 0, "curl {method} {path}: {said:?}");
        let (text, status) = said.out.rsplit_once('\n').context("curl told no status")?;
        Ok((status.parse()?, text.trim_end().to_owned()))
    }

    /// The same, the body being JSON.
    ///
    /// # Errors
    /// Fails when curl does, or the body is no JSON.
    pub fn json(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let (status, text) = self.curl(method, path, body)?;
        Ok((status, serde_json::from_str(&text).with_context(|| format!("the answer to {path}: {text:?}"))?))
    }

    /// Removes every container, network and image.
    fn clear(&self) -> Result<()> {
        let containers = self.run(&["ps", "-aq"])?;
        if !containers.is_empty() {
            let all: Vec<&str> = ["rm", "-f"].into_iter().chain(containers.lines()).collect();
            self.run(&all)?;
        }
        self.run(&["network", "prune", "-f"])?;
        self.run(&["image", "prune", "-a", "-f"]).map(drop)
    }
}
