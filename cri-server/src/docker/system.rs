//! The engine itself: `version`, `info`, `system df`.

use std::fs;

use nix::sys::utsname::uname;
use serde_json::{Value, json};

use super::images;
use super::refusal::Refusal;
use super::version::{EARLIEST, LATEST};
use super::wire::{memory_bytes, now_ns, rfc3339};
use super::{Door, volumes};
use crate::engine::CgroupDriver;

/// Version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `GET /version`.
pub(super) fn version() -> Value {
    let (kernel, arch) = (kernel(), architecture());
    let (latest, earliest) = (LATEST.to_string(), EARLIEST.to_string());
    let details = json!({
        "ApiVersion": latest, "MinAPIVersion": earliest, "Arch": arch, "Os": "linux", "KernelVersion": kernel,
        "BuildTime": "", "GitCommit": "", "GoVersion": "", "Experimental": "false",
    });
    json!({
        "Platform": {"Name": "Cleat"},
        "Components": [{"Name": "Engine", "Version": VERSION, "Details": details}],
        "Version": VERSION, "ApiVersion": latest, "MinAPIVersion": earliest, "GitCommit": "", "GoVersion": "",
        "Os": "linux", "Arch": arch, "KernelVersion": kernel, "BuildTime": "",
    })
}

/// `GET /info`.
pub(super) fn info(door: &Door) -> Value {
    let (engine, facts) = (&door.engine, &door.facts);
    let report = engine.host_report();
    let is_v2 = report["cgroups"] == "unified";
    let mut info = json!({
        "ID": machine_id(), "Name": host_name(), "ServerVersion": VERSION,
        "Driver": "overlayfs", "DriverStatus": [["Layers", "unpacked once, mounted in each container's own namespace"]],
        "CgroupDriver": match engine.settings().cgroup_driver {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        },
        "CgroupVersion": if is_v2 { "2" } else { "1" },
        "LoggingDriver": "json-file", "DefaultRuntime": "cleat",
        "Runtimes": {"cleat": {"path": "cleat-runtime"}},
        "SecurityOptions": security_options(&report),
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["json-file", "local", "none"]},
        "Swarm": {
            "NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "",
            "RemoteManagers": null,
        },
        "RegistryConfig": {
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}},
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"], "Mirrors": null,
        },
        "IndexServerAddress": "https://index.docker.io/v1/",
        "DockerRootDir": facts.root, "Debug": facts.debug, "LiveRestoreEnabled": true, "ExperimentalBuild": false,
        "InitBinary": "", "ContainerdCommit": {"ID": ""}, "RuncCommit": {"ID": ""}, "InitCommit": {"ID": ""},
        "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "Labels": [], "GenericResources": null,
        "CDISpecDirs": null, "DefaultAddressPools": null, "Isolation": "", "ProductLicense": "",
        "SystemStatus": null, "Warnings": null, "NFd": 0, "NGoroutines": 0, "NEventsListener": 0,
    });
    merge(&mut info, host_facts());
    merge(&mut info, counts(door));
    merge(&mut info, abilities());
    info
}

/// What the host is.
fn host_facts() -> Value {
    json!({
        "KernelVersion": kernel(), "OperatingSystem": os_name("PRETTY_NAME"), "OSVersion": os_name("VERSION_ID"),
        "OSType": "linux", "Architecture": uname().map_or_else(|_| String::new(), |name| name.machine().to_string_lossy().into_owned()),
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from), "MemTotal": memory_bytes(),
        "SystemTime": rfc3339(now_ns()),
    })
}

/// How many there are.
fn counts(door: &Door) -> Value {
    let ones = door.engine.ones();
    let running = ones.iter().filter(|one| one.container.state.pid().is_some()).count();
    json!({
        "Images": door.engine.images().list().len(), "Containers": ones.len(), "ContainersRunning": running,
        "ContainersPaused": 0, "ContainersStopped": ones.len() - running,
    })
}

/// Which limits can be set. The kernels Cleat runs on have all of these.
fn abilities() -> Value {
    json!({
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true,
        "CPUSet": true, "PidsLimit": true, "OomKillDisable": false, "IPv4Forwarding": true,
        "BridgeNfIptables": false, "BridgeNfIp6tables": false,
    })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn security_options(report: &Value) -> Vec<&'static str> {
    let mut options = Vec::new();
    if report["appArmor"] == true {
        options.push("name=apparmor");
    }
    if report["seccomp"] == true {
        options.push("name=seccomp,profile=builtin");
    }
    if report["selinux"] == true {
        options.push("name=selinux");
    }
    if report["cgroups"] == "unified" {
        options.push("name=cgroupns");
    }
    options
}

/// `GET /system/df`.
pub(super) async fn disk_usage(door: &Door) -> Result<Value, Refusal> {
    Ok(json!({
        "LayersSize": door.engine.images().usage().bytes,
        "Images": images::summaries(door),
        "Containers": [], "Volumes": volumes::with_sizes(door).await?, "BuildCache": [], "BuilderSize": 0,
    }))
}

fn kernel() -> String {
    uname().map_or_else(|_| String::new(), |name| name.release().to_string_lossy().into_owned())
}

/// The architecture by the name image configurations have for it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn host_name() -> String {
    nix::unistd::gethostname().map_or_else(|_| String::new(), |name| name.to_string_lossy().into_owned())
}

/// machine-id(5): what tells this host from others and stays.
fn machine_id() -> String {
    fs::read_to_string("/etc/machine-id").unwrap_or_default().trim().to_owned()
}

/// A field of os-release(5).
fn os_name(field: &str) -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix('='));
    value.unwrap_or_default().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_has_what_the_command_line_prints() {
        let version = version();
        assert_eq!(version["Components"][0]["Details"]["ApiVersion"], version["ApiVersion"]);
        assert_eq!(version["MinAPIVersion"], "1.24");
        assert!(!version["KernelVersion"].as_str().unwrap().is_empty());
    }

    #[test]
    fn the_host_is_looked_at() {
        assert!(memory_bytes() > 1 << 20);
        assert!(!os_name("NAME").is_empty());
    }
}
