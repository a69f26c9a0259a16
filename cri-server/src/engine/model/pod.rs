//! A pod: the group that owns namespaces, an address, a cgroup and containers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Id, Place, PlaceIn, Resources, Security, UserMode};

/// What a client asked a pod to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodConfig {
    /// Who it is; a repeated request with the same name means the same pod.
    pub name: PodName,
    /// Whether it is a pod or a container without one; absent in records of before there were the latter.
    #[serde(default)]
    pub kind: Kind,
    /// Hostname inside; empty when the pod uses the host's UTS namespace.
    pub hostname: String,
    /// Folder on the host that the containers' log paths are relative to.
    pub log_directory: Option<PathBuf>,
    /// What /etc/resolv.conf says; the host's own file is copied when absent.
    pub dns: Option<Dns>,
    /// Whether its network namespace, if it has one of its own, stays without a network unless [`Self::places`] has any;
    /// absent in records of before there were such.
    #[serde(default)]
    pub is_unconnected: bool,
    /// Its places in networks, the one it was made with first; without any it is on the default network. Only groups of one
    /// have such.
    #[serde(default)]
    pub places: Vec<Place>,
    /// The group whose network it is in, in place of one of its own; the other has to run when it starts.
    #[serde(default)]
    pub network_of: Option<Id>,
    /// The group whose IPC namespace and /dev/shm it uses, in place of its own; the other has to run when it starts.
    #[serde(default)]
    pub ipc_of: Option<Id>,
    /// Names that /etc/hosts has besides the pod's own.
    #[serde(default)]
    pub extra_hosts: Vec<HostAlias>,
    /// Ports of the host that lead into the pod.
    pub port_mappings: Vec<PortMapping>,
    /// Labels, for selection.
    pub labels: BTreeMap<String, String>,
    /// Annotations, returned unread.
    pub annotations: BTreeMap<String, String>,
    /// Cgroup the pod's containers are put under; the daemon's default parent when absent.
    pub cgroup_parent: Option<String>,
    /// Kernel parameters of the pod's namespaces.
    pub sysctls: BTreeMap<String, String>,
    /// Which namespaces are the pod's own.
    pub namespaces: Namespaces,
    /// How the pod's own process is confined, and the default of its containers.
    pub security: Security,
    /// Size of the pod's /dev/shm; the daemon's default when absent.
    pub shm_size_bytes: Option<u64>,
    /// Name of the runtime handler asked for; empty means the default one.
    pub runtime_handler: String,
    /// Cost of the pod itself, kept and reported.
    pub overhead: Option<Resources>,
    /// Sum over the pod's containers as the client expects it, kept and reported.
    pub resources: Option<Resources>,
}

impl PodConfig {
    /// Whether it has a network namespace of its own.
    pub(crate) fn owns_network(&self) -> bool {
        self.namespaces.network == Mode::Pod && self.network_of.is_none()
    }

    /// Whether it has a /dev/shm of its own.
    pub(crate) fn owns_memory(&self) -> bool {
        self.namespaces.ipc.owns_memory() && self.ipc_of.is_none()
    }

    /// The networks it is to be on, and how; none where it has no network namespace of its own, or nothing in it.
    pub(crate) fn places(&self) -> Vec<Place> {
        match (self.owns_network(), self.places.is_empty(), self.is_unconnected) {
            (false, _, _) | (true, true, true) => Vec::new(),
            (true, true, false) => vec![Place::plain(PlaceIn::Default)],
            (true, false, _) => self.places.clone(),
        }
    }
}

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HostAlias {
    /// The name.
    pub name: String,
    /// The address.
    pub address: IpAddr,
}

/// What a group is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A pod, held by a pause process from its creation to its end.
    #[default]
    Pod,
    /// A container without a pod: a group of one without a pause, whose network namespace the engine pins while the
    /// program runs.
    One {
        /// The container.
        container: Id,
        /// Whether it is removed when its program has ended.
        auto_remove: bool,
    },
}

impl Kind {
    /// Whether it is a container without a pod.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self, Self::One { .. })
    }
}

/// A pod's name: the kubelet's four-part identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct PodName {
    /// Name of the pod.
    pub name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Kubernetes uid.
    pub uid: String,
    /// How many times this pod has been created anew.
    pub attempt: u32,
}

/// What goes into /etc/resolv.conf. Values are single words without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dns {
    /// `nameserver` lines.
    pub servers: Vec<IpAddr>,
    /// The `search` line.
    pub searches: Vec<String>,
    /// The `options` line.
    pub options: Vec<String>,
}

/// A port of the host that leads to one of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortMapping {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Port in the pod.
    pub container_port: u16,
    /// The last one of a range of the host's ports, of which `host_port` is the first and one that is free is taken; none for
    /// that port alone.
    #[serde(default)]
    pub host_port_last: Option<u16>,
    /// Port on the host. 0 means one that is free when a container without a pod starts; of a pod none is published then.
    pub host_port: u16,
    /// Address on the host; all when absent.
    pub host_ip: Option<IpAddr>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Which namespaces a pod (or one of its containers) uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Namespaces {
    /// Network.
    pub network: Mode,
    /// System V IPC, POSIX message queues, and the shared memory of /dev/shm.
    pub ipc: IpcMode,
    /// The machine's names. Whoever uses the host's network and has no name of its own uses the host's in any case.
    #[serde(default)]
    pub uts: Mode,
    /// Processes.
    pub pid: PidMode,
    /// Users; absent in records of before there were any.
    #[serde(default)]
    pub user: UserMode,
}

/// Whose IPC namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum IpcMode {
    /// The pod's; of a container without a pod, its own, which no other may join.
    #[default]
    Pod,
    /// The host's.
    Node,
    /// Its own, which other containers without a pod may join ([`PodConfig::ipc_of`]).
    Shareable,
    /// Its own, without a /dev/shm.
    WithoutMemory,
}

impl IpcMode {
    /// Whether the group has a /dev/shm of its own to mount.
    pub(crate) fn owns_memory(self) -> bool {
        matches!(self, Self::Pod | Self::Shareable)
    }
}

/// Whose network or UTS namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// The pod's.
    #[default]
    Pod,
    /// The host's.
    Node,
}

/// Whose process namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PidMode {
    /// One per container.
    #[default]
    Container,
    /// One for all containers of the pod; the pause process is its process 1.
    Pod,
    /// The host's.
    Node,
    /// That of another container of the same pod.
    Target(Id),
}
