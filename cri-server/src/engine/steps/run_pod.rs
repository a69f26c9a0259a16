//! Making a pod: folders, namespaces, network, files, and the pause process that holds it all.
//!
//! ```text
//! folders, /dev/shm, network namespace ──┬─▶ link, addresses, routes ─▶ hosts, hostname, resolv.conf ──┬─▶ ready
//!                                        └─▶ monitor ─▶ pause process ─────────────────────────────────┘
//! ```
//! The two halves run at a time and both have ended before the outcome is judged, so that an undo never races a step.

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use cleat_conmon_proto::{Launch, Rootfs, Stdin, VERSION};
use cleat_network::{Netns, PodNetwork};
use nix::mount::{MsFlags, mount};

use super::launch::{LaunchFailure, Running, launch, make_private_dir, make_state_dir};
use super::{names, networks, pod_files, user_namespace};
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Joined, Mode, PortMapping, UserMapping, cgroup};
use crate::engine::monitor::Process;
use crate::engine::paths::PodPaths;
use crate::engine::pod::{Pod, PodState};
use crate::engine::shared::Shared;
use crate::spec;

/// Name of the pause program in its root filesystem.
pub(super) const PAUSE_PROGRAM: &str = "/pause";

/// A pod that runs.
pub(crate) struct PodUp {
    /// Its pause process; none in a group of one.
    pub running: Option<Running>,
    /// How it is connected.
    pub connected: Connected,
}

/// How a group is connected to the rest of the world.
#[derive(Default)]
pub(crate) struct Connected {
    /// Its places in networks.
    pub joined: Vec<Joined>,
    /// Its addresses on the one that leads out, or on the first.
    pub addresses: Vec<IpAddr>,
    /// The ports of the host that lead into it.
    pub ports: Vec<PortMapping>,
}

/// A pod that could not be made. Something of it may be left: [`super::remove_pod`] undoes it.
pub(crate) struct PodFailure {
    /// What the caller is told.
    pub error: EngineError,
    /// The pause process that runs although the other half failed: the undo waits for its monitor's end.
    pub pause: Option<Arc<Process>>,
}

impl From<EngineError> for PodFailure {
    fn from(error: EngineError) -> Self {
        Self { error, pause: None }
    }
}

/// Makes the pod.
pub(crate) async fn run_pod(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
) -> std::result::Result<PodUp, Box<PodFailure>> {
    let prepared = pod.clone();
    shared.blocking(move |shared| prepare(shared, &prepared)).await.map_err(PodFailure::from)?;
    let connected = pod.clone();
    let connect = shared.blocking(move |shared| connect(shared, &connected));
    if pod.config.kind.is_one() {
        let connected = connect.await.map_err(PodFailure::from)?;
        return Ok(PodUp { running: None, connected });
    }
    let (connected, running) = tokio::join!(connect, start_pause(shared, pod));
    let running = running.map_err(PodFailure::from)?;
    match connected {
        Ok(connected) => Ok(PodUp { running: Some(running), connected }),
        Err(error) => Err(Box::new(PodFailure { error, pause: Some(running.process) })),
    }
}

/// How the network crate names this pod.
pub(super) fn pod_network(pod: &Pod, paths: &PodPaths, addresses: Vec<ipnet::IpNet>) -> PodNetwork {
    let name = &pod.config.name;
    PodNetwork {
        pod_id: pod.id.to_string(),
        name: name.name.clone(),
        namespace: name.namespace.clone(),
        uid: name.uid.clone(),
        netns: paths.netns.clone(),
        addresses,
        capabilities: super::cni_capabilities::of(&pod.config),
    }
}

fn prepare(shared: &Shared, pod: &Pod) -> Result<()> {
    let paths = shared.paths.pod(&pod.id);
    let failed = |what: &'static str| {
        let object = format!("pod {}", pod.id);
        move |error: std::io::Error| EngineError::step(what, object, &error)
    };
    check_other(shared, pod)?;
    fs::create_dir_all(&paths.dir).map_err(failed("make the folder"))?;
    make_state_dir(&paths.state).map_err(failed("make the state folder"))?;
    let mapping = pod.config.namespaces.user.mapping();
    if pod.config.owns_memory() {
        let size = pod.config.shm_size_bytes.unwrap_or(shared.host.shm_size_bytes);
        mount_shm(&paths, size, mapping).map_err(failed("mount /dev/shm"))?;
    }
    if let Some(mapping) = mapping {
        user_namespace::make(shared, pod, mapping, &paths)?;
    } else if pod.config.owns_network() {
        Netns::create(&paths.netns).map_err(|error| {
            EngineError::step("make the network namespace", format!("pod {}", pod.id), &error)
        })?;
    }
    Ok(())
}

/// The group whose network is to be used has to have one.
fn check_other(shared: &Shared, pod: &Pod) -> Result<()> {
    let Some(other) = &pod.config.network_of else { return Ok(()) };
    let view = shared.board.view();
    let runs = view.containers_of(other).any(|container| container.state.pid().is_some());
    match view.pods.get(other).map(|other| other.state) {
        Some(PodState::Ready { .. }) if runs => Ok(()),
        state => Err(EngineError::WrongState {
            action: "join the network of",
            object: format!("group {other}"),
            state: state.map_or("gone", PodState::name),
            remedy: "start its container first",
        }),
    }
}

/// It belongs to the pod's root.
fn mount_shm(paths: &PodPaths, size_bytes: u64, mapping: Option<&UserMapping>) -> std::io::Result<()> {
    make_private_dir(&paths.shm)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (uid, gid) = mapping.map_or((0, 0), UserMapping::root);
    let options = format!("mode=1777,size={size_bytes},uid={uid},gid={gid}");
    Ok(mount(Some("shm"), &paths.shm, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Puts the pod on its networks and writes the files that tell of it.
fn connect(shared: &Shared, pod: &Pod) -> Result<Connected> {
    let chosen = networks::choose(shared, pod.config.places())?;
    if chosen.is_empty() {
        pod_files::write(shared, pod)?;
        return Ok(Connected::default());
    }
    let ways = networks::ways_of(&chosen);
    let mut pod = pod.clone();
    if pod.config.kind.is_one() {
        pod.config.port_mappings = networks::published(&chosen, ways, &pod.config.port_mappings);
        let view = shared.board.view();
        let in_use = view.pods.values().filter(|other| other.id != pod.id).flat_map(|other| &other.ports);
        pod.config.port_mappings = shared
            .free_ports
            .choose(&pod.id, &pod.config.port_mappings, &in_use.collect::<Vec<_>>())
            .map_err(|error| EngineError::step("find a free port", format!("pod {}", pod.id), &error))?;
    }
    pod.joined = networks::join_all(shared, &pod, &chosen, ways)?;
    names::open_names(shared, &pod)?;
    pod_files::write(shared, &pod)?;
    let main = ways.publisher().and_then(|index| pod.joined.get(index)).or(pod.joined.first());
    let addresses = main.map(|place| place.addresses.iter().map(ipnet::IpNet::addr).collect());
    Ok(Connected {
        addresses: addresses.unwrap_or_default(),
        ports: pod.config.port_mappings,
        joined: pod.joined,
    })
}

async fn start_pause(shared: &Arc<Shared>, pod: &Pod) -> Result<Running> {
    let paths = shared.paths.pod(&pod.id);
    write_pause_spec(shared, pod, &paths)?;
    let order = Launch {
        version: VERSION,
        id: pod.id.to_string(),
        bundle: paths.dir.clone(),
        state_dir: paths.state.clone(),
        rootfs: Rootfs::Ready,
        log: None,
        stdin: Stdin::Null,
        runtime: None,
        terminal: false,
    };
    launch(&shared.launcher, &order).await.map_err(|failure| match failure {
        LaunchFailure::Create(error) => {
            EngineError::step("make the sandbox", format!("pod {}", pod.id), &error)
        }
        LaunchFailure::Execute(error) => {
            EngineError::step("start the pause process", format!("pod {}", pod.id), &error)
        }
    })
}

fn write_pause_spec(shared: &Shared, pod: &Pod, paths: &PodPaths) -> Result<()> {
    let facts = pod_facts(pod, paths, None);
    let args = [PAUSE_PROGRAM.to_owned()];
    let cgroup = cgroup::specified(&pause_cgroup(pod));
    let spec = spec::pause(&shared.host, &facts, &cgroup, &shared.paths.pause_rootfs(), &args)
        .map_err(|error| EngineError::invalid("the pod's configuration", &error))?;
    write_spec(&paths.config(), &spec)
}

/// Writes a bundle's config.json: the old one or the new one is there whole, whenever the daemon dies or the disk is full.
pub(super) fn write_spec(path: &std::path::Path, spec: &oci_spec::runtime::Spec) -> Result<()> {
    let text = serde_json::to_vec(spec)
        .map_err(|error| EngineError::step("encode the specification", path.display(), &error))?;
    let fresh = path.with_extension("new");
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .map_err(|error| EngineError::step("write the specification", path.display(), &error))
}

/// The pod as the specification's builders want it.
pub(super) fn pod_facts<'a>(pod: &'a Pod, paths: &'a PodPaths, pause_pid: Option<i32>) -> spec::PodFacts<'a> {
    spec::PodFacts {
        config: &pod.config,
        id: &pod.id,
        network: match pod.config.namespaces.network {
            Mode::Pod => spec::NetworkNamespace::Path(&paths.netns),
            Mode::Node => spec::NetworkNamespace::Host,
        },
        user: pod.config.namespaces.user.mapping().map(|_| paths.userns.as_path()),
        pause_pid,
        shm: pod.config.namespaces.ipc.owns_memory().then_some(paths.shm.as_path()),
        resolv_conf: &paths.resolv_conf,
        hosts: &paths.hosts,
        hostname_file: &paths.hostname,
    }
}

/// The pause process's cgroup.
pub(super) fn pause_cgroup(pod: &Pod) -> String {
    cgroup::of_member(&pod.cgroup, &pod.id)
}
