//! Stopping and removing a pod; also the undo of a creation that failed or that a dead daemon left open.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use cleat_network::Netns;
use cleat_sys::cgroup::Cgroup;
use nix::mount::{MntFlags, umount2};

use super::cleanup::{Cleanup, absent_is_fine};
use super::run_pod::pause_cgroup;
use super::stop::await_monitor;
use super::{networks, user_namespace};
use crate::engine::error::{EngineError, Result};
use crate::engine::model::Id;
use crate::engine::monitor::Process;
use crate::engine::paths::PodPaths;
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;

/// How long killed processes may take to leave a cgroup that has no live handle any more.
const EMPTY_LIMIT: Duration = Duration::from_secs(20);

/// Ends the pod's own process and gives its network back. Its containers have ended before. Every part may be gone.
pub(crate) async fn stop_pod(shared: &Arc<Shared>, pod: &Arc<Pod>) -> Result<()> {
    let pod = pod.clone();
    shared.blocking(move |shared| stop_blocking(shared, &pod)).await
}

/// Stops the pod and removes what it has on disk.
pub(crate) async fn remove_pod(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    pause: Option<Arc<Process>>,
) -> Result<()> {
    stop_pod(shared, pod).await?;
    let pod = pod.clone();
    shared.blocking(move |shared| remove_blocking(shared, &pod, pause.as_deref())).await
}

fn stop_blocking(shared: &Shared, pod: &Pod) -> Result<()> {
    let paths = shared.paths.pod(&pod.id);
    let mut cleanup = Cleanup::of(format!("pod {}", pod.id));
    cleanup.step("end the pause process", empty_cgroup(shared, &pause_cgroup(pod)));
    if pod.config.owns_network() {
        shared.names.close(&pod.id);
        cleanup.step("detach from the networks", networks::leave_all(shared, pod));
        cleanup.step("remove the network namespace", Netns::remove(&paths.netns));
    }
    cleanup.step("remove the user namespace", user_namespace::unpin(&paths.userns));
    if pod.config.kind.is_one() {
        // The next start makes it anew, and takes other ports.
        cleanup.step("unmount /dev/shm", unmount_shm(&paths));
        shared.free_ports.release(&pod.id);
    }
    cleanup.finish()
}

fn unmount_shm(paths: &PodPaths) -> nix::Result<()> {
    unmounted(umount2(&paths.shm, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW))
}

fn remove_blocking(shared: &Shared, pod: &Pod, pause: Option<&Process>) -> Result<()> {
    let mut cleanup = Cleanup::of(format!("pod {}", pod.id));
    cleanup
        .step("wait for the monitor", await_monitor(pause, &shared.paths.pod(&pod.id).state))
        .step("remove the files", sweep_pod(shared, &pod.id))
        .step("remove the pause process's cgroup", remove_cgroup(shared, &pause_cgroup(pod)));
    if pod.config.cgroup_parent.is_none() {
        cleanup.step("remove the pod's cgroup", remove_cgroup(shared, &pod.cgroup));
    }
    cleanup.finish()
}

/// Removes what a pod has on disk and mounted, by its id alone.
pub(crate) fn sweep_pod(shared: &Shared, id: &Id) -> Result<()> {
    let paths = shared.paths.pod(id);
    let mut cleanup = Cleanup::of(format!("pod {id}"));
    cleanup
        .step("unmount /dev/shm", unmount_shm(&paths))
        .step("remove the network namespace", Netns::remove(&paths.netns))
        .step("remove the user namespace", user_namespace::unpin(&paths.userns))
        .step("remove the state folder", absent_is_fine(fs::remove_dir_all(&paths.state)))
        .step("remove the folder", absent_is_fine(fs::remove_dir_all(&paths.dir)));
    cleanup.finish()
}

/// `EINVAL` says that nothing is mounted there, `ENOENT` that there is no such folder.
fn unmounted(result: nix::Result<()>) -> nix::Result<()> {
    match result {
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => Ok(()),
        result => result,
    }
}

/// Kills what is in a cgroup and waits until nothing is.
pub(super) fn empty_cgroup(shared: &Shared, path: &str) -> Result<()> {
    super::stop::kill_cgroup(shared, path)?;
    let failed =
        |error| EngineError::step("wait for the end of the processes", format!("cgroup {path}"), &error);
    let cgroup = Cgroup::open(&shared.cgroups, path).map_err(failed)?;
    if cgroup.wait_empty(EMPTY_LIMIT).map_err(failed)? {
        return Ok(());
    }
    Err(EngineError::Timeout {
        what: format!("the end of the killed processes in cgroup {path}"),
        limit: EMPTY_LIMIT,
        outcome: "; the kernel cannot end them: look at their wchan and at the storage they use",
    })
}

/// Removes an empty cgroup from every hierarchy; absent is fine.
pub(super) fn remove_cgroup(
    shared: &Shared,
    path: &str,
) -> std::result::Result<(), cleat_sys::cgroup::CgroupError> {
    Cgroup::open(&shared.cgroups, path)?.remove()
}
