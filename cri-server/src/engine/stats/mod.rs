//! Figures of running containers and pods, read when somebody asks.
//!
//! | file | what |
//! |---|---|
//! | `figures` | what is told |
//! | `cgroup` | what a cgroup's files say |
//! | `layers` | what writable layers take, kept for a while |
//! | `interfaces` | a pod's network |

mod cgroup;
mod figures;
mod interfaces;
mod layers;

use std::sync::Arc;

pub(super) use cgroup::{flat, parse_pressure};
pub(crate) use figures::{
    ContainerStats, Cpu, Filesystem, Interface, Memory, PodStats, Pressure, PressureLine, Swap,
};
pub(super) use interfaces::interfaces;
pub(super) use layers::{Layers, refresh};

use super::container::Container;
use super::error::{EngineError, Result};
use super::pod::Pod;
use super::shared::Shared;
use crate::time::now_ns;
use cgroup::of_cgroup;

/// Most threads that read figures of many at a time.
const READERS: usize = 4;
/// Fewest containers that are worth a thread of their own.
const SHARE: usize = 16;

/// A container's figures.
pub(crate) async fn of_container(shared: &Arc<Shared>, container: Arc<Container>) -> Result<ContainerStats> {
    let read = container.clone();
    let stats = shared.blocking(move |shared| read_container(shared, &read)).await;
    refresh(shared, &[container]);
    stats
}

/// The figures of many containers, shared out to as many threads as there are processors to run them. What is removed
/// meanwhile is left out.
pub(crate) async fn of_containers(
    shared: &Arc<Shared>,
    containers: Vec<Arc<Container>>,
) -> Result<Vec<(Arc<Container>, ContainerStats)>> {
    let readers = std::thread::available_parallelism().map_or(1, usize::from).min(READERS);
    let share = containers.len().div_ceil(readers).max(SHARE);
    let parts: Vec<_> = containers.chunks(share).map(<[_]>::to_vec).collect();
    let read = parts.into_iter().map(|part| {
        let shared = shared.clone();
        tokio::spawn(async move { shared.blocking(move |shared| read_part(shared, part)).await })
    });
    let mut all = Vec::with_capacity(containers.len());
    for part in read.collect::<Vec<_>>() {
        let part = part.await.map_err(|error| EngineError::step("read the figures", "containers", &error))?;
        all.extend(part?);
    }
    refresh(shared, &containers);
    Ok(all)
}

/// A pod's figures and those of `containers`, which are its.
pub(crate) async fn of_pod(
    shared: &Arc<Shared>,
    pod: Arc<Pod>,
    containers: Vec<Arc<Container>>,
) -> Result<PodStats> {
    let read = containers.clone();
    let stats = shared.blocking(move |shared| read_pod(shared, &pod, read)).await;
    refresh(shared, &containers);
    stats
}

fn read_part(
    shared: &Shared,
    containers: Vec<Arc<Container>>,
) -> Result<Vec<(Arc<Container>, ContainerStats)>> {
    let read = |container: Arc<Container>| match read_container(shared, &container) {
        Err(EngineError::NotFound { .. }) => None,
        stats => Some(stats.map(|stats| (container, stats))),
    };
    containers.into_iter().filter_map(read).collect()
}

/// Blocks on the cgroup filesystem, and on the writable layer's folder where nothing recent is known of it.
fn read_container(shared: &Shared, container: &Container) -> Result<ContainerStats> {
    let mut stats =
        ContainerStats { at_ns: now_ns(), writable: writable(shared, container), ..Default::default() };
    if container.state.pid().is_some() {
        let figures = of_cgroup(shared, &container.cgroup)?;
        stats.cpu = figures.cpu;
        stats.memory = figures.memory;
        stats.swap = figures.swap;
        stats.io_pressure = figures.io_pressure;
        stats.pids = figures.pids;
    }
    Ok(stats)
}

fn read_pod(shared: &Shared, pod: &Pod, containers: Vec<Arc<Container>>) -> Result<PodStats> {
    let figures = of_cgroup(shared, &pod.cgroup)?;
    let alone = containers.first().filter(|one| one.is_alone).and_then(|one| one.state.pid());
    let containers = containers
        .into_iter()
        .map(|container| read_container(shared, &container).map(|stats| (container, stats)))
        .collect::<Result<_>>()?;
    Ok(PodStats {
        at_ns: now_ns(),
        cpu: figures.cpu,
        memory: figures.memory,
        io_pressure: figures.io_pressure,
        process_count: figures.pids,
        interfaces: interfaces(pod, alone),
        containers,
    })
}

fn writable(shared: &Shared, container: &Container) -> Option<Filesystem> {
    let measured = shared.layers.of(shared, &container.id)?;
    Some(Filesystem {
        at_ns: measured.at_ns,
        bytes: measured.usage.bytes,
        inodes: measured.usage.inodes,
        mountpoint: shared.images.root().to_owned(),
    })
}
