//! A host of its own for one test: a thread in a new network namespace, where bridges and rules disturb nobody.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use cleat_network::Netns;
use nix::sched::{CloneFlags, unshare};

/// Every test ends within this.
const TEST_LIMIT: Duration = Duration::from_secs(60);

/// Connections inside namespaces are immediate or never.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Runs `test` on a thread in a network namespace of its own, with a time limit, and checks that it leaves no mount.
pub(crate) fn isolated(test: impl FnOnce(&Lab) + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let worker = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
        let lab = Lab::new();
        let outcome = catch_unwind(AssertUnwindSafe(|| test(&lab)));
        let folder = lab.folder.path().to_owned();
        drop(lab);
        done.send(()).unwrap();
        if let Err(panic) = outcome {
            resume_unwind(panic);
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(folder.to_str().unwrap()), "a mount is left below {}", folder.display());
    });
    wait.recv_timeout(TEST_LIMIT).expect("the test ends in time");
    if let Err(panic) = worker.join() {
        resume_unwind(panic);
    }
}

/// The test's host.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap() };
        lab.run("ip", &["link", "set", "lo", "up"]);
        lab
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new pinned namespace, unpinned at its end.
    pub(crate) fn netns(&self, name: &str) -> Pinned {
        let path = self.folder.path().join(name);
        Pinned { netns: Netns::create(&path).unwrap(), path }
    }

    /// Runs a command on this host; its output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        run(program, arguments)
    }

    /// The names of this host's links.
    pub(crate) fn links(&self) -> BTreeSet<String> {
        let listed = run("ip", &["-o", "link"]);
        listed
            .lines()
            .map(|line| line.split([' ', '@', ':']).filter(|w| !w.is_empty()).nth(1).unwrap().to_owned())
            .collect()
    }
}

/// A namespace of a test.
pub(crate) struct Pinned {
    pub(crate) netns: Netns,
    pub(crate) path: PathBuf,
}

impl Drop for Pinned {
    fn drop(&mut self) {
        Netns::remove(&self.path).unwrap();
    }
}

impl Pinned {
    /// Runs a command in the namespace; its output.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.netns.run(|| run(program, arguments)).unwrap()
    }

    /// Listens at `address`, and tells one client the address that it comes from.
    pub(crate) fn echo_peer(&self, address: IpAddr) -> SocketAddr {
        self.netns.run(|| echo_peer(address)).unwrap()
    }

    /// What the listener of [`echo_peer`] sees us as.
    pub(crate) fn seen_by(&self, listener: SocketAddr) -> std::io::Result<IpAddr> {
        self.netns.run(|| seen_by(listener)).unwrap()
    }
}

pub(crate) fn echo_peer(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let local = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, peer) = listener.accept().unwrap();
        client.write_all(peer.ip().to_string().as_bytes()).unwrap();
    });
    local
}

pub(crate) fn seen_by(listener: SocketAddr) -> std::io::Result<IpAddr> {
    let mut stream = TcpStream::connect_timeout(&listener, CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(CONNECT_LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.parse().unwrap())
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}
