//! What CNI plugins that declare a capability are told of a pod (CNI conventions, "dynamic plugin specific fields").

use cleat_network::cni::CapabilityArgs;

use crate::engine::model::PodConfig;

/// The capability arguments of a pod.
pub(super) fn of(_config: &PodConfig) -> CapabilityArgs {
    CapabilityArgs::default()
}
