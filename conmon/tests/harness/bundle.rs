//! A bundle: a busybox root filesystem and a `config.json`.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

const APPLETS: [&str; 16] = [
    "sh", "cat", "echo", "printf", "sleep", "seq", "true", "kill", "ps", "dd", "head", "stty", "yes", "id",
    "rm", "setsid",
];

/// A folder with all that a container needs.
pub(crate) struct Bundle {
    folder: tempfile::TempDir,
    pub(crate) id: String,
    pub(crate) config: Value,
}

/// `process` of the specification for `script`, run by a shell.
pub(crate) fn process(script: &str) -> Value {
    json!({
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "user": { "uid": 0, "gid": 0 },
    })
}

impl Bundle {
    /// A container that runs `script`, with namespaces of its own.
    pub(crate) fn new(script: &str) -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let id = format!("conmon-test-{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::Builder::new().prefix(&id).tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for name in ["bin", "proc", "dev", "sys", "tmp", "etc"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["state", "log"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let namespaces: Vec<Value> =
            ["pid", "mount", "ipc", "uts", "network"].iter().map(|kind| json!({ "type": kind })).collect();
        let config = json!({
            "ociVersion": "1.2.0",
            "process": process(script),
            "root": { "path": root },
            "hostname": "test",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"] },
            ],
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/{id}"), "resources": {} },
        });
        Self { folder, id, config }
    }

    /// Leaves out a namespace: the container shares the host's.
    pub(crate) fn without_namespace(mut self, kind: &str) -> Self {
        let namespaces = self.config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != kind);
        self
    }

    /// Changes one value of the specification, by its JSON pointer.
    pub(crate) fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[key] = value;
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn log_path(&self) -> PathBuf {
        self.path().join("log/0.log")
    }

    /// Writes `config.json`.
    pub(crate) fn write(&self) {
        fs::write(self.path().join("config.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
    }
}
