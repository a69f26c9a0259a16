//! Metrics of pods and containers: cAdvisor's, for the kubelet that is told to leave cAdvisor out.
//!
//! Read when somebody asks, on threads for that, from the cgroups and from `/proc/<pid>`, which shows a pod's interfaces
//! without entering its namespaces. A figure that this kernel does not have is left out, never told as 0.

mod cgroup;
mod known;
mod proc;

use std::path::Path;
use std::sync::Arc;

use cleat_sys::cgroup::Cgroup;

use super::container::Container;
use super::error::{EngineError, Result};
use super::model::Resources;
use super::pod::Pod;
use super::shared::Shared;
use super::stats::Interface;
use crate::time::now_ns;
use known::*;
pub(crate) use known::{ALL, Kind, Metric};

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// What it is.
    pub metric: &'static Metric,
    /// In the order of [`Metric::labels`].
    pub labels: Vec<String>,
    /// In the metric's unit, rounded down.
    pub value: u64,
}

/// The figures of a container.
pub(crate) struct ContainerMetrics {
    /// Whose they are.
    pub container: Arc<Container>,
    /// What they are.
    pub samples: Vec<Sample>,
}

/// The figures of a pod: those of its network and of its pause process, and its containers'.
pub(crate) struct PodMetrics {
    /// Whose they are.
    pub pod: Arc<Pod>,
    /// The pod's own.
    pub samples: Vec<Sample>,
    /// Its running containers'.
    pub containers: Vec<ContainerMetrics>,
}

/// Samples being collected.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, metric: &'static Metric, value: u64) {
        self.labelled(metric, &[], value);
    }

    fn add_some(&mut self, metric: &'static Metric, value: Option<u64>) {
        if let Some(value) = value {
            self.add(metric, value);
        }
    }

    fn labelled(&mut self, metric: &'static Metric, labels: &[&str], value: u64) {
        debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
        self.0.push(Sample { metric, labels: labels.iter().map(ToString::to_string).collect(), value });
    }
}

/// Reads the figures of a pod and of its `containers`. Blocks.
pub(super) fn of_pod(
    shared: &Shared,
    pod: &Arc<Pod>,
    containers: Vec<Arc<Container>>,
    interfaces: &[Interface],
) -> Result<PodMetrics> {
    let mut samples = Samples::default();
    seen(&mut samples, pod.created_at_ns);
    cgroup::read(&open(shared, &pod.cgroup)?, &mut samples);
    interfaces.iter().for_each(|interface| network(interface, &mut samples));
    let running = containers
        .into_iter()
        .filter_map(|container| Some((container.state.pid()?, container)))
        .map(|(pid, container)| of_container(shared, container, pid));
    Ok(PodMetrics { pod: pod.clone(), samples: samples.0, containers: running.collect::<Result<_>>()? })
}

fn of_container(shared: &Shared, container: Arc<Container>, pid: i32) -> Result<ContainerMetrics> {
    let mut samples = Samples::default();
    if let Some(started_at_ns) = container.state.started_at_ns() {
        seen(&mut samples, started_at_ns);
    }
    let cgroup = open(shared, &container.cgroup)?;
    cgroup::read(&cgroup, &mut samples);
    proc::read(&cgroup, pid, &mut samples);
    limits(&container.resources, &mut samples);
    filesystem(shared, &container, &mut samples);
    Ok(ContainerMetrics { container, samples: samples.0 })
}

fn open(shared: &Shared, path: &str) -> Result<Cgroup> {
    Cgroup::open(&shared.cgroups, path)
        .map_err(|error| EngineError::step("read the metrics", format!("cgroup {path}"), &error))
}

fn seen(samples: &mut Samples, started_at_ns: i64) {
    let seconds = |ns: i64| u64::try_from(ns / 1_000_000_000).unwrap_or_default();
    samples.add(&LAST_SEEN, seconds(now_ns()));
    samples.add(&START_TIME, seconds(started_at_ns));
}

fn network(interface: &Interface, samples: &mut Samples) {
    let name = interface.name.as_str();
    for (metric, value) in [
        (&NETWORK_RX_BYTES, interface.rx_bytes),
        (&NETWORK_RX_PACKETS, interface.rx_packets),
        (&NETWORK_RX_DROPPED, interface.rx_dropped),
        (&NETWORK_RX_ERRORS, interface.rx_errors),
        (&NETWORK_TX_BYTES, interface.tx_bytes),
        (&NETWORK_TX_PACKETS, interface.tx_packets),
        (&NETWORK_TX_DROPPED, interface.tx_dropped),
        (&NETWORK_TX_ERRORS, interface.tx_errors),
    ] {
        samples.labelled(metric, &[name], value);
    }
}

/// The limits in force, as cAdvisor tells them: 0 where there is none.
fn limits(resources: &Resources, samples: &mut Samples) {
    let limit = |limit: Option<i64>| limit.and_then(|limit| u64::try_from(limit).ok());
    samples.add_some(&SPEC_CPU_PERIOD, resources.cpu_period_us);
    samples.add_some(&SPEC_CPU_QUOTA, limit(resources.cpu_quota_us));
    samples.add_some(&SPEC_CPU_SHARES, resources.cpu_shares);
    samples.add(&SPEC_MEMORY_LIMIT, limit(resources.memory_limit_bytes).unwrap_or(0));
    samples.add(&SPEC_MEMORY_SWAP, limit(resources.memory_swap_limit_bytes).unwrap_or(0));
    // The CRI has no other way to ask for one.
    let reservation = resources.unified.get("memory.low").and_then(|value| value.parse().ok());
    samples.add(&SPEC_MEMORY_RESERVATION, reservation.unwrap_or(0));
}

fn filesystem(shared: &Shared, container: &Container, samples: &mut Samples) {
    let Some(usage) = shared.layers.of(shared, &container.id).map(|measured| measured.usage) else { return };
    let Ok(whole) = nix::sys::statvfs::statvfs(&shared.settings.root) else { return };
    let device = device_of(&shared.settings.root).unwrap_or_default();
    samples.labelled(&FS_USAGE, &[&device], usage.bytes);
    samples.labelled(&FS_LIMIT, &[&device], whole.blocks() * whole.fragment_size());
    samples.labelled(&FS_INODES_TOTAL, &[&device], whole.files());
    samples.labelled(&FS_INODES_FREE, &[&device], whole.files_free());
}

/// The block device below a folder, `/dev/vda1`; none for a file system without one.
fn device_of(folder: &Path) -> Option<String> {
    let number = std::os::unix::fs::MetadataExt::dev(&std::fs::metadata(folder).ok()?);
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    device_name(&format!("{major}:{minor}"))
}

/// The name of the block device with the number `major:minor`, from sysfs.
fn device_name(number: &str) -> Option<String> {
    let link = std::fs::read_link(format!("/sys/dev/block/{number}")).ok()?;
    Some(format!("/dev/{}", link.file_name()?.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_cadvisors_and_there_once() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for metric in ALL {
            assert!(metric.name.starts_with("container_") && metric.help.ends_with('.'), "{metric:?}");
            let counts = metric.name.ends_with("_total") || metric.name.ends_with("_failcnt");
            assert_eq!(
                metric.kind == Kind::Counter,
                counts && metric.name != FS_INODES_TOTAL.name,
                "{metric:?}"
            );
        }
    }

    #[test]
    fn no_limit_is_zero_and_no_quota_is_none() {
        let mut samples = Samples::default();
        limits(&Resources { cpu_quota_us: Some(-1), ..Resources::default() }, &mut samples);
        let told: Vec<_> = samples.0.iter().map(|sample| (sample.metric.name, sample.value)).collect();
        let zero = [&SPEC_MEMORY_LIMIT, &SPEC_MEMORY_SWAP, &SPEC_MEMORY_RESERVATION];
        assert_eq!(told, zero.map(|metric| (metric.name, 0)));
    }
}
