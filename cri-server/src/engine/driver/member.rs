//! A container in its driver's hands.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::engine::container::{Container, ContainerEvent, ContainerState, ImageUse};
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{ContainerConfig, Id, Identity, Kind, cgroup};
use crate::engine::monitor::Process;
use crate::engine::pod::Pod;
use crate::engine::restart::Restarts;
use crate::engine::shared::Shared;
use crate::engine::view::View;
use crate::spec;
use crate::time::now_ns;

/// A container and its process, once it was started.
pub(crate) struct Member {
    /// The record.
    pub container: Arc<Container>,
    /// The live handle, kept after the end: a removal waits for the monitor.
    pub process: Option<Arc<Process>>,
    /// Waits for its next probe, or is that.
    pub(super) probing: Option<AbortOnDropHandle<()>>,
}

impl Member {
    /// A new container as `config` wants it, still to be prepared.
    pub(crate) fn new(shared: &Shared, pod: &Pod, config: ContainerConfig) -> Result<Self> {
        let id = match &pod.config.kind {
            Kind::Pod => {
                Id::random().map_err(|error| EngineError::step("make an id", "a container", &error))?
            }
            Kind::One { container, .. } => container.clone(),
        };
        let image = shared.images.resolve(&config.image.requested).ok_or_else(|| EngineError::NotFound {
            kind: "image",
            name: config.image.requested.clone(),
            list: "images",
        })?;
        let empty = oci_spec::image::Config::default();
        let settings = image.config.config().as_ref().unwrap_or(&empty);
        let stop_signal = spec::stop_signal(&config, settings)
            .map_err(|error| EngineError::invalid("the stop signal", &error))?;
        let container = Container {
            pod: pod.id.clone(),
            is_alone: pod.config.kind.is_one(),
            cgroup: cgroup::of_member(&pod.cgroup, &id),
            log_path: log_path(pod, &config)?,
            image: ImageUse {
                id: image.id.to_string(),
                reference: image.digests.first().map_or_else(|| image.id.to_string(), ToString::to_string),
            },
            identity: Identity::default(),
            created_at_ns: now_ns(),
            stop_signal,
            resources: config.resources.clone(),
            restarts: Restarts { policy: config.restart, ..Restarts::default() },
            health: None,
            state: ContainerState::Creating,
            config,
            id,
        };
        Ok(Self::of(container))
    }

    /// A container whose program does not run, as far as is known.
    pub(in crate::engine) fn of(container: Container) -> Self {
        Self { container: Arc::new(container), process: None, probing: None }
    }

    /// Shows it to readers.
    pub(crate) fn publish(&self, view: &mut View) {
        let id = &self.container.id;
        view.containers.insert(id.clone(), self.container.clone());
        match &self.process {
            Some(process) if self.container.state.pid().is_some() => {
                view.processes.insert(id.clone(), process.clone())
            }
            _ => view.processes.remove(id),
        };
    }

    /// Applies an event to the state.
    pub(crate) fn apply(&mut self, event: ContainerEvent) -> Result<()> {
        let state = self.container.state.next(event).map_err(|error| {
            EngineError::step("change the state", format!("container {}", self.container.id), &error)
        })?;
        Arc::make_mut(&mut self.container).state = state;
        Ok(())
    }
}

/// The log file: below the pod's log folder whatever the request says (CVE-2025-0750: a log path is a host path).
fn log_path(pod: &Pod, config: &ContainerConfig) -> Result<Option<PathBuf>> {
    let (Some(folder), Some(name)) = (&pod.config.log_directory, &config.log_path) else { return Ok(None) };
    let plain = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain(name) || name.as_os_str().is_empty() {
        return Err(EngineError::Invalid {
            what: format!("log_path {:?}", name.display()),
            why: "it has to be a relative path without `..`, below the pod's log_directory".to_owned(),
        });
    }
    Ok(Some(folder.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::pod::{PodState, sample};

    fn path(folder: Option<&str>, name: Option<&str>) -> Result<Option<PathBuf>> {
        let mut pod = sample(&Id::random().unwrap(), PodState::NotReady);
        pod.config.log_directory = folder.map(Into::into);
        log_path(&pod, &ContainerConfig { log_path: name.map(Into::into), ..ContainerConfig::default() })
    }

    #[test]
    fn a_log_stays_below_the_pods_folder() {
        assert_eq!(path(Some("/l"), Some("c/0.log")).unwrap(), Some("/l/c/0.log".into()));
        assert_eq!(path(None, Some("c/0.log")).unwrap(), None);
        for evil in ["../x", "/etc/passwd", "a/../../x", ""] {
            assert!(path(Some("/l"), Some(evil)).is_err(), "{evil}");
        }
    }
}
