//! The one call the engine makes, whatever carries it out.

use std::path::{Path, PathBuf};

use ipnet::IpNet;

use crate::{
    Attached, Netns, POD_INTERFACE,
    bridge::{self, Attachment, Bridge, BridgeError, Leads},
    cni::{CapabilityArgs, CniError, CniNetwork, DEFAULT_PLUGIN_TIMEOUT, ValidAttachment},
    netns::NetnsError,
};

/// A network that pods are attached to.
#[derive(Debug)]
pub enum Network {
    /// The built-in bridge.
    Bridge(Bridge),
    /// The operator's CNI configuration.
    Cni(CniNetwork),
}

/// Whose link is being made, checked or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// The pod's id, unique on the host: names the host's end of the link, and is `CNI_CONTAINERID`.
    pub pod_id: String,
    /// The pod's name in its cluster; empty without one.
    pub name: String,
    /// The pod's namespace in its cluster; empty without one.
    pub namespace: String,
    /// The pod's uid in its cluster; empty without one.
    pub uid: String,
    /// Where the pod's network namespace is pinned. A detach may be owed after the namespace has gone: the path is
    /// still given, and need not exist.
    pub netns: PathBuf,
    /// The addresses reserved for the pod, one for each subnet at most; only the bridge reads them.
    pub addresses: Vec<IpNet>,
    /// What plugins that declare the capability are told. The bridge reads the hardware address
    /// and the ports.
    pub capabilities: CapabilityArgs,
}

/// A pod could not be attached, checked or detached, or the network is not ready.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The pod's namespace could not be used.
    #[error("use the network namespace of pod {pod_id}")]
    Netns {
        /// The pod.
        pod_id: String,
        /// Why.
        #[source]
        source: NetnsError,
    },
    /// The pod is on the built-in bridge, which is not in use any more.
    #[error("check pod {pod_id}: it is on the built-in bridge, which CNI has replaced")]
    OtherNetwork {
        /// The pod.
        pod_id: String,
    },
    /// The built-in bridge failed.
    #[error("built-in network")]
    Bridge(#[from] BridgeError),
    /// CNI failed.
    #[error("CNI network")]
    Cni(#[from] CniError),
}

impl Network {
    /// The name pods see it under: the bridge's, or the CNI configuration's.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Bridge(bridge) => bridge.config().name(),
            Self::Cni(cni) => cni.name(),
        }
    }

    /// What the engine writes down before [`Self::attach`], so that the detach it then owes is right whatever happens
    /// in between: a crash, or another network's configuration.
    #[must_use]
    pub fn intent(&self, pod: &PodNetwork) -> Attached {
        Attached {
            interface: POD_INTERFACE.to_owned(),
            mac: None,
            addresses: pod.addresses.clone(),
            gateways: Vec::new(),
            routes: Vec::new(),
            ports: Vec::new(),
            cni: match self {
                Self::Bridge(_) => None,
                Self::Cni(cni) => Some(cni.record()),
            },
        }
    }

    /// Connects a pod. After a failure the bridge has undone everything; plugins have not, so that a detach is owed
    /// either way.
    pub fn attach(&self, pod: &PodNetwork) -> Result<Attached, NetworkError> {
        match self {
            Self::Bridge(bridge) => {
                let netns = open(pod)?;
                let attachment = Attachment {
                    container_id: pod.pod_id.clone(),
                    host_ifname: bridge::host_ifname(&pod.pod_id),
                    interface: POD_INTERFACE.to_owned(),
                    leads: Leads::ALL,
                    addresses: pod.addresses.clone(),
                    mac: pod.capabilities.mac,
                    ports: pod.capabilities.port_mappings.clone(),
                };
                Ok(bridge.attach(&netns, &attachment)?)
            }
            Self::Cni(cni) => Ok(cni.add(pod)?),
        }
    }

    /// Disconnects a pod; succeeds where that has been done before and where the namespace has gone. `attached` is
    /// what [`Self::attach`] returned, else the [`Self::intent`]: it decides how, whatever network this is by now.
    /// Without either the present network is taken to be the pod's.
    pub fn detach(&self, pod: &PodNetwork, attached: Option<&Attached>) -> Result<(), NetworkError> {
        let record = attached.and_then(|attached| attached.cni.as_ref());
        match (self, attached, record) {
            (Self::Cni(cni), None, _) => Ok(cni.del(pod, None)?),
            (Self::Cni(cni), _, Some(record)) => Ok(cni.del(pod, Some(record))?),
            (Self::Bridge(_), _, Some(record)) => {
                Ok(record.network(DEFAULT_PLUGIN_TIMEOUT)?.del(pod, Some(record))?)
            }
            (Self::Bridge(bridge), _, None) => {
                let published = bridge.unpublish(&pod.pod_id, &pod.capabilities.port_mappings);
                let removed = bridge::remove_link(&bridge::host_ifname(&pod.pod_id));
                Ok(BridgeError::all_of([published, removed])?)
            }
            (Self::Cni(_), _, None) => Ok(bridge::remove_link(&bridge::host_ifname(&pod.pod_id))?),
        }
    }

    /// Takes over a pod that an earlier daemon attached, before anything else is asked of this network: its ports of the
    /// host are its own. Plugins keep theirs themselves.
    pub fn restore(&self, pod_id: &str, attached: &Attached) -> Result<(), NetworkError> {
        match (self, &attached.cni) {
            (Self::Bridge(bridge), None) => Ok(bridge.restore(pod_id, attached)?),
            _ => Ok(()),
        }
    }

    /// Whether a pod is still connected as `attached` says.
    pub fn check(&self, pod: &PodNetwork, attached: &Attached) -> Result<(), NetworkError> {
        match (self, &attached.cni) {
            (Self::Cni(cni), Some(record)) => Ok(cni.check(pod, record)?),
            (Self::Bridge(_), Some(record)) => {
                Ok(record.network(DEFAULT_PLUGIN_TIMEOUT)?.check(pod, record)?)
            }
            (Self::Bridge(bridge), None) => Ok(bridge.check(&bridge::host_ifname(&pod.pod_id))?),
            (Self::Cni(_), None) => Err(NetworkError::OtherNetwork { pod_id: pod.pod_id.clone() }),
        }
    }

    /// Whether pods can be attached now: the bridge is in place, or the plugins say so (CNI STATUS).
    pub fn status(&self) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => Ok(bridge.ensure()?),
            Self::Cni(cni) => Ok(cni.status()?),
        }
    }

    /// Frees what belongs to no pod of `valid_pod_ids`: stale links of the bridge, or what plugins find (CNI GC). Every
    /// pod that is being attached has to be among them.
    pub fn gc(&self, valid_pod_ids: &[String]) -> Result<(), NetworkError> {
        match self {
            Self::Bridge(bridge) => Ok(bridge.collect(valid_pod_ids)?),
            Self::Cni(cni) => {
                let valid: Vec<_> = valid_pod_ids.iter().map(|id| ValidAttachment::of_pod(id)).collect();
                Ok(cni.gc(&valid)?)
            }
        }
    }
}

fn open(pod: &PodNetwork) -> Result<Netns, NetworkError> {
    let path: &Path = &pod.netns;
    Netns::open(path).map_err(|source| NetworkError::Netns { pod_id: pod.pod_id.clone(), source })
}
