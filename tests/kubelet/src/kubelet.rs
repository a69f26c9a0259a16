//! A kubelet of the test's own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cleat_cri_api::v1::{PodSandboxFilter, PodSandboxState};
use cleat_test_support::{Finding, kill_and_wait};
use cleat_tests_cri::Node;
use serde_json::{Value, json};

/// How often the kubelet is asked: it has no way to tell by itself.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long a state may take to come about: back-offs and grace periods are part of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long the kubelet may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Lines of its log that are shown after a failure.
const LOG_LINES: usize = 40;

/// Its ports, in a network namespace of the test's own.
const READ_ONLY_PORT: u16 = 10255;
const PORT: u16 = 10250;

/// What it is started with.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) program: PathBuf,
    pub(crate) evented: bool,
}

/// The kubelet; killed when dropped, with the end of its log shown after a panic.
pub(crate) struct Kubelet {
    settings: Settings,
    folder: PathBuf,
    process: Option<Child>,
}

impl Kubelet {
    /// Gives the node's world a default route, which a kubelet looks for, and starts it.
    pub(crate) fn start(node: &Node, settings: Settings) -> Result<Self> {
        node.cleat().world().shell(
            "ip link add ext0 type veth peer name ext1 && ip addr add 192.0.2.10/24 dev ext0 && \
             ip link set ext0 up && ip link set ext1 up && ip route add default via 192.0.2.1",
        )?;
        let folder = node.folder().join("kubelet");
        for name in ["manifests", "pod-logs"] {
            fs::create_dir_all(folder.join(name)).with_context(|| format!("make a folder for {name}"))?;
        }
        let cgroup = format!("{}/kubelet", node.cleat().cgroup_parent());
        node.cleat().world().shell(&format!(
            "for root in /sys/fs/cgroup /sys/fs/cgroup/*; do \
             [ ! -e $root/cgroup.procs ] || mkdir -p $root{cgroup} || exit 1; done"
        ))?;
        let configuration = configuration(node, &folder, &cgroup, settings.evented).to_string();
        fs::write(folder.join("config.json"), configuration).context("write the kubelet's configuration")?;
        let mut kubelet = Self { settings, folder, process: None };
        kubelet.run(node)?;
        Ok(kubelet)
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn run(&mut self, node: &Node) -> Result<()> {
        let log =
            || File::options().create(true).append(true).open(self.log()).context("open the kubelet's log");
        let mut command = node.cleat().world().command(&self.settings.program);
        command.arg("--config").arg(self.folder.join("config.json"));
        command
            .arg("--root-dir")
            .arg(self.folder.join("root"))
            .arg("--cert-dir")
            .arg(self.folder.join("certs"));
        // Told its address, it need not ask a name server that is not there.
        command.args(["--hostname-override", "node", "--node-ip", "192.0.2.10", "--v", "2"]);
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        self.process = Some(command.spawn().context("start the kubelet")?);
        until("the kubelet answers", || Ok(self.pods(node).is_ok()))
    }

    /// Kills it, as a crash would.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the kubelet does not run")?;
        kill_and_wait(process.id(), KILL_LIMIT)?;
        process.wait().context("wait for the kubelet")?;
        Ok(())
    }

    fn log(&self) -> PathBuf {
        self.folder.join("kubelet.log")
    }

    /// Gives it a static pod.
    pub(crate) fn add(&self, pod: &Value) -> Result<()> {
        let name = pod["metadata"]["name"].as_str().context("a pod's name")?;
        // It must never read half a file: files whose name begins with a dot are not looked at.
        let (draft, file) = (self.manifest(&format!(".{name}")), self.manifest(name));
        fs::write(&draft, pod.to_string()).with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, &file).with_context(|| format!("rename to {}", file.display()))
    }

    /// Takes a static pod away.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let file = self.manifest(name);
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))
    }

    fn manifest(&self, name: &str) -> PathBuf {
        self.folder.join("manifests").join(format!("{name}.json"))
    }

    /// The pods it knows, as the Kubernetes API has them.
    pub(crate) fn pods(&self, node: &Node) -> Result<Vec<Value>> {
        let text = get(node, &format!("http://127.0.0.1:{READ_ONLY_PORT}/pods"))?;
        let mut list: Value = serde_json::from_str(&text).context("the kubelet's list of pods")?;
        match list["items"].take() {
            Value::Array(pods) => Ok(pods),
            Value::Null => Ok(Vec::new()),
            other => bail!("the kubelet's list of pods is {other}"),
        }
    }

    /// The pod made from the manifest `name`.
    pub(crate) fn pod(&self, node: &Node, name: &str) -> Result<Value> {
        let full = format!("{name}-node");
        let pods = self.pods(node)?;
        pods.into_iter()
            .find(|pod| pod["metadata"]["name"] == *full)
            .with_context(|| format!("no pod {full}"))
    }

    /// Waits until `holds` of the pod made from the manifest `name`.
    pub(crate) fn until(
        &self,
        node: &Node,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        until(&format!("{name}: {what}"), || Ok(self.pod(node, name).is_ok_and(|pod| holds(&pod))))
            .with_context(|| match self.pod(node, name) {
                Ok(pod) => format!("it is {}", pod["status"]),
                Err(error) => format!("{error:#}"),
            })?;
        self.pod(node, name)
    }

    /// Waits until a pod is ready.
    pub(crate) fn ready(&self, node: &Node, name: &str) -> Result<Value> {
        self.until(node, name, "ready", is_ready)
    }

    /// Waits until nothing of a pod runs. The kubelet removes what is left of it when it next tidies up, once a minute.
    pub(crate) fn ended(&self, node: &Node, name: &str) -> Result<()> {
        let full = format!("{name}-node");
        until(&format!("{name}: ended"), || {
            let known = self.pods(node)?.iter().any(|pod| pod["metadata"]["name"] == *full);
            let pods = node.cri().pods(PodSandboxFilter::default()).context("ListPodSandbox")?;
            let ready = pods.iter().filter(|pod| pod.state() == PodSandboxState::SandboxReady);
            let mut names = ready.filter_map(|pod| pod.metadata.as_ref()).map(|metadata| &metadata.name);
            Ok(!known && !names.any(|name| *name == full))
        })
    }

    /// What a container wrote, through the kubelet's own server.
    pub(crate) fn logs(&self, node: &Node, pod: &str, container: &str) -> Result<String> {
        get(node, &format!("https://127.0.0.1:{PORT}/containerLogs/default/{pod}-node/{container}"))
    }

    /// Runs a command in a container through the kubelet's own server.
    pub(crate) fn run_in(&self, node: &Node, pod: &str, container: &str, command: &str) -> Result<String> {
        let url = format!("https://127.0.0.1:{PORT}/run/default/{pod}-node/{container}?cmd={command}");
        node.cleat().world().shell(&format!("curl -fsSk --max-time 30 -X POST '{url}'"))
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = fs::read_to_string(self.log()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let end = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
            eprintln!("the kubelet's log ends so:\n{end}");
        }
        if self.process.is_some()
            && let Err(error) = self.stop()
        {
            eprintln!("kubelet: {error:#}");
        }
    }
}

/// Whether it is one of the cgroups that a kubelet makes for each class of service, and keeps.
pub(crate) fn keeps(finding: &Finding) -> bool {
    let name = finding.to_string();
    ["/kubepods", "/kubepods/burstable", "/kubepods/besteffort"].iter().any(|end| name.ends_with(end))
}

/// Whether the pod's condition `Ready` is true.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Waits until `holds` says so.
pub(crate) fn until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !holds()? {
        ensure!(Instant::now() < deadline, "waited {} s in vain: {what}", PATIENCE.as_secs());
        sleep(ASK_AGAIN);
    }
    Ok(())
}

fn get(node: &Node, url: &str) -> Result<String> {
    node.cleat().world().shell(&format!("curl -fsSk --max-time 30 '{url}'"))
}

/// `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`.
fn configuration(node: &Node, folder: &Path, cgroup: &str, evented: bool) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "staticPodPath": folder.join("manifests"),
        "podLogsDir": folder.join("pod-logs"),
        "containerRuntimeEndpoint": format!("unix://{}", node.cleat().socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        // The hosts this runs on may have cgroup v1, swap, and no right to raise limits.
        "failCgroupV1": false,
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "maxOpenFiles": 1024,
        "enforceNodeAllocatable": [],
        "evictionHard": {"memory.available": "1Mi"},
        "localStorageCapacityIsolation": false,
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "address": "127.0.0.1",
        "port": PORT,
        "readOnlyPort": READ_ONLY_PORT,
        "registerNode": false,
        "enableControllerAttachDetach": false,
        "fileCheckFrequency": "1s",
        "syncFrequency": "5s",
        "featureGates": {"EventedPLEG": evented},
    })
}
