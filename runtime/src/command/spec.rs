//! `spec`: a configuration to begin with.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use rustix::process::{getegid, geteuid};
use serde_json::{Value, json};

use super::arguments::{Arguments, set};
use super::{CommandError, OCI_VERSION};

/// `spec`.
pub(super) fn command(arguments: &mut Arguments) -> Result<(), CommandError> {
    let (mut bundle, mut rootless) = (PathBuf::from("."), false);
    arguments.each(None, |mut option| match option.name {
        "bundle" | "b" => {
            bundle = option.value()?.into();
            Ok(true)
        }
        "rootless" => set(&mut rootless),
        _ => Ok(false),
    })?;
    let path = bundle.join("config.json");
    let mut specification = specification();
    if rootless {
        give_to_user(&mut specification, geteuid().as_raw(), getegid().as_raw());
    }
    let text = serde_json::to_string_pretty(&specification)
        .map_err(|source| CommandError::Json { path: path.clone(), source })?;
    let created = OpenOptions::new().write(true).create_new(true).open(&path);
    created.and_then(|mut file| writeln!(file, "{text}")).map_err(CommandError::file("write", &path))
}

/// A shell in a container with all namespaces, few capabilities and a read-only root.
fn specification() -> Value {
    let namespaces = ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| json!({ "type": kind }));
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true,
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "cleat",
        "mounts": mounts(),
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": namespaces,
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
                "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

fn mounts() -> Value {
    let mount = |destination: &str, kind: &str, options: &[&str]| json!({ "destination": destination, "type": kind, "source": kind, "options": options });
    json!([
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        mount("/sys/fs/cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

/// Changes what a user cannot have: a network of one's own has no way out, nor may its sysfs be mounted without one; the
/// only id is the user's, who is root inside; and cgroups are the host's root's.
fn give_to_user(specification: &mut Value, uid: u32, gid: u32) {
    let linux = &mut specification["linux"];
    let mapping = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
    (linux["uidMappings"], linux["gidMappings"]) = (mapping(uid), mapping(gid));
    if let Some(namespaces) = linux["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "network");
        namespaces.push(json!({ "type": "user" }));
    }
    if let Some(linux) = linux.as_object_mut() {
        linux.remove("resources");
    }
    for mount in specification["mounts"].as_array_mut().into_iter().flatten() {
        if mount["destination"] == "/sys" {
            *mount = json!({ "destination": "/sys", "type": "none", "source": "/sys",
                             "options": ["rbind", "nosuid", "noexec", "nodev", "ro"] });
        }
        if let Some(options) = mount["options"].as_array_mut() {
            let names_an_id = |option: &str| option.starts_with("uid=") || option.starts_with("gid=");
            options.retain(|option| !option.as_str().is_some_and(names_an_id));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_specification_asks_for_nothing_that_root_alone_has() {
        let mut specification = specification();
        give_to_user(&mut specification, 1000, 1001);
        let linux = &specification["linux"];
        assert_eq!(linux["uidMappings"], json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]));
        assert_eq!(linux["gidMappings"][0]["hostID"], 1001);
        assert!(linux.get("resources").is_none());
        let kinds: Vec<_> = linux["namespaces"].as_array().unwrap().iter().map(|one| &one["type"]).collect();
        assert!(kinds.contains(&&json!("user")) && !kinds.contains(&&json!("network")), "{kinds:?}");
        let mounts = specification["mounts"].to_string();
        assert!(!mounts.contains("gid=") && !mounts.contains("sysfs"), "{mounts}");
    }
}
