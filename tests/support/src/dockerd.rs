//! Debian's dockerd, with its containerd and runc, as the engine to compare with.

use std::env;
use std::fs::{self, File};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries::{repository, tool};
use crate::daemon::await_ready;
use crate::leaks::Scope;
use crate::process::{kill_and_wait, terminate, wait_limited};
use crate::registry::Running;
use crate::world::{Propagation, World};

/// How long it may take to end after SIGTERM; it stops its containers and its containerd first.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long a process may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Lines of its log that are shown when something fails.
const LOG_LINES: usize = 20;

/// A running dockerd with namespaces, folders, socket, registry and cgroup of its own, and otherwise as it comes. Dropped,
/// it takes everything with it that it started.
#[derive(Debug)]
pub struct Dockerd {
    name: String,
    daemon: Child,
    registry: Running,
    world: World,
    folder: TempDir,
}

impl Dockerd {
    /// Starts one, whose bridge has `gateway` ("10.213.0.1/16"), beside a registry with the test images, and waits until it
    /// is ready.
    ///
    /// # Errors
    /// Fails, with its log, when it does not get ready in time, or when it is not installed.
    pub fn start(gateway: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("dd-").tempdir().context("make a folder")?;
        let name = format!("cleat-dockerd-{}", std::process::id());
        let world = World::new(Propagation::Private)?;
        // Its locks and sockets, where it has no setting for them.
        world.shell("mount -t tmpfs tmpfs /run && mkdir /run/lock")?;
        let notify = UnixDatagram::bind(folder.path().join("notify.sock")).context("bind a socket")?;
        let registry = Running::start(&world, &folder.path().join("registry"))?;
        let daemon = match spawn(&world, folder.path(), &name, gateway) {
            Ok(daemon) => daemon,
            Err(error) => {
                registry.stop(&world).context("stop the registry")?;
                return Err(error);
            }
        };
        let dockerd = Self { name, daemon, registry, world, folder };
        await_ready(&dockerd.daemon, notify)
            .with_context(|| format!("start dockerd:\n{}", dockerd.log_end()))?;
        Ok(dockerd)
    }

    /// The namespaces it runs in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Its folder, which is free for the test's own files, too.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The end of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }

    /// Everything that it and what it started have on the host.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let registry = fs::read_to_string(self.folder.path().join("registry/registry.pid")).ok();
        let registry = registry.and_then(|text| text.trim().parse().ok());
        Scope {
            world: self.world.pid(),
            cgroup_parent: format!("/{}", self.name),
            folders: Vec::new(),
            mention: self.folder.path().to_owned(),
            known: [Some(self.daemon.id()), Some(self.world.pid()), registry].into_iter().flatten().collect(),
        }
    }

    /// Ends everything, each step whatever became of the one before, and says what failed.
    fn clean_up(&mut self) -> Vec<anyhow::Error> {
        let mut failures = Vec::new();
        failures.extend(terminate(self.daemon.id()).err());
        failures.extend(wait_limited(self.daemon.id(), STOP_LIMIT).err());
        failures.extend(kill_and_wait(self.daemon.id(), KILL_LIMIT).err());
        failures.extend(self.daemon.wait().context("wait for dockerd").err());
        failures.extend(self.scope().kill_processes(KILL_LIMIT).err());
        failures.extend(self.registry.stop(&self.world).err());
        failures.extend(self.scope().remove_cgroups().err());
        failures
    }
}

/// Starts the one that hack/deps unpacked, with containerd and runc from the machine.
fn spawn(world: &World, folder: &Path, name: &str, gateway: &str) -> Result<Child> {
    let tools = repository().join("target/tools");
    let programs = tools.join("docker.io/usr/sbin");
    ensure!(programs.join("dockerd").is_file(), "dockerd is missing: run `hack/deps docker-compare`");
    tool("containerd").and_then(|_| tool("runc")).context("run `hack/deps docker-compare`")?;
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs.clone()].into_iter().chain(env::split_paths(&path)))?;
    let log = File::create(folder.join("log")).context("make the log of dockerd")?;
    let mut command = world.command(programs.join("dockerd"));
    command.arg("--host").arg(format!("unix://{}", folder.join("docker.sock").display()));
    for (option, file) in [("--data-root", "root"), ("--exec-root", "state"), ("--pidfile", "pid")] {
        command.arg(option).arg(folder.join(file));
    }
    command.arg("--init-path").arg(tools.join("tini/usr/bin/tini-static"));
    command.args(["--cgroup-parent", &format!("/{name}"), "--bip", gateway]);
    command.args(["--exec-opt", "native.cgroupdriver=cgroupfs"]);
    command.env("PATH", path).env("NOTIFY_SOCKET", folder.join("notify.sock"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().context("start dockerd")
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        for failure in self.clean_up() {
            eprintln!("{}: clean up: {failure:#}", self.name);
        }
    }
}
