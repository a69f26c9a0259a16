//! Having network plugins free what belongs to no pod (CNI GC): a power cut may have taken the rows of a pod whose address a
//! plugin keeps on its own disk.

use std::sync::Arc;

use cleat_network::Network;

use crate::engine::error::{EngineError, Result};
use crate::engine::shared::Shared;

/// Tells the plugins which pods there are. Pods wait with their attachments meanwhile; a plugin that hangs would hold them
/// up in any case. The built-in network keeps nothing but what is on record.
pub(crate) async fn collect_attachments(shared: &Arc<Shared>) -> Result<()> {
    shared.blocking(collect).await
}

fn collect(shared: &Shared) -> Result<()> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("collect the garbage", "the network's plugins", error)
    };
    let network = shared.networks.current().map_err(|error| failed(&error))?;
    if matches!(*network, Network::Bridge(_)) {
        return Ok(());
    }
    let _at_rest = shared.networks.at_rest();
    let valid = shared.records.attached_pods().map_err(|error| failed(&error))?;
    network.gc(&valid).map_err(|error| failed(&error))
}
