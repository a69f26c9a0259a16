//! Several daemons on one host.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{binary, kill_and_wait};
use cleat_tests_cri::{BUSYBOX, Cri, Node, check, configs};

/// How long a daemon may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A daemon beside a node's own, in the same namespaces, with folders, socket, bridge and addresses of its own.
struct Neighbour {
    child: Child,
    folder: PathBuf,
}

impl Neighbour {
    fn start(node: &Node) -> Result<Self> {
        let folder = node.folder().join("neighbour");
        fs::create_dir(&folder).context("make the neighbour's folder")?;
        let (shown, of_node) = (folder.display(), node.folder().display());
        let settings = format!(
            "root = \"{shown}/root\"\nstate = \"{shown}/state\"\nlisten = \"unix://{shown}/socket\"\n\
             cgroup.parent = \"{}/neighbour\"\nimage.registries_conf = \"{of_node}/registries.conf\"\n\
             network.bridge = \"cleat1\"\nnetwork.subnets = [\"10.214.0.0/16\", \"fdc4:8c1e:a7d6::/64\"]\n\
             network.cni_conf_dir = \"{shown}/cni\"\n",
            node.cleat().cgroup_parent()
        );
        fs::write(folder.join("cleat.toml"), settings).context("write the neighbour's configuration")?;
        let log = fs::File::create(folder.join("log")).context("make the neighbour's log")?;
        let mut command = node.cleat().world().command(binary("cleatd")?);
        command.arg("--config").arg(folder.join("cleat.toml")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        Ok(Self { child: command.spawn().context("start the neighbour")?, folder })
    }

    fn connect(&self, node: &Node) -> Result<Cri> {
        let socket = self.folder.join("socket");
        node.until("the neighbour listens", || Ok(Cri::connect_until(&socket, node.cri().deadline()).ok()))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        if let Err(error) = kill_and_wait(self.child.id(), END_LIMIT) {
            eprintln!("neighbour: {error:#}");
        }
        if let Err(error) = self.child.wait() {
            eprintln!("neighbour: wait for it: {error}");
        }
    }
}

/// A pod of the neighbour with a running container; returns both ids.
fn start(cri: &Cri, config: &PodSandboxConfig) -> Result<(String, String)> {
    let pod = cri.run_pod(config).context("RunPodSandbox")?;
    let container = cri.create(&pod, &configs::sleeper("same"), config).context("CreateContainer")?;
    cri.start(&container).context("StartContainer")?;
    Ok((pod, container))
}

#[test]
fn privileged_two_daemons_live_side_by_side() {
    check(Node::builder(), |node| {
        let neighbour = Neighbour::start(node)?;
        let other = neighbour.connect(node)?;
        other.pull(BUSYBOX)?;
        let config = node.with_logs(configs::pod("same"))?;
        let (own, _) = start(node.cri(), &config)?;
        let (pod, container) = start(&other, &config)?;
        ensure!(own != pod, "two pods of one id");
        for (cri, id, start) in [(node.cri(), &own, "10.213."), (&other, &pod, "10.214.")] {
            let listed: Vec<String> =
                cri.pods(PodSandboxFilter::default())?.into_iter().map(|pod| pod.id).collect();
            assert_eq!(listed, std::slice::from_ref(id));
            let ip = cri.pod_status(id)?.network.context("network")?.ip;
            ensure!(ip.starts_with(start), "{ip} does not start with {start}");
        }
        node.crash_and_restart()?;
        node.remove_pod(&own)?;
        assert_eq!(other.shell(&container, "ping -c 1 -W 2 10.214.0.1 >/dev/null && echo here")?, "here");
        other.stop_pod(&pod)?;
        other.remove_pod(&pod)?;
        drop(neighbour);
        // A daemon's bridge and table stay with the host, as its cgroup parent does.
        node.cleat().world().shell("ip link delete cleat1 && nft delete table inet cleat_cleat1")?;
        node.cleat().world().shell(&format!(
            "find /sys/fs/cgroup -depth -path '*{}/neighbour' -exec rmdir {{}} ';'",
            node.cleat().cgroup_parent()
        ))?;
        Ok(())
    });
}

#[test]
fn privileged_a_second_daemon_with_the_same_root_is_refused() {
    check(Node::builder(), |node| {
        let program = binary("cleatd")?;
        let config = node.folder().join("cleat.toml");
        let world = node.cleat().world();
        let output = world.run(program, &["--config".as_ref(), config.as_ref()], END_LIMIT)?;
        ensure!(!output.status.success(), "it ended with {}", output.status);
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(
            said.contains(&node.cleat().root().display().to_string()),
            "it does not name the root:\n{said}"
        );
        let pod = node.run_pod(configs::pod("goes-on"))?;
        node.remove_pod(&pod.id)
    });
}
