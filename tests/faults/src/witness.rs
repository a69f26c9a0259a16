//! A pod that runs all the while and must not notice anything.

use std::fs;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, Pod, configs, parse};

/// The pod, and what was true of it at first.
pub struct Witness {
    pod: Pod,
    container: String,
    pid: u32,
    status: ContainerStatus,
    pod_status: PodSandboxStatus,
}

/// Counts in its log, twenty lines a second, until SIGTERM. It starts no process, so that the leak checker finds the same
/// ones whenever it looks.
const SCRIPT: &str = "trap 'exit 21' TERM; mkfifo /silent; exec 3<>/silent; n=0; \
                      while true; do n=$((n+1)); echo count $n; read -t 0.05 nothing <&3; done";

impl Witness {
    /// Starts it.
    ///
    /// # Errors
    /// Fails when it does not start.
    pub fn new(node: &Node) -> Result<Self> {
        let pod = node.run_pod(configs::pod("witness"))?;
        let container = node.start(&pod, &configs::script("witness", SCRIPT))?;
        node.await_log(&container, "count 1")?;
        Ok(Self {
            pid: node.init_pid(&container)?,
            status: node.cri().container(&container)?,
            pod_status: node.cri().pod_status(&pod.id)?,
            pod,
            container,
        })
    }

    /// Whether the daemon tells of it what it told at first, and it can still be worked with.
    ///
    /// # Errors
    /// Names what differs.
    pub fn is_unharmed(&self, node: &Node) -> Result<()> {
        let cri = node.cri();
        ensure!(cri.container(&self.container)? == self.status, "another status of the witness's container");
        ensure!(cri.pod_status(&self.pod.id)? == self.pod_status, "another status of the witness's pod");
        ensure!(node.init_pid(&self.container)? == self.pid, "another process of the witness");
        ensure!(cri.shell(&self.container, "echo here")? == "here", "exec in the witness");
        Ok(())
    }

    /// Stops it and looks whether its log is whole.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn ends_well(self, node: &Node) -> Result<()> {
        node.cri().stop(&self.container, 10)?;
        let status = node.cri().container(&self.container)?;
        ensure!(status.exit_code == 21, "the witness ended with {} ({})", status.exit_code, status.reason);
        let lines = parse(&fs::read_to_string(&status.log_path).context("the witness's log")?)?;
        let counted = (1..=lines.len()).map(|number| format!("count {number}"));
        ensure!(lines.iter().map(|line| line.text.clone()).eq(counted), "the witness's log has gaps");
        node.remove_pod(&self.pod.id)
    }
}
