//! The engine: pods, containers and execs, what they are made of and what happens to them.
//!
//! It knows no gRPC and no HTTP: the front doors translate their requests into [`model`] types, call [`Engine`] and
//! translate back. Who does what inside:
//!
//! ```text
//!  front door ──▶ Engine ──▶ driver (one task a pod) ──▶ steps (the acts) ──▶ monitor, image, network, cgroup
//!      │                        │   decides by pod.rs and container.rs
//!      │                        ├──▶ records (SQLite: what is, and what is being done)
//!      └──── reads ──▶ board ◀──┘   publishes an immutable view with each commit
//! ```
//!
//! - A request is submitted to the pod's driver and its caller waits. When the caller gives up the work goes on; a retry
//!   joins it and gets its result.
//! - Every operation's intent is in the records before its first effect; [`recovery`] finishes or undoes what a dead
//!   daemon left open.
pub(crate) mod activity;
mod apparmor;
mod attach;
pub(crate) mod container;
mod container_files;
mod driver;
mod error;
mod events;
mod exec;
pub(crate) mod files;
mod forward;
mod free_ports;
pub(crate) mod health;
mod host;
mod images;
pub(crate) mod metrics;
pub(crate) mod model;
mod monitor;
mod names;
mod networks;
mod one;
mod open;
mod paths;
mod pipe;
pub(crate) mod pod;
mod records;
mod recovery;
mod registry;
pub(crate) mod restart;
mod session;
mod shared;
pub(crate) mod stats;
mod steps;
pub(crate) mod user_networks;
mod view;
pub(crate) mod volumes;
mod waiting;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use container_files::{Access, ContainerFiles};
pub(crate) use error::{EngineError, Result, chain};
pub(crate) use events::{Event, EventKind, Missed, Subscription};
pub(crate) use exec::{Command as ExecCommand, ExecOutput};
pub(crate) use host::Defaults;
pub(crate) use images::ImageSources;
pub(crate) use model::cgroup::Driver as CgroupDriver;
pub(crate) use networks::CniFolders;
pub(crate) use one::{Attachment, One};
pub(crate) use open::Parts;
pub(crate) use session::{Ending, Resizer, Session, Streams, TerminalSize};
pub(crate) use shared::{ImageVolumes, Settings};
pub(crate) use view::{Key, View};

use activity::Activity;
use cleat_conmon_proto::Request;
use container::Container;
use driver::{Command, Target, Verb};
use ipnet::IpNet;
use model::{ContainerConfig, Id, PodConfig, PodResources, Resources};
use monitor::{MonitorError, Process};
use pod::Pod;
use registry::Registry;
use shared::Shared;
use steps::CheckpointOrder;

use crate::spec::{AppArmorSupport, Host};

/// The one engine behind every front door. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    puller: cleat_image::Puller,
}

impl Engine {
    /// What is done and how long it takes, for a door that shows it.
    pub(crate) fn activity(&self) -> &Activity {
        &self.shared.activity
    }

    /// Makes a pod, or joins the making of the one with this name and configuration.
    pub(crate) async fn run_pod(&self, config: PodConfig) -> Result<Id> {
        self.registry.run_pod(&self.shared, config).await
    }

    /// Stops a pod and its containers. A pod that is stopped or unknown is fine.
    pub(crate) async fn stop_pod(&self, id: impl Into<Key<'_>>) -> Result<()> {
        self.end_pod(id, Verb::StopPod).await
    }

    /// Removes a pod and its containers. An unknown pod is fine.
    pub(crate) async fn remove_pod(&self, id: impl Into<Key<'_>>) -> Result<()> {
        self.end_pod(id, Verb::RemovePod).await
    }

    async fn end_pod(&self, id: impl Into<Key<'_>>, verb: Verb) -> Result<()> {
        let Some(pod) = known(self.view().pod(id))? else { return Ok(()) };
        self.registry.ask(&pod.id, Target::Pod, verb).await.map_or(Ok(()), |outcome| outcome.map(drop))
    }

    /// Takes note of what a pod is said to need from now on: what `change` states. Its cgroup is its client's to limit.
    pub(crate) async fn resize_pod(&self, id: &str, change: PodResources) -> Result<()> {
        let pod = self.view().pod(id)?;
        let command = |reply| Command::Resize { change: Box::new(change), reply };
        let outcome = self.registry.command(&pod.id, command).await;
        outcome.map_or_else(|| Err(gone("pod", &pod.id)), |outcome| outcome.map(drop))
    }

    /// Prepares a container in a pod, or joins the preparation of the one with this name and configuration.
    pub(crate) async fn create_container(&self, pod: &str, config: ContainerConfig) -> Result<Id> {
        let pod = self.view().pod(pod)?;
        let command = |reply| Command::Create { config: Box::new(config), reply };
        self.registry.command(&pod.id, command).await.unwrap_or_else(|| Err(gone("pod", &pod.id)))
    }

    /// Starts a container.
    pub(crate) async fn start_container(&self, id: impl Into<Key<'_>>) -> Result<()> {
        self.ask_container(id, Verb::Start).await
    }

    /// Asks a container to end and kills it after `grace`. One that does not run, or is unknown, is fine.
    pub(crate) async fn stop_container(&self, id: impl Into<Key<'_>>, grace: Duration) -> Result<()> {
        match known(self.view().container(id))? {
            Some(found) => self.ask_container(&found.id, Verb::Stop { grace, signal: None }).await,
            None => Ok(()),
        }
    }

    /// Removes a container, killing it first. An unknown one is fine.
    pub(crate) async fn remove_container(&self, id: impl Into<Key<'_>>) -> Result<()> {
        match known(self.view().container(id))? {
            Some(found) => self.ask_container(&found.id, Verb::Remove).await,
            None => Ok(()),
        }
    }

    /// Changes a container's limits: what `change` states, all of it or nothing.
    pub(crate) async fn update_container(&self, id: impl Into<Key<'_>>, change: Resources) -> Result<()> {
        self.ask_container(id, Verb::Update(Box::new(change))).await
    }

    /// Writes a running container's processes and files into an archive at `location`, which is absolute. The container
    /// goes on. After `limit` it is given up: as soon as criu, which is not interrupted, has finished.
    pub(crate) async fn checkpoint_container(
        &self,
        id: impl Into<Key<'_>>,
        location: PathBuf,
        limit: Option<Duration>,
    ) -> Result<()> {
        if !location.is_absolute() || location.file_name().is_none() {
            let why = "an absolute path of a file is expected".to_owned();
            return Err(EngineError::Invalid { what: format!("location {:?}", location.display()), why });
        }
        let container = self.view().container(id)?;
        let taken = self.ask_container(&container.id, Verb::Checkpoint(CheckpointOrder { location, limit }));
        let Some(limit) = limit else { return taken.await };
        tokio::time::timeout(limit, taken).await.unwrap_or_else(|_| {
            let what = format!("the checkpoint of container {}", container.id);
            Err(EngineError::Timeout { what, limit, outcome: "; it is given up" })
        })
    }

    async fn ask_container(&self, id: impl Into<Key<'_>>, verb: Verb) -> Result<()> {
        let container = self.view().container(id)?;
        let target = Target::Container(container.id.clone());
        let outcome = self.registry.ask(&container.pod, target, verb).await;
        outcome.map_or_else(|| Err(gone("container", &container.id)), |outcome| outcome.map(drop))
    }

    /// Runs a command in a running container and collects its output; kills it after `limit`.
    pub(crate) async fn exec_sync(
        &self,
        id: impl Into<Key<'_>>,
        command: Vec<String>,
        limit: Option<Duration>,
    ) -> Result<ExecOutput> {
        let (container, process) = self.running(id, "execute a command in")?;
        exec::exec_sync(&self.shared, &container, &process, command, limit).await
    }

    /// Starts a command in a running container for a client that stays at its streams.
    pub(crate) async fn exec(&self, id: impl Into<Key<'_>>, command: ExecCommand) -> Result<Session> {
        let (container, process) = self.running(id, "execute a command in")?;
        exec::exec_session(&self.shared, &container, &process, command).await
    }

    /// Attaches a client to the streams of a running container's own program. A client that reads nothing for longer
    /// than `stall_limit` is cut off; without one it holds the container's output up.
    pub(crate) async fn attach(
        &self,
        id: impl Into<Key<'_>>,
        streams: Streams,
        stall_limit: Option<Duration>,
    ) -> Result<Session> {
        let (container, process) = self.running(id, "attach to")?;
        attach::attach_session(&self.shared, &container, &process, streams, stall_limit).await
    }

    /// Refuses a container that does not run, for `action`: so that a client is told before it comes for its streams.
    pub(crate) fn check_running<'a>(
        &self,
        id: impl Into<Key<'a>>,
        action: &'static str,
    ) -> Result<Arc<Container>> {
        self.running(id, action).map(|(container, _)| container)
    }

    /// Refuses a pod that is not ready, for `action`, as [`Engine::check_running`] does for containers.
    pub(crate) fn check_ready<'a>(&self, id: impl Into<Key<'a>>, action: &'static str) -> Result<Arc<Pod>> {
        let pod = self.view().pod(id)?;
        forward::check_ready(&pod, action).map(|()| pod)
    }

    /// Connects to a port of a ready pod, by its loopback interface.
    pub(crate) async fn connect(&self, pod: impl Into<Key<'_>>, port: u16) -> Result<tokio::net::TcpStream> {
        let pod = self.view().pod(pod)?;
        forward::connect(&self.shared, &pod, port).await
    }

    /// Has a container's log closed and opened anew by its name.
    pub(crate) async fn reopen_log(&self, id: impl Into<Key<'_>>) -> Result<()> {
        let (container, process) = self.running(id, "reopen the log of")?;
        let failed = |error: MonitorError| {
            EngineError::step("reopen the log", format!("container {}", container.id), &error)
        };
        let mut connection = process.connect().await.map_err(failed)?;
        let answer = connection.ask(&Request::ReopenLog, &[]).await.map_err(failed)?;
        monitor::done(answer).map_err(failed)
    }

    /// A container and the live handle of its program.
    fn running<'a>(
        &self,
        id: impl Into<Key<'a>>,
        action: &'static str,
    ) -> Result<(Arc<Container>, Arc<Process>)> {
        let view = self.view();
        let container = view.container(id)?;
        match view.processes.get(&container.id) {
            Some(process) => Ok((container, process.clone())),
            None => Err(EngineError::WrongState {
                action,
                object: format!("container {}", container.id),
                state: container.state.name(),
                remedy: "only running containers have processes",
            }),
        }
    }

    /// What there is now.
    pub(crate) fn view(&self) -> Arc<View> {
        self.shared.board.view()
    }

    /// Everything that happens to pods and containers from now on.
    pub(crate) fn subscribe(&self) -> Subscription {
        self.shared.board.subscribe()
    }

    /// What is kept of containers without a pod since then (nanoseconds since the Unix epoch), and everything from now on.
    pub(crate) fn subscribe_since(&self, since_ns: i64) -> (Vec<Arc<Event>>, Subscription) {
        self.shared.board.subscribe_since(since_ns)
    }

    /// A container's figures.
    pub(crate) async fn container_stats(&self, container: &Arc<Container>) -> Result<stats::ContainerStats> {
        stats::of_container(&self.shared, container.clone()).await
    }

    /// The figures of many containers; what is removed meanwhile is left out.
    pub(crate) async fn containers_stats(
        &self,
        containers: Vec<Arc<Container>>,
    ) -> Result<Vec<(Arc<Container>, stats::ContainerStats)>> {
        stats::of_containers(&self.shared, containers).await
    }

    /// A pod's figures with those of its containers.
    pub(crate) async fn pod_stats(&self, pod: &Arc<Pod>) -> Result<stats::PodStats> {
        let containers = self.view().containers_of(&pod.id).cloned().collect();
        stats::of_pod(&self.shared, pod.clone(), containers).await
    }

    /// The metrics of all pods; those of one that is removed meanwhile are left out.
    pub(crate) async fn metrics(&self) -> Result<Vec<metrics::PodMetrics>> {
        let view = self.view();
        let asked: Vec<_> = view.containers.values().cloned().collect();
        let metrics = self
            .shared
            .blocking(move |shared| {
                let pods = view.pods.values().filter(|pod| pod.pause_pid().is_some());
                pods.map(|pod| {
                    let containers = view.containers_of(&pod.id).cloned().collect();
                    metrics::of_pod(shared, pod, containers, &stats::interfaces(pod, None))
                })
                .collect()
            })
            .await;
        stats::refresh(&self.shared, &asked);
        metrics
    }

    /// A container's OCI specification.
    pub(crate) async fn container_spec(&self, container: &Container) -> Result<String> {
        read_spec(self.shared.paths.container(&container.id).config()).await
    }

    /// The OCI specification of a pod's pause process.
    pub(crate) async fn pod_spec(&self, pod: &Pod) -> Result<String> {
        read_spec(self.shared.paths.pod(&pod.id).config()).await
    }

    /// Whether pods can be connected to the network now; else why not.
    pub(crate) async fn network_status(&self) -> std::result::Result<(), String> {
        let status = self
            .shared
            .blocking(|shared| {
                let failed = |error: &(dyn std::error::Error + 'static)| {
                    EngineError::step("check", "the network", error)
                };
                shared
                    .networks
                    .current()
                    .map_err(|error| failed(&error))?
                    .status()
                    .map_err(|error| failed(&error))
            })
            .await;
        status.map_err(|error| chain(&error))
    }

    /// Refuses ranges that the cluster has given this node's pods while they get addresses of others: the operator has
    /// to change the one or the other, since live pods keep their addresses.
    pub(crate) async fn check_pod_ranges(&self, ranges: Vec<IpNet>) -> Result<()> {
        let look = |shared: &Shared| {
            let failed = |error| EngineError::step("read the configuration", "the network", &error);
            shared.networks.current().map(|network| shared::subnets(&network)).map_err(failed)
        };
        let subnets = self.shared.blocking(look).await?;
        networks::unserved(&ranges, &subnets).map_or(Ok(()), |range| {
            Err(EngineError::WrongState {
                action: "give pods addresses of",
                object: range.to_string(),
                state: "outside the built-in network's subnets",
                remedy: "let `network.subnets` lie within it, or put a CNI configuration in place",
            })
        })
    }

    /// What this host can do.
    pub(crate) fn host(&self) -> &Host {
        &self.shared.host
    }

    /// Whether mounts can be made read-only recursively.
    pub(crate) fn has_recursive_read_only(&self) -> bool {
        self.shared.host.recursive_read_only
    }

    /// Whether pods can have user namespaces of their own.
    pub(crate) fn has_user_namespaces(&self) -> bool {
        self.shared.host.user_namespaces
    }

    /// What the operator decided.
    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// What was found out about the host, for people who look for a fault.
    pub(crate) fn host_report(&self) -> serde_json::Value {
        let host = &self.shared.host;
        serde_json::json!({
            "kernel": format!("{}.{}", host.kernel.major, host.kernel.minor),
            "cgroups": format!("{:?}", self.shared.cgroups.mode()).to_lowercase(),
            "seccomp": host.seccomp,
            "appArmor": host.app_armor != AppArmorSupport::Off,
            "appArmorDefault": host.app_armor.to_string(),
            "selinux": host.selinux,
            "recursiveReadOnly": host.recursive_read_only,
            "userNamespaces": host.user_namespaces,
            "swapAccounting": host.swap_accounting,
            "hugetlb": host.hugetlb,
            "oomScoreAdjMin": host.oom_score_adj_min,
            "network": self.shared.networks.current().map_or_else(|error| chain(&error), |network| network.name().into()),
            "root": self.shared.settings.root,
            "state": self.shared.settings.state,
        })
    }

    /// Takes no more requests and waits until what is under way is done; what takes longer than `limit` is parked: the
    /// next start finishes or undoes it.
    pub(crate) async fn close(&self, limit: Duration) {
        let all = async {
            self.puller.shutdown().await;
            self.registry.drain().await;
            self.shared.names.close_all().await;
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!(?limit, "operations are still under way; the next start finishes or undoes them");
        }
    }
}

/// `None` for an object that is not there.
fn known<T>(found: Result<Arc<T>>) -> Result<Option<Arc<T>>> {
    match found {
        Ok(object) => Ok(Some(object)),
        Err(EngineError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn gone(kind: &'static str, id: &Id) -> EngineError {
    let list = if kind == "pod" { "pods" } else { "ps -a" };
    EngineError::NotFound { kind, name: id.to_string(), list }
}

async fn read_spec(path: std::path::PathBuf) -> Result<String> {
    let read = tokio::fs::read_to_string(&path).await;
    read.map_err(|error| EngineError::step("read the specification", path.display(), &error))
}
