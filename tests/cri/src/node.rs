//! A node under test: a daemon with a registry, its client, and what the host looked like before.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cleat_cri_api::v1::*;
use cleat_test_support::{Cleat, CleatBuilder, Snapshot, patience};
use tempfile::TempDir;

use crate::bad_registry::BAD_REGISTRY_PORT;
use crate::client::{Cri, TEST_LIMIT};
use crate::log::{self, Line, Stream};
use crate::{BUSYBOX, configs};

/// How often a state is asked for that no event tells of: the CRI's event stream is not part of the daemon yet.
const ASK_AGAIN: Duration = Duration::from_millis(5);

/// What a node is started with.
pub struct NodeBuilder {
    cleat: CleatBuilder,
    settings: String,
    images: Vec<&'static str>,
    limit: Duration,
}

/// The node. All of it goes when it is dropped.
pub struct Node {
    cri: Cri,
    cleat: Cleat,
    baseline: Snapshot,
    images: Vec<String>,
    _registries: TempDir,
}

/// A pod of a test.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its id.
    pub id: String,
    /// What it was made with.
    pub config: PodSandboxConfig,
}

/// A container that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its last status.
    pub status: ContainerStatus,
    /// Its log.
    pub lines: Vec<Line>,
}

impl Finished {
    /// What it wrote to standard output, without the last line break.
    #[must_use]
    pub fn stdout(&self) -> String {
        log::text(&self.lines, Stream::Stdout).trim_end_matches('\n').to_owned()
    }

    /// What it wrote to standard error, without the last line break.
    #[must_use]
    pub fn stderr(&self) -> String {
        log::text(&self.lines, Stream::Stderr).trim_end_matches('\n').to_owned()
    }
}

/// Runs `body` on a node, then removes every pod and image of the test and looks for leaks. A failure is a panic while
/// the node still exists, so that its log is kept and shown.
///
/// # Panics
/// When the test fails.
#[track_caller]
pub fn check(builder: NodeBuilder, body: impl FnOnce(&mut Node) -> Result<()>) {
    let mut node = match builder.start() {
        Ok(node) => node,
        Err(error) => panic!("{error:?}"),
    };
    let outcome = body(&mut node);
    if let Err(error) = outcome.and_then(|()| node.clear()).and_then(|()| node.no_leaks()) {
        panic!("{error:?}");
    }
}

impl NodeBuilder {
    /// Adds TOML to the daemon's configuration.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self
    }

    /// Pulls these images in place of busybox alone.
    #[must_use]
    pub fn images(mut self, images: &[&'static str]) -> Self {
        self.images = images.to_vec();
        self
    }

    /// Makes mounts in the node's world propagate.
    #[must_use]
    pub fn shared_mounts(mut self) -> Self {
        self.cleat = self.cleat.shared_mounts();
        self
    }

    /// Lets the test take longer than [`TEST_LIMIT`].
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it, pulls the images and runs a first pod, after which the host is as it is between two pods.
    ///
    /// # Errors
    /// Fails when any of this does.
    pub fn start(self) -> Result<Node> {
        let registries = tempfile::tempdir().context("make a folder for drop-ins")?;
        let text = format!("[[registry]]\nlocation = \"127.0.0.1:{BAD_REGISTRY_PORT}\"\ninsecure = true\n");
        fs::write(registries.path().join("50-bad.conf"), text).context("write a drop-in")?;
        let drop_ins = format!("image.registries_conf_dir = {:?}\n", registries.path());
        let cleat = self.cleat.registry().settings(&(drop_ins + &self.settings)).start()?;
        let cri = Cri::connect_until(&cleat.socket(), Instant::now() + patience(self.limit))?;
        let baseline = cleat.snapshot()?;
        let images = self.images.iter().map(ToString::to_string).collect();
        let mut node = Node { cri, cleat, baseline, images, _registries: registries };
        for image in &self.images {
            node.cri.pull(image).with_context(|| format!("pull {image}"))?;
        }
        let pod = node.run_pod(configs::pod("first"))?;
        node.remove_pod(&pod.id)?;
        node.baseline = node.cleat.snapshot()?;
        Ok(node)
    }
}

impl Node {
    /// How to start one: with busybox, for a test of at most [`TEST_LIMIT`].
    #[must_use]
    pub fn builder() -> NodeBuilder {
        NodeBuilder {
            cleat: Cleat::builder(),
            settings: String::new(),
            images: vec![BUSYBOX],
            limit: TEST_LIMIT,
        }
    }

    /// The client.
    #[must_use]
    pub fn cri(&self) -> &Cri {
        &self.cri
    }

    /// The daemon.
    #[must_use]
    pub fn cleat(&self) -> &Cleat {
        &self.cleat
    }

    /// The daemon, to be killed.
    pub fn cleat_mut(&mut self) -> &mut Cleat {
        &mut self.cleat
    }

    /// A folder for the test's files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.cleat.folder()
    }

    /// A second connection, for calls at the same time.
    ///
    /// # Errors
    /// Fails when nobody listens.
    pub fn connect(&self) -> Result<Cri> {
        Cri::connect_until(&self.cleat.socket(), self.cri.deadline())
    }

    /// Kills the daemon with SIGKILL, starts it again, and connects anew.
    ///
    /// # Errors
    /// Fails when it does not come back.
    pub fn crash_and_restart(&mut self) -> Result<()> {
        self.cleat.kill()?;
        self.start_again()
    }

    /// Starts the daemon that was killed, and connects anew.
    ///
    /// # Errors
    /// Fails when it does not come back.
    pub fn start_again(&mut self) -> Result<()> {
        self.cleat.start()?;
        self.cri = self.connect()?;
        Ok(())
    }

    /// `config` with a folder for logs of its own.
    ///
    /// # Errors
    /// Fails when the folder cannot be made.
    pub fn with_logs(&self, mut config: PodSandboxConfig) -> Result<PodSandboxConfig> {
        let name = config.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        let folder = self.folder().join("logs").join(name);
        fs::create_dir_all(&folder).context("make a folder for logs")?;
        config.log_directory = folder.display().to_string();
        Ok(config)
    }

    /// Runs a pod with a folder for logs of its own.
    ///
    /// # Errors
    /// Fails when it does not run.
    pub fn run_pod(&self, config: PodSandboxConfig) -> Result<Pod> {
        let config = self.with_logs(config)?;
        let id = self.cri.run_pod(&config).context("RunPodSandbox")?;
        Ok(Pod { id, config })
    }

    /// Stops and removes a pod.
    ///
    /// # Errors
    /// Fails when either does.
    pub fn remove_pod(&self, id: &str) -> Result<()> {
        self.cri.stop_pod(id).with_context(|| format!("StopPodSandbox {id}"))?;
        self.cri.remove_pod(id).with_context(|| format!("RemovePodSandbox {id}"))
    }

    /// Creates a container.
    ///
    /// # Errors
    /// Fails when it is refused.
    pub fn create(&self, pod: &Pod, config: &ContainerConfig) -> Result<String> {
        self.cri.create(&pod.id, config, &pod.config).context("CreateContainer")
    }

    /// Creates and starts a container.
    ///
    /// # Errors
    /// Fails when either does.
    pub fn start(&self, pod: &Pod, config: &ContainerConfig) -> Result<String> {
        let id = self.create(pod, config)?;
        self.cri.start(&id).context("StartContainer")?;
        Ok(id)
    }

    /// Creates and starts a container, and waits until it has ended.
    ///
    /// # Errors
    /// Fails when it does not start, or not end in time.
    pub fn run(&self, pod: &Pod, config: &ContainerConfig) -> Result<Finished> {
        let id = self.start(pod, config)?;
        let status = self.await_end(&id)?;
        let log = fs::read_to_string(&status.log_path)
            .with_context(|| format!("read the log {:?}", status.log_path))?;
        Ok(Finished { lines: log::parse(&log)?, status })
    }

    /// Runs a container to its end, removes it, and returns what it wrote to standard output.
    ///
    /// # Errors
    /// Fails when it ends with a code other than 0.
    pub fn output(&self, pod: &Pod, config: &ContainerConfig) -> Result<String> {
        let finished = self.run(pod, config)?;
        let (status, errors) = (&finished.status, finished.stderr());
        let stdout = finished.stdout();
        ensure!(
            status.exit_code == 0,
            "code {} ({}, {}), output {stdout:?}, errors {errors:?}",
            status.exit_code,
            status.reason,
            status.message
        );
        self.cri.remove(&status.id).context("RemoveContainer")?;
        Ok(stdout)
    }

    /// Waits until a container has ended, and returns its status.
    ///
    /// # Errors
    /// Fails when it does not.
    pub fn await_end(&self, id: &str) -> Result<ContainerStatus> {
        let status = || self.cri.container(id).context("ContainerStatus");
        self.until("the container ends", || {
            Ok(Some(status()?).filter(|status| status.state() == ContainerState::ContainerExited))
        })
    }

    /// Waits until the log of a container holds `words`, and returns it.
    ///
    /// # Errors
    /// Fails when it does not.
    pub fn await_log(&self, id: &str, words: &str) -> Result<String> {
        let path = self.cri.container(id).context("ContainerStatus")?.log_path;
        self.until("the log has it", || {
            let log = fs::read_to_string(&path).with_context(|| format!("read the log {path:?}"))?;
            Ok(Some(log).filter(|log| log.contains(words)))
        })
        .with_context(|| format!("wait for {words:?} in {path}"))
    }

    /// Asks again and again until there is an answer or the test's time is over.
    ///
    /// # Errors
    /// Fails when asking does, and at the end of the test's time.
    pub fn until<T>(&self, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        while Instant::now() < self.cri.deadline() {
            if let Some(answer) = ask()? {
                return Ok(answer);
            }
            sleep(ASK_AGAIN);
        }
        bail!("the test's time is over, and not yet: {what}")
    }

    /// Where a container of this node has its cgroup in the hierarchy of `controller`; on cgroup v2 they are one.
    ///
    /// # Errors
    /// Fails when the container does not run or the file of its cgroups cannot be read.
    pub fn cgroup(&self, container: &str, controller: &str) -> Result<PathBuf> {
        cgroup_of(self.init_pid(container)?, controller)
    }

    /// The process id of a container's init on the host.
    ///
    /// # Errors
    /// Fails when it does not run.
    pub fn init_pid(&self, container: &str) -> Result<u32> {
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let info = self.cri.container_status(request).context("ContainerStatus")?.info;
        let info = info.get("info").context("verbose information")?;
        let info: serde_json::Value = serde_json::from_str(info).context("verbose information")?;
        let pid = info["pid"].as_u64().with_context(|| format!("no pid in {info}"))?;
        ensure!(pid != 0, "container {container} has no process");
        u32::try_from(pid).context("pid")
    }

    /// Removes every pod, and every image the test has added.
    ///
    /// # Errors
    /// Fails when one cannot be removed.
    pub fn clear(&self) -> Result<()> {
        for pod in self.cri.pods(PodSandboxFilter::default()).context("ListPodSandbox")? {
            self.remove_pod(&pod.id)?;
        }
        let kept = |image: &Image| image.repo_tags.iter().any(|tag| self.images.contains(tag));
        for image in self.cri.images().context("ListImages")?.iter().filter(|image| !kept(image)) {
            self.cri.remove_image_named(&image.id).with_context(|| format!("RemoveImage {}", image.id))?;
        }
        Ok(())
    }

    /// Fails when there is more on the host than after the first pod. The layers that a failed pull gives up are removed
    /// behind its answer, so they have a while to go.
    ///
    /// # Errors
    /// Names every leak.
    pub fn no_leaks(&self) -> Result<()> {
        let given_up = self.cleat.root().join("image/tmp");
        self.until("the layers of failed pulls to go", || {
            let mut left = fs::read_dir(&given_up).with_context(|| format!("list {}", given_up.display()))?;
            Ok(left.next().is_none().then_some(()))
        })?;
        self.baseline.leaks(&self.cleat.snapshot()?).none()
    }

    /// Takes what is on the host now for what a test may leave, where another program than the daemon has left it.
    ///
    /// # Errors
    /// Fails when something cannot be read.
    pub fn keep_as_baseline(&mut self) -> Result<()> {
        self.baseline = self.cleat.snapshot()?;
        Ok(())
    }

    /// What is on the host now.
    ///
    /// # Errors
    /// Fails when something cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.cleat.snapshot()
    }
}

/// Where a process has its cgroup in the hierarchy of `controller`.
fn cgroup_of(pid: u32, controller: &str) -> Result<PathBuf> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let of = |wanted: &str| {
        text.lines().find_map(|line| {
            let (controllers, cgroup) = line.split_once(':')?.1.split_once(':')?;
            controllers
                .split(',')
                .any(|each| each == wanted)
                .then(|| cgroup.trim_start_matches('/').to_owned())
        })
    };
    if let Some(cgroup) = of(controller) {
        return Ok(Path::new("/sys/fs/cgroup").join(controller).join(cgroup));
    }
    let cgroup = of("").with_context(|| format!("no {controller} and no cgroup v2 in {path}"))?;
    Ok(Path::new("/sys/fs/cgroup").join(cgroup))
}
