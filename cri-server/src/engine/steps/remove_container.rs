//! Removing a container; also the undo of a preparation that failed or that a dead daemon left open.

use std::fs;
use std::sync::Arc;

use cleat_image::Snapshotter;

use super::cleanup::{Cleanup, absent_is_fine};
use super::stop::await_monitor;
use super::take_down_pod::{empty_cgroup, remove_cgroup};
use crate::engine::container::Container;
use crate::engine::error::Result;
use crate::engine::model::Id;
use crate::engine::monitor::Process;
use crate::engine::shared::Shared;

/// Removes everything of a container whose program has ended. Every part may be gone. Its log is its client's.
pub(crate) async fn remove_container(
    shared: &Arc<Shared>,
    container: &Arc<Container>,
    process: Option<Arc<Process>>,
) -> Result<()> {
    let container = container.clone();
    shared.blocking(move |shared| remove(shared, &container, process.as_deref())).await
}

fn remove(shared: &Shared, container: &Container, process: Option<&Process>) -> Result<()> {
    let state_dir = shared.paths.container(&container.id).state;
    let mut cleanup = Cleanup::of(format!("container {}", container.id));
    cleanup
        .step("end the processes", empty_cgroup(shared, &container.cgroup))
        .step("wait for the monitor", await_monitor(process, &state_dir))
        .step("remove the cgroup", remove_cgroup(shared, &container.cgroup))
        .step("remove the files", sweep_container(shared, &container.id))
        .step("remove the volumes", remove_volumes(shared, container));
    cleanup.finish()
}

/// What removes itself takes the volumes along that nobody has named.
fn remove_volumes(shared: &Shared, container: &Container) -> Result<()> {
    if !container.config.takes_volumes_along {
        return Ok(());
    }
    shared.remove_anonymous(&container.config, Some(&container.id))
}

/// Removes what a container has on disk, by its id alone.
pub(crate) fn sweep_container(shared: &Shared, id: &Id) -> Result<()> {
    let paths = shared.paths.container(id);
    let mut cleanup = Cleanup::of(format!("container {id}"));
    cleanup
        .step("remove the writable layer", shared.snapshots.remove(id.as_str()))
        .step("remove the state folder", absent_is_fine(fs::remove_dir_all(&paths.state)))
        .step("remove the bundle", absent_is_fine(fs::remove_dir_all(&paths.bundle)));
    cleanup.finish()
}
