//! Changing a container's limits.

use std::sync::Arc;

use cleat_conmon_proto::Request;
use oci_spec::runtime::Spec;

use super::run_pod::write_spec;
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::Resources;
use crate::engine::monitor::{Process, done};
use crate::engine::shared::Shared;
use crate::spec;

/// Applies `change` to a container, to its processes if it runs, and to its specification. Returns the limits in force.
pub(crate) async fn update_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: Option<Arc<Process>>,
    change: &Resources,
) -> Result<Resources> {
    let resources = container.resources.changed_by(change);
    let limits = spec::resources(&shared.host, &resources)
        .map_err(|error| EngineError::invalid("the limits", &error))?;
    let object = format!("container {}", container.id);
    if let Some(process) = process {
        let failed = |error| EngineError::step("change the limits", &object, &error);
        let text = serde_json::to_string(&limits)
            .map_err(|error| EngineError::step("encode the limits", &object, &error))?;
        let mut connection = process.connect().await.map_err(failed)?;
        let answer = connection.ask(&Request::Update { resources: text }, &[]).await.map_err(failed)?;
        done(answer).map_err(failed)?;
    }
    let path = shared.paths.container(&container.id).config();
    shared
        .blocking(move |_| {
            let mut specification = Spec::load(&path)
                .map_err(|error| EngineError::step("read the specification", path.display(), &error))?;
            let mut linux = specification.linux().clone().unwrap_or_default();
            let devices = linux.resources().as_ref().and_then(|old| old.devices().clone());
            let mut limits = limits;
            limits.set_devices(devices);
            linux.set_resources(Some(limits));
            specification.set_linux(Some(linux));
            write_spec(&path, &specification)
        })
        .await?;
    Ok(resources)
}
