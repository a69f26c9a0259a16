//! What every driver and step works with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use cleat_image::{Overlay, Store};
use cleat_network::Network;
use cleat_sys::cgroup::Layout;

use super::activity::Activity;
use super::container_files::Written;
use super::error::{EngineError, Result};
use super::free_ports::FreePorts;
use super::model::cgroup;
use super::monitor::Launcher;
use super::names::Names;
use super::networks::Networks;
use super::paths::Paths;
use super::records::Records;
use super::stats::Layers;
use super::user_networks::UserNetworks;
use super::view::Board;
use super::volumes::Volumes;
use super::waiting::Waiting;
use crate::spec;

/// What becomes of the volumes that an image wants, in a pod's container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageVolumes {
    /// Folders of the container's own, filled from the image.
    Bind,
    /// They are left what they are in the image: folders of the writable layer, where it has them.
    Ignore,
}

/// What the operator decided about the engine.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Folder that survives reboots.
    pub root: PathBuf,
    /// Image stores of others, read-only.
    pub additional_stores: Vec<PathBuf>,
    /// Folder that need not.
    pub state: PathBuf,
    /// The monitor's program.
    pub conmon: PathBuf,
    /// The pause program.
    pub pause: PathBuf,
    /// Programs of other OCI runtimes, by the handlers' names.
    pub handlers: BTreeMap<String, PathBuf>,
    /// Cgroup of pods that name none.
    pub cgroup_parent: String,
    /// Who makes cgroups.
    pub cgroup_driver: cgroup::Driver,
    /// Most output kept of one `exec_sync`, bytes, both streams together.
    pub exec_output_bytes: usize,
    /// Folders of files that describe devices; the later wins.
    pub cdi_spec_dirs: Vec<PathBuf>,
    /// What becomes of the volumes that images want.
    pub image_volumes: ImageVolumes,
    /// The resolv.conf that is copied for pods without DNS settings of their own.
    pub host_resolv_conf: PathBuf,
}

impl Settings {
    /// The program of the runtime that `handler` names; none for the built-in one, whose name is empty.
    pub(super) fn runtime(&self, handler: &str) -> Result<Option<PathBuf>> {
        match self.handlers.get(handler) {
            None if handler.is_empty() => Ok(None),
            None => Err(EngineError::Invalid {
                what: format!("runtime handler {handler:?}"),
                why:
                    "no handler of this name is configured (`runtime.handlers`); the default one has no name"
                        .to_owned(),
            }),
            found => Ok(found.cloned()),
        }
    }
}

/// Everything the engine is made of besides its drivers.
pub(crate) struct Shared {
    /// What the operator decided.
    pub settings: Settings,
    /// Where everything lies.
    pub paths: Paths,
    /// What is on record.
    pub records: Records,
    /// What readers see; name servers read it too.
    pub board: Arc<Board>,
    /// The name servers that run.
    pub(crate) names: Names,
    /// Images.
    pub images: Store,
    /// Containers' writable layers.
    pub snapshots: Overlay,
    /// What those take.
    pub layers: Layers,
    /// The networks pods are attached to.
    pub(crate) networks: Networks,
    /// Networks of their users' own.
    pub(super) user_networks: UserNetworks,
    /// The host's cgroup hierarchies.
    pub cgroups: Layout,
    /// What this host can do.
    pub host: spec::Host,
    /// Starts monitors.
    pub launcher: Launcher,
    /// Who waits for something to happen to a container.
    pub(crate) waiting: Waiting,
    /// Ports of the host for who asks for any.
    pub(crate) free_ports: FreePorts,
    /// Volumes.
    pub(super) volumes: Volumes,
    /// What is done and how long it takes.
    pub(super) activity: Activity,
    /// Resting containers whose files are being written to.
    pub(super) written: Written,
}

impl Shared {
    /// Runs blocking `work` on a thread made for that. It is not interrupted when the caller goes away.
    pub(crate) async fn blocking<T, F>(self: &Arc<Self>, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Self) -> Result<T> + Send + 'static,
    {
        let shared = self.clone();
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(error) => Err(EngineError::step("run a blocking step", "the engine", &error)),
        }
    }
}

/// The subnets addresses are handed out of; none where a CNI plugin does it.
pub(crate) fn subnets(network: &Network) -> Vec<ipnet::IpNet> {
    match network {
        Network::Bridge(bridge) => bridge.config().subnets().iter().map(|subnet| subnet.net).collect(),
        Network::Cni(_) => Vec::new(),
    }
}

/// Names of the entries of a folder; none when it does not exist.
pub(super) fn entries(folder: &std::path::Path) -> std::io::Result<BTreeSet<String>> {
    match std::fs::read_dir(folder) {
        Ok(read) => read.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}
