//! Making a container's processes stand still, and letting them go on: the freezer's work, whose state outlives the daemon.

use std::sync::Arc;
use std::time::Duration;

use cleat_sys::cgroup::{Cgroup, CgroupError};

use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::shared::Shared;

/// How long processes may take to stand still. One in uninterruptible sleep does so only when it wakes.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// Makes every process of the container stand still; after a failure all go on.
pub(crate) async fn pause(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<()> {
    let container = container.clone();
    shared
        .blocking(move |shared| {
            let failed = |error: CgroupError| failed("pause", &container, &error);
            let cgroup = Cgroup::open(&shared.cgroups, &container.cgroup).map_err(failed)?;
            let paused = cgroup.pause(PAUSE_LIMIT);
            if matches!(paused, Ok(true)) {
                return Ok(());
            }
            cgroup.resume().map_err(failed)?;
            paused.map_err(failed)?;
            Err(EngineError::Timeout {
                what: format!("the pause of container {}", container.id),
                limit: PAUSE_LIMIT,
                outcome: "; it goes on: a process of it is in uninterruptible sleep",
            })
        })
        .await
}

/// Lets them go on. Those of a container that has ended meanwhile, as killed ones do while they stand still, need no word.
pub(crate) async fn resume(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<()> {
    let container = container.clone();
    shared
        .blocking(move |shared| {
            let resumed = Cgroup::open(&shared.cgroups, &container.cgroup).and_then(|cgroup| cgroup.resume());
            match resumed {
                Err(error) if !error.is_absence() => Err(failed("resume", &container, &error)),
                _ => Ok(()),
            }
        })
        .await
}

/// Whether they stand still.
pub(crate) async fn is_paused(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<bool> {
    let container = container.clone();
    shared
        .blocking(move |shared| {
            Cgroup::open(&shared.cgroups, &container.cgroup)
                .and_then(|cgroup| cgroup.is_paused())
                .map_err(|error| failed("look at the freezer of", &container, &error))
        })
        .await
}

fn failed(step: &'static str, container: &Container, error: &CgroupError) -> EngineError {
    EngineError::step(step, format!("container {}", container.id), error)
}
