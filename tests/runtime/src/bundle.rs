//! Bundles: a root filesystem with busybox, and a configuration to change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Debian's busybox-static.
const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 26] = [
    "sh", "true", "false", "cat", "ls", "id", "sleep", "echo", "ps", "mount", "hostname", "stty", "tty",
    "kill", "readlink", "touch", "mkdir", "pwd", "env", "grep", "head", "setsid", "mknod", "wc", "dd",
    "stat",
];

/// A folder with `config.json` and `rootfs`, removed when dropped.
#[derive(Debug)]
pub struct Bundle {
    folder: TempDir,
    /// The configuration, written by [`Bundle::write`].
    pub spec: Value,
}

impl Bundle {
    /// A bundle that executes a shell script.
    #[must_use]
    pub fn script(script: &str) -> Self {
        Self::program(&["sh", "-c", script])
    }

    /// A bundle that executes a program of busybox.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn program(arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("cleat-test-").tempdir().expect("a folder can be made");
        let bin = folder.path().join("rootfs/bin");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            fs::create_dir_all(folder.path().join("rootfs").join(name)).expect("a rootfs can be made");
        }
        fs::copy(BUSYBOX, bin.join("busybox")).expect("busybox-static is installed");
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).expect("an applet can be linked");
        }
        Self { folder, spec: specification(arguments) }
    }

    /// The bundle's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path in the root filesystem, seen from the host.
    #[must_use]
    pub fn rootfs(&self, path: &str) -> PathBuf {
        self.folder.path().join("rootfs").join(path)
    }

    /// Appends a mount.
    ///
    /// # Panics
    /// When the configuration has no list of mounts.
    pub fn mount(&mut self, mount: Value) {
        self.spec["mounts"].as_array_mut().expect("mounts are a list").push(mount);
    }

    /// Writes the configuration.
    ///
    /// # Panics
    /// When that fails.
    pub fn write(&self) {
        fs::write(self.path().join("config.json"), self.spec.to_string())
            .expect("config.json can be written");
    }
}

fn specification(arguments: &[&str]) -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    let capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_MKNOD", "CAP_SETUID", "CAP_SETGID"];
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": { "uid": 0, "gid": 0 },
            "args": arguments,
            "env": ["PATH=/bin"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs" },
        "hostname": "inside",
        "mounts": [
            mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/acpi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
