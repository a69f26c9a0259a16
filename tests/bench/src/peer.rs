//! Debian's containerd with runc and Debian's CNI plugins, in the world of our daemon, for a run beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cleat_test_support::{Cleat, REGISTRY_PORT, binary, kill_and_wait, tool};

use crate::subject::{Place, Subject};

/// How long containerd may take to listen.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long it may take to end after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked whether it listens: it tells nobody.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// A running containerd. What it has started goes with our daemon's world.
pub(crate) struct Containerd {
    child: Child,
    folder: PathBuf,
    cgroup_parent: String,
}

impl Containerd {
    pub(crate) fn start(cleat: &Cleat) -> Result<Self> {
        let program = tool("containerd").context("the peer: apt-get install containerd")?;
        tool("runc").context("the peer's runtime: apt-get install runc")?;
        let folder = cleat.folder().join("containerd");
        fs::create_dir_all(folder.join("net.d")).context("make a folder for the peer")?;
        pause_image(cleat, &folder)?;
        fs::write(folder.join("config.toml"), configuration(&folder))
            .context("write the peer's configuration")?;
        fs::write(folder.join("net.d/10-peer.conflist"), network(&folder))
            .context("write the peer's network")?;
        let log = fs::File::create(folder.join("log")).context("make the peer's log")?;
        let mut command = cleat.world().command(program);
        command.arg("--config").arg(folder.join("config.toml")).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        let child = command.spawn().context("start containerd")?;
        let cgroup_parent = format!("{}/peer", cleat.cgroup_parent());
        Ok(Self { child, folder, cgroup_parent })
    }

    /// Waits until it answers, and has it pull what it needs.
    pub(crate) fn subject(&self, cleat: &Cleat, deadline: Instant) -> Result<Subject> {
        let limit = Instant::now() + READY_LIMIT;
        loop {
            let place = Place {
                name: "containerd",
                daemon: self.child.id(),
                socket: &self.folder.join("socket"),
                logs: cleat.folder().join("logs-containerd"),
                cgroup_parent: self.cgroup_parent.clone(),
            };
            match Subject::new(place, deadline) {
                Ok(subject) => return subject.pull().map(|()| subject),
                Err(error) if Instant::now() > limit => {
                    let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                    bail!("containerd does not answer: {error:#}\n{log}");
                }
                Err(_) => std::thread::sleep(ASK_AGAIN),
            }
        }
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        if let Err(error) = kill_and_wait(self.child.id(), KILL_LIMIT) {
            eprintln!("containerd: {error:#}");
        }
        if let Err(error) = self.child.wait() {
            eprintln!("containerd: wait for it: {error}");
        }
    }
}

/// Puts our pause program into an image of its own, so that both daemons hold their pods with the same.
fn pause_image(cleat: &Cleat, folder: &Path) -> Result<()> {
    let (layout, pause) = (folder.join("pause"), binary("cleat-pause")?);
    let script = format!(
        "umoci init --layout {0} && umoci new --image {0}:1 && umoci insert --image {0}:1 {1} /pause && \
         umoci config --image {0}:1 --config.entrypoint /pause && \
         skopeo copy --quiet --insecure-policy --dest-tls-verify=false oci:{0}:1 \
         docker://127.0.0.1:{REGISTRY_PORT}/cleat-bench/pause:1",
        layout.display(),
        pause.display()
    );
    cleat.world().shell(&script).map(drop).context("make the peer's pause image")
}

fn configuration(folder: &Path) -> String {
    let shown = folder.display();
    format!(
        r#"version = 2
root = "{shown}/root"
state = "{shown}/state"
[grpc]
address = "{shown}/socket"
[ttrpc]
address = "{shown}/socket.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "127.0.0.1:{REGISTRY_PORT}/cleat-bench/pause:1"
restrict_oom_score_adj = true
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{shown}/net.d"
[plugins."io.containerd.grpc.v1.cri".registry.mirrors."registry.k8s.io"]
endpoint = ["http://127.0.0.1:{REGISTRY_PORT}"]
"#
    )
}

/// As many addresses and as much firewall as our built-in network gives a pod.
fn network(folder: &Path) -> String {
    serde_json::json!({
        "cniVersion": "0.4.0",
        "name": "peer",
        "plugins": [{
            "type": "bridge",
            "bridge": "peer0",
            "isGateway": true,
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("addresses"),
                "ranges": [[{ "subnet": "10.244.0.0/16" }], [{ "subnet": "fd44:244::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
            }
        }]
    })
    .to_string()
}
