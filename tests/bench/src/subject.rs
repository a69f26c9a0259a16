//! A daemon to measure.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use cleat_cri_api::v1::*;
use cleat_test_support::Cleat;
use cleat_tests_cri::{BUSYBOX, Cri, configs};

/// The daemon and a connection to it.
pub(crate) struct Subject {
    name: String,
    cri: Cri,
    daemon: u32,
    socket: PathBuf,
    logs: PathBuf,
    /// Cgroup of its pods, where the daemon's own default must not be used.
    cgroup_parent: String,
    deadline: Instant,
}

/// Where a subject is.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) daemon: u32,
    pub(crate) socket: &'a Path,
    pub(crate) logs: PathBuf,
    pub(crate) cgroup_parent: String,
}

impl Subject {
    pub(crate) fn new(place: Place<'_>, deadline: Instant) -> Result<Self> {
        fs::create_dir_all(&place.logs).context("make a folder for logs")?;
        let cri = Cri::connect_until(place.socket, deadline)?;
        let version = cri.version(VersionRequest::default()).context("Version")?.runtime_version;
        Ok(Self {
            name: format!("{} {version}", place.name),
            cri,
            daemon: place.daemon,
            socket: place.socket.to_owned(),
            logs: place.logs,
            cgroup_parent: place.cgroup_parent,
            deadline,
        })
    }

    pub(crate) fn ours(cleat: &Cleat, deadline: Instant) -> Result<Self> {
        let place = Place {
            name: "Cleat",
            daemon: cleat.pid().context("cleatd runs")?,
            socket: &cleat.socket(),
            logs: cleat.folder().join("logs-cleat"),
            cgroup_parent: String::new(),
        };
        Self::new(place, deadline)
    }

    /// Pulls the image that all containers are made of.
    pub(crate) fn pull(&self) -> Result<()> {
        self.cri.pull(BUSYBOX).map(drop).with_context(|| format!("pull {BUSYBOX}"))
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn cri(&self) -> &Cri {
        &self.cri
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// A folder for what is written on its behalf.
    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(crate) fn daemon(&self) -> u32 {
        self.daemon
    }

    /// A further connection.
    pub(crate) fn connect(&self) -> Result<Cri> {
        Cri::connect_until(&self.socket, self.deadline)
    }

    pub(crate) fn pod(&self, name: &str) -> Result<PodSandboxConfig> {
        let mut config = configs::pod(name);
        let logs = self.logs.join(name);
        fs::create_dir_all(&logs).context("make a folder for logs")?;
        config.log_directory = logs.display().to_string();
        configs::pod_linux(&mut config).cgroup_parent = self.cgroup_parent.clone();
        Ok(config)
    }

    /// The container all measurements run: it sleeps, and ends at once on SIGTERM.
    pub(crate) fn container() -> ContainerConfig {
        configs::sleeper("bench")
    }

    /// The process id in the verbose information of a pod.
    pub(crate) fn pause_pid(&self, pod: &str) -> Result<u32> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: true };
        pid(&self.cri.pod_sandbox_status(request).context("PodSandboxStatus")?.info)
    }

    /// The process id in the verbose information of a container.
    pub(crate) fn init_pid(&self, container: &str) -> Result<u32> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        pid(&self.cri.container_status(request).context("ContainerStatus")?.info)
    }
}

fn pid(info: &std::collections::HashMap<String, String>) -> Result<u32> {
    let info = info.get("info").context("verbose information")?;
    let info: serde_json::Value = serde_json::from_str(info).context("verbose information")?;
    u32::try_from(info["pid"].as_u64().context("pid")?).context("pid")
}
