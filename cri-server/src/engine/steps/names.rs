//! The name server of a container on a network of a user's own: from when the container is on its networks until they are
//! given back.

use std::sync::Arc;

use cleat_network::Netns;
use cleat_network::names::NameSockets;

use super::pod_files;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::Joined;
use crate::engine::names::{Neighbours, Resolution};
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;
use crate::spec;

/// How the pod resolves names, where it has a name server.
pub(super) fn resolution(shared: &Shared, pod: &Pod) -> Result<Option<Resolution>> {
    if pod.joined.iter().all(|joined| joined.network.is_none()) {
        return Ok(None);
    }
    let host = pod_files::host_resolv_conf(shared, pod)?;
    Ok(Some(Resolution::new(spec::read_resolv_conf(&host), pod.config.dns.as_ref())))
}

/// Opens the name server of a pod that needs one and has none yet.
pub(crate) fn open_names(shared: &Shared, pod: &Pod) -> Result<()> {
    let Some(resolution) = resolution(shared, pod)? else { return Ok(()) };
    if shared.names.serves(&pod.id) {
        return Ok(());
    }
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("open the name server", format!("pod {}", pod.id), error)
    };
    let netns = Netns::open(&shared.paths.pod(&pod.id).netns).map_err(|error| failed(&error))?;
    let sockets = NameSockets::open(&netns).map_err(|error| failed(&error))?;
    let neighbours = Arc::new(Neighbours::new(shared.board.clone(), pod.id.clone()));
    shared.names.serve(&pod.id, sockets, neighbours, &resolution).map_err(|error| failed(&error))
}

/// The same for a pod that runs and is on other networks now; its resolv.conf is told.
pub(super) fn open_later(shared: &Shared, pod: &Pod, joined: &[Joined]) -> Result<()> {
    let now = Pod { joined: joined.to_vec(), ..pod.clone() };
    open_names(shared, &now)?;
    pod_files::change_resolv_conf(shared, pod, &now)
}
