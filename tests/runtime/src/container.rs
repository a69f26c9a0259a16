//! A container of the runtime under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::{Bundle, assert_nothing_left, limited, runtime};

/// How long a state may take to be reached.
const STATE_PATIENCE: Duration = Duration::from_secs(10);

/// A container with an id and a state folder of its own; deleted by force, and checked for leaks, when dropped.
#[derive(Debug)]
pub struct Container {
    /// Unique on the host.
    pub id: String,
    bundle: PathBuf,
    /// From the root of a hierarchy.
    cgroup: String,
    root: TempDir,
    /// PATH, unless it is the test's.
    path: Option<PathBuf>,
}

impl Container {
    /// Names a container of `bundle`, whose configuration is written with a cgroup of the container's own.
    ///
    /// # Panics
    /// When the bundle cannot be written.
    #[must_use]
    pub fn new(bundle: &mut Bundle) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("ct{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (path, cgroup) = if is_systemd() {
            (format!("cleat-test.slice:ct:{id}"), format!("cleat.slice/cleat-test.slice/ct-{id}.scope"))
        } else {
            (format!("/{id}"), id.clone())
        };
        bundle.spec["linux"]["cgroupsPath"] = path.into();
        bundle.write();
        let root = tempfile::Builder::new().prefix("cleat-state-").tempdir().expect("a folder can be made");
        Self { id, bundle: bundle.path().into(), cgroup, root, path: None }
    }

    /// The runtime with this container's state folder.
    #[must_use]
    pub fn command(&self, command: &str) -> Command {
        let mut runtime = self.global();
        runtime.arg(command).stdin(Stdio::null());
        runtime
    }

    /// The runtime with the options before a command.
    fn global(&self) -> Command {
        let mut runtime = match &self.path {
            Some(path) => {
                let mut command = limited(Path::new("/usr/bin/env"));
                command.arg(format!("PATH={}", path.display())).arg(runtime());
                command
            }
            None => limited(&runtime()),
        };
        runtime.arg("--root").arg(self.root.path());
        if is_systemd() {
            runtime.arg("--systemd-cgroup");
        }
        runtime
    }

    /// `run`, to its end.
    #[must_use]
    pub fn run(&self) -> Output {
        output(self.command("run").arg("--bundle").arg(&self.bundle).arg(&self.id))
    }

    /// `create`; the container writes to the bundle's file `output`.
    #[must_use]
    pub fn create(&self) -> Output {
        let file = fs::File::create(self.output_path()).expect("the output can be written");
        let errors = self.bundle.join("errors");
        let mut command = self.global();
        command.arg("--log").arg(&errors).arg("create");
        command.arg("--bundle").arg(&self.bundle).arg(&self.id).stdin(Stdio::null());
        command.stdout(file.try_clone().expect("a file can be shared")).stderr(file);
        let status = command.status().expect("the runtime can be run");
        Output { status, stdout: Vec::new(), stderr: fs::read(errors).unwrap_or_default() }
    }

    /// What a created container has written.
    #[must_use]
    pub fn output(&self) -> String {
        fs::read_to_string(self.output_path()).unwrap_or_default()
    }

    fn output_path(&self) -> PathBuf {
        self.bundle.join("output")
    }

    /// A command that takes nothing but the id.
    #[must_use]
    pub fn simple(&self, command: &str) -> Output {
        output(self.command(command).arg(&self.id))
    }

    /// `kill`.
    #[must_use]
    pub fn kill(&self, signal: &str) -> Output {
        output(self.command("kill").args([&self.id, signal]))
    }

    /// `exec` of a program.
    #[must_use]
    pub fn exec(&self, options: &[&str], program: &[&str]) -> Output {
        output(self.command("exec").args(options).arg(&self.id).args(program))
    }

    /// `create` and `start`.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn start(&self) {
        let created = self.create();
        assert!(created.status.success(), "create: {}{}", crate::text(&created), self.output());
        let started = self.simple("start");
        assert!(started.status.success(), "start: {}", crate::text(&started));
    }

    /// `state`, as JSON.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn state(&self) -> Value {
        serde_json::from_slice(&self.simple("state").stdout).expect("state prints JSON")
    }

    /// Waits until the container has this status.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn await_status(&self, wanted: &str) {
        self.wait_for(&format!("status {wanted}"), || self.state()["status"] == wanted);
    }

    /// Waits until the container has written this.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn await_output(&self, wanted: &str) {
        self.wait_for(&format!("output {wanted:?}"), || self.output().contains(wanted));
    }

    /// Waits until the number in a file has grown twice: what writes it is at work.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn await_growth(&self, file: &Path) {
        let read = || fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
        let before = read().unwrap_or(0);
        self.wait_for(&format!("{} grow", file.display()), || read().is_some_and(|now| now > before + 1));
    }

    /// Has the runtime look for programs in this folder alone.
    pub fn set_path(&mut self, folder: &Path) {
        self.path = Some(folder.to_owned());
    }

    fn wait_for(&self, what: &str, reached: impl Fn() -> bool) {
        let deadline = Instant::now() + STATE_PATIENCE;
        while !reached() {
            assert!(Instant::now() < deadline, "{} never had {what}; output: {}", self.id, self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The folder of the container's cgroup in the hierarchy of a controller.
    #[must_use]
    pub fn cgroup(&self, controller: &str) -> PathBuf {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        if v1.is_dir() { v1.join(&self.cgroup) } else { Path::new("/sys/fs/cgroup").join(&self.cgroup) }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let deleted = output(self.command("delete").args(["--force", &self.id]));
        if std::thread::panicking() {
            return;
        }
        assert!(deleted.status.success(), "delete: {}", crate::text(&deleted));
        assert_nothing_left(&self.id, &self.bundle);
        crate::leaks::assert_no_cgroup(&self.cgroup);
        let left: Vec<_> = fs::read_dir(self.root.path()).expect("the state folder is there").collect();
        assert!(left.is_empty(), "the state folder still has {left:?}");
    }
}

/// Whether systemd is to make the cgroups: `CLEAT_TEST_CGROUP_DRIVER=systemd`, in a machine where it is process 1.
fn is_systemd() -> bool {
    std::env::var_os("CLEAT_TEST_CGROUP_DRIVER").is_some_and(|driver| driver == "systemd")
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the runtime can be run")
}
