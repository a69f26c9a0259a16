//! Starts a monitor, and sees to it that nothing of it stays.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Instant;

use cleat_conmon_proto::{
    EXIT_RECORD_NAME, ExitRecord, Launch, Log, Message, Request, Rootfs, SOCKET_NAME, Stdin, VERSION,
};
use cleat_sys::cgroup::{Cgroup, Layout};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use super::{Bundle, Client, PATIENCE, eventually};

/// A monitor and its container.
pub(crate) struct Fixture {
    pub(crate) bundle: Bundle,
    pub(crate) monitor: Child,
    /// The launch connection.
    pub(crate) client: Client,
    /// The container's init, in this process's pid namespace.
    pub(crate) pid: i32,
}

/// The launch of `bundle` with a log and no input.
pub(crate) fn launch_of(bundle: &Bundle) -> Launch {
    Launch {
        version: VERSION,
        id: bundle.id.clone(),
        bundle: bundle.path().into(),
        state_dir: bundle.state_dir(),
        rootfs: Rootfs::Ready,
        log: Some(Log::Cri { path: bundle.log_path(), rotation: None }),
        stdin: Stdin::Null,
        runtime: None,
        terminal: false,
    }
}

/// The monitor's binary in a sealed memfd, as the daemon keeps it.
pub(crate) fn sealed_monitor() -> OwnedFd {
    let memfd = memfd_create("cleat-conmon", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memfd);
    file.write_all(&fs::read(env!("CARGO_BIN_EXE_cleat-conmon")).unwrap()).unwrap();
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE).unwrap();
    file.into()
}

/// A monitor that waits for its launch, and the connection to it.
pub(crate) fn spawn_monitor(program: &OwnedFd, complaints: &Path) -> (Child, Client) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stderr = File::options().create(true).append(true).open(complaints).unwrap();
    let monitor = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .unwrap();
    (monitor, Client::new(ours))
}

impl Fixture {
    /// A created container that runs `script` once it is started.
    pub(crate) fn create(script: &str) -> Self {
        Self::launch(Bundle::new(script), |_| {})
    }

    /// A started container.
    pub(crate) fn start(script: &str) -> Self {
        let fixture = Self::create(script);
        fixture.client.ask_done(&Request::Start);
        fixture
    }

    /// A created container from `bundle`, launched as `change` says.
    pub(crate) fn launch(bundle: Bundle, change: impl FnOnce(&mut Launch)) -> Self {
        match Self::try_launch(bundle, change) {
            (mut fixture, Message::Created { pid }) => {
                fixture.pid = pid;
                fixture
            }
            (_, other) => panic!("the container should have been created, but: {other:?}"),
        }
    }

    /// As [`Fixture::launch`], with whatever the monitor answers.
    pub(crate) fn try_launch(bundle: Bundle, change: impl FnOnce(&mut Launch)) -> (Self, Message) {
        let mut launch = launch_of(&bundle);
        change(&mut launch);
        let fixture = Self::send_launch(bundle, &launch);
        let answer = fixture.client.expect();
        (fixture, answer)
    }

    /// A monitor that was told to create a container; nobody waits for its answer.
    pub(crate) fn abandon(bundle: Bundle) -> Self {
        let launch = launch_of(&bundle);
        Self::send_launch(bundle, &launch)
    }

    fn send_launch(bundle: Bundle, launch: &Launch) -> Self {
        bundle.write();
        let (monitor, client) = spawn_monitor(&sealed_monitor(), &bundle.path().join("complaints"));
        let fixture = Self { bundle, monitor, client, pid: 0 };
        fixture.client.send(launch);
        fixture
    }

    /// Closes the launch connection.
    pub(crate) fn hang_up(&mut self) {
        let (unused, _) = UnixStream::pair().unwrap();
        self.client = Client::new(unused);
    }

    /// One more connection, by the monitor's socket.
    pub(crate) fn connect(&self) -> Client {
        Client::new(UnixStream::connect(self.bundle.state_dir().join(SOCKET_NAME)).unwrap())
    }

    /// The exit record on disk.
    pub(crate) fn record(&self) -> Option<ExitRecord> {
        let json = fs::read(self.bundle.state_dir().join(EXIT_RECORD_NAME)).ok()?;
        Some(serde_json::from_slice(&json).unwrap())
    }

    pub(crate) fn log(&self) -> Vec<u8> {
        fs::read(self.bundle.log_path()).unwrap()
    }

    /// What the monitor said on its standard error.
    pub(crate) fn complaints(&self) -> String {
        fs::read_to_string(self.bundle.path().join("complaints")).unwrap()
    }

    /// Open descriptors of the monitor.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.monitor.id())).unwrap().count()
    }

    /// Memory that the monitor has for itself, in KiB: `Anonymous` of smaps_rollup. (The pages of a memfd's program count
    /// as private and dirty where only one process runs it.)
    pub(crate) fn private_kib(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.monitor.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("Anonymous:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Waits for the monitor's own end.
    pub(crate) fn wait_monitor(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.monitor.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the monitor should have ended");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }

    /// The container's cgroup.
    pub(crate) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&Layout::detect().unwrap(), &format!("/{}", self.bundle.id)).unwrap()
    }

    /// Folders of the container's cgroup that still exist.
    pub(crate) fn cgroup_folders(&self) -> Vec<PathBuf> {
        let layout = Layout::detect().unwrap();
        let roots = layout.v1().iter().map(|hierarchy| hierarchy.dir.as_path()).chain(layout.unified());
        roots.map(|root| root.join(&self.bundle.id)).filter(|folder| folder.exists()).collect()
    }

    /// Fails unless the monitor took everything along: its socket, its cgroup, its processes.
    pub(crate) fn assert_nothing_left(&mut self) {
        self.wait_monitor();
        eventually("the cgroup is gone", || self.cgroup_folders().is_empty());
        assert!(!self.bundle.state_dir().join(SOCKET_NAME).exists(), "the socket is gone");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.bundle.id), "no mount is left");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the monitor said: {}", self.complaints());
        }
        let cgroup = self.cgroup();
        cgroup.kill().unwrap();
        if self.monitor.try_wait().unwrap().is_none() {
            let ended = (0..5000).any(|_| {
                std::thread::sleep(std::time::Duration::from_millis(1));
                self.monitor.try_wait().unwrap().is_some()
            });
            if !ended {
                eprintln!("the monitor did not end with its container");
                self.monitor.kill().unwrap();
                self.monitor.wait().unwrap();
            }
        }
        cgroup.kill().unwrap();
        cgroup.wait_empty(PATIENCE).unwrap();
        cgroup.remove().unwrap();
    }
}
