//! A `cleatd` of a test's own.

use std::fs::{self, File, OpenOptions};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::binaries::binary;
use crate::crictl::Crictl;
use crate::leaks::{Scope, Snapshot};
use crate::machine::has_systemd_driver;
use crate::process::{Ended, kill_and_wait, pidfd_of, poll_readable, terminate, wait_limited};
use crate::registry::{REGISTRY_PORT, Running};
use crate::world::{Propagation, World};

/// How long a daemon may take to say that it is ready.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// How long a daemon may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long a process may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Lines of the daemon's log that are shown when a test fails.
const LOG_LINES: usize = 60;

/// What a [`Cleat`] is started with.
#[derive(Debug)]
pub struct CleatBuilder {
    propagation: Propagation,
    registry: bool,
    settings: String,
}

/// A running daemon with namespaces, folders, socket, cgroup and configuration of its own. Dropped, it takes everything
/// with it that it started. Dropped by a panic, it keeps its folder and shows the end of the daemon's log: a test fails by
/// a panic while the guard exists, not by an error it returns.
#[derive(Debug)]
pub struct Cleat {
    name: String,
    daemon: Option<Child>,
    registry: Option<Running>,
    world: World,
    folder: Option<TempDir>,
    path: PathBuf,
}

impl CleatBuilder {
    /// Makes mounts in the daemon's world propagate.
    #[must_use]
    pub fn shared_mounts(mut self) -> Self {
        self.propagation = Propagation::Shared;
        self
    }

    /// Starts a registry with the test images, reached as `registry.k8s.io/cleat-test/...` and by its own address.
    #[must_use]
    pub fn registry(mut self) -> Self {
        self.registry = true;
        self
    }

    /// Adds TOML to the daemon's configuration, as a drop-in.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// Fails, with the end of its log, when it does not get ready in time.
    pub fn start(self) -> Result<Cleat> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("cleat-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix("ct-").tempdir().context("make a folder")?;
        let path = folder.path().to_owned();
        write_configuration(&path, &name, &self.settings)?;
        let world = World::new(self.propagation)?;
        let mut cleat = Cleat { name, daemon: None, registry: None, world, folder: Some(folder), path };
        if self.registry {
            cleat.registry = Some(Running::start(&cleat.world, &cleat.path.join("registry"))?);
        }
        cleat.start()?;
        Ok(cleat)
    }
}

/// The parent of the cgroups of the daemon `name`, from the root of each hierarchy.
fn cgroup_parent(name: &str) -> String {
    // A dash in a slice's name would put it in another slice.
    if has_systemd_driver() { format!("/{}.slice", name.replace('-', "_")) } else { format!("/{name}") }
}

fn write_configuration(path: &Path, name: &str, settings: &str) -> Result<()> {
    let shown = path.display();
    let driver = if has_systemd_driver() { "systemd" } else { "cgroupfs" };
    let main = format!(
        "root = \"{shown}/root\"\nstate = \"{shown}/state\"\nlisten = \"unix://{shown}/cleat.sock\"\n\
         [log]\nlevel = \"debug\"\n[cgroup]\ndriver = \"{driver}\"\nparent = \"{}\"\n\
         [image]\nregistries_conf = \"{shown}/registries.conf\"\nregistries_conf_dir = \"{shown}/registries.conf.d\"\n\
         [network]\ncni_conf_dir = \"{shown}/cni\"\n",
        cgroup_parent(name)
    );
    let address = format!("127.0.0.1:{REGISTRY_PORT}");
    let mut registries = format!("[[registry]]\nlocation = \"{address}\"\ninsecure = true\n");
    for host in ["registry.k8s.io", "k8s.gcr.io", "gcr.io", "docker.io"] {
        registries.push_str(&format!(
            "[[registry]]\nlocation = \"{host}\"\n[[registry.mirror]]\nlocation = \"{address}\"\ninsecure = true\n"
        ));
    }
    fs::create_dir(path.join("cleat.toml.d")).context("make the folder of drop-ins")?;
    for (file, text) in [
        ("cleat.toml", main.as_str()),
        ("cleat.toml.d/50-test.toml", settings),
        ("registries.conf", registries.as_str()),
    ] {
        fs::write(path.join(file), text).with_context(|| format!("write {file}"))?;
    }
    Ok(())
}

impl Cleat {
    /// How to start one.
    #[must_use]
    pub fn builder() -> CleatBuilder {
        CleatBuilder { propagation: Propagation::Private, registry: false, settings: String::new() }
    }

    /// Starts one with a registry and default settings.
    ///
    /// # Errors
    /// As [`CleatBuilder::start`].
    pub fn new() -> Result<Self> {
        Self::builder().registry().start()
    }

    /// Starts the daemon again, after [`Cleat::kill`] or [`Cleat::terminate`], and waits until it is ready.
    ///
    /// # Errors
    /// Fails when it runs, or does not get ready in time.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.daemon.is_none(), "the daemon runs already");
        let notify_path = self.path.join("notify.sock");
        if notify_path.exists() {
            fs::remove_file(&notify_path).context("remove the old notification socket")?;
        }
        let notify = UnixDatagram::bind(&notify_path).context("bind the notification socket")?;
        let mut command = self.world.command(binary("cleatd")?);
        command.arg("--config").arg(self.path.join("cleat.toml"));
        command.env("NOTIFY_SOCKET", &notify_path).env("RUST_BACKTRACE", "1");
        command.stdin(Stdio::null()).stdout(self.open_log()?).stderr(self.open_log()?);
        let daemon = command.spawn().context("start cleatd")?;
        let ready = await_ready(&daemon, notify);
        self.daemon = Some(daemon);
        ready.with_context(|| format!("start cleatd; its log ends so:\n{}", self.log_end()))
    }

    fn open_log(&self) -> Result<File> {
        OpenOptions::new().create(true).append(true).open(self.log_path()).context("open the daemon's log")
    }

    /// Kills the daemon with SIGKILL, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// Fails when it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        kill_and_wait(daemon.id(), KILL_LIMIT)?;
        daemon.wait().context("wait for cleatd")?;
        Ok(())
    }

    /// Kills the daemon and starts it again.
    ///
    /// # Errors
    /// As [`Cleat::kill`] and [`Cleat::start`].
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.kill()?;
        self.start()
    }

    /// Asks the daemon to end with SIGTERM and waits until it has.
    ///
    /// # Errors
    /// Fails when it does not run or does not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        terminate(daemon.id())?;
        if wait_limited(daemon.id(), STOP_LIMIT)? == Ended::No {
            let log = self.log_end();
            self.daemon = Some(daemon);
            bail!("cleatd did not end {} s after SIGTERM; its log ends so:\n{log}", STOP_LIMIT.as_secs());
        }
        daemon.wait().context("wait for cleatd")
    }

    /// Ends the daemon with SIGTERM and cleans up, for tests of an orderly end.
    ///
    /// # Errors
    /// Fails when the daemon does not end with code 0, or something cannot be cleaned up.
    pub fn finish(mut self) -> Result<()> {
        if self.daemon.is_some() {
            let status = self.terminate()?;
            ensure!(status.success(), "cleatd ended with {status} after SIGTERM");
        }
        if let Some(failure) = self.clean_up().into_iter().next() {
            return Err(failure.context("clean up"));
        }
        Ok(())
    }

    /// The daemon's process id; none while it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.daemon.as_ref().map(Child::id)
    }

    /// The namespaces it runs in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// crictl for it.
    ///
    /// # Errors
    /// Fails when crictl is not installed.
    pub fn crictl(&self) -> Result<Crictl<'_>> {
        Crictl::new(&self.world, &self.socket(), &self.path)
    }

    /// The test's folder, which holds everything below and is free for the test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// Its root folder.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.path.join("root")
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.path.join("cleat.sock")
    }

    /// Its cgroup parent, from the root of each hierarchy.
    #[must_use]
    pub fn cgroup_parent(&self) -> String {
        cgroup_parent(&self.name)
    }

    /// Its log.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.path.join("cleatd.log")
    }

    fn log_end(&self) -> String {
        let text = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n")
    }

    /// Everything that this daemon and what it started have on the host.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope {
            world: self.world.pid(),
            cgroup_parent: self.cgroup_parent(),
            folders: vec![self.root(), self.state()],
            mention: self.path.clone(),
            // The daemon, the registry and the holder of the namespaces are the test's, not leaks.
            known: [self.pid(), Some(self.world.pid()), self.registry_pid()].into_iter().flatten().collect(),
        }
    }

    fn registry_pid(&self) -> Option<u32> {
        let text = fs::read_to_string(self.path.join("registry/registry.pid")).ok()?;
        text.trim().parse().ok()
    }

    /// What exists now in its scope.
    ///
    /// # Errors
    /// Fails when something cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Snapshot::take(&self.scope())
    }

    /// Ends everything, each step whatever became of the one before, and says what failed.
    fn clean_up(&mut self) -> Vec<anyhow::Error> {
        let mut failures = Vec::new();
        if self.daemon.is_some() {
            failures.extend(self.kill().err());
        }
        failures.extend(self.scope().kill_processes(KILL_LIMIT).err());
        if let Some(registry) = self.registry.take() {
            failures.extend(registry.stop(&self.world).err());
        }
        failures.extend(self.scope().remove_cgroups().err());
        failures
    }
}

/// Waits for `READY=1` (sd_notify(3)) or the daemon's end.
pub(crate) fn await_ready(daemon: &Child, notify: UnixDatagram) -> Result<()> {
    let ended = pidfd_of(daemon)?;
    let socket = notify.try_clone().context("clone the notification socket")?.into();
    loop {
        let readable = poll_readable(&[&socket, &ended], READY_LIMIT)?;
        let mut message = [0; 4096];
        if readable.first() == Some(&true) {
            let length = notify.recv(&mut message).context("receive a notification")?;
            let text = String::from_utf8_lossy(message.get(..length).unwrap_or_default()).into_owned();
            if text.lines().any(|line| line == "READY=1") {
                return Ok(());
            }
        } else if readable.get(1) == Some(&true) {
            bail!("it ended before it was ready");
        } else {
            bail!("it was not ready after {} s", READY_LIMIT.as_secs());
        }
    }
}

impl Drop for Cleat {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("{}: the log of cleatd ends so:\n{}", self.name, self.log_end());
        }
        for failure in self.clean_up() {
            eprintln!("{}: clean up: {failure:#}", self.name);
        }
        match self.folder.take() {
            Some(folder) if failed => eprintln!("{}: kept {}", self.name, folder.keep().display()),
            folder => drop(folder),
        }
    }
}
