//! Figures of running containers and pods, read from their cgroups when somebody asks.
//!
//! The figures and their names are cAdvisor's, which the kubelet expects: the working set is the usage without the page
//! cache that the kernel would drop first.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cleat_image::Snapshotter;
use cleat_sys::cgroup::Cgroup;

use super::container::Container;
use super::error::{EngineError, Result};
use super::pod::Pod;
use super::shared::{Shared, now_ns};

/// CPU time used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    /// Since the cgroup was made, nanoseconds of one CPU.
    pub usage_ns: u64,
    /// Stalls (cgroup v2 with PSI only).
    pub pressure: Option<Pressure>,
}

/// Memory used.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Memory {
    /// All of it, page cache included.
    pub usage_bytes: u64,
    /// Without inactive page cache.
    pub working_set_bytes: u64,
    /// What is left below the limit; absent without one.
    pub available_bytes: Option<u64>,
    /// Anonymous memory.
    pub rss_bytes: u64,
    /// Minor and major page faults.
    pub page_faults: u64,
    /// Those that read from disk.
    pub major_page_faults: u64,
    /// Stalls (cgroup v2 with PSI only).
    pub pressure: Option<Pressure>,
}

/// Swap used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swap {
    /// Bytes.
    pub usage_bytes: u64,
    /// What is left below the limit; absent without one.
    pub available_bytes: Option<u64>,
}

/// Pressure stall information (`Documentation/accounting/psi.rst`).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pressure {
    /// Some task stalled.
    pub some: PressureLine,
    /// All tasks stalled.
    pub full: Option<PressureLine>,
}

/// One line of a pressure file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PressureLine {
    /// Percent of the last ten seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds in all.
    pub total_us: u64,
}

/// Space used on a filesystem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filesystem {
    /// Bytes.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
    /// Where it is.
    pub mountpoint: PathBuf,
}

/// A container's figures; those of its cgroup are absent unless it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerStats {
    /// When they were read, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// CPU.
    pub cpu: Option<Cpu>,
    /// Memory.
    pub memory: Option<Memory>,
    /// Swap.
    pub swap: Option<Swap>,
    /// I/O stalls.
    pub io_pressure: Option<Pressure>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// The writable layer.
    pub writable: Option<Filesystem>,
}

/// A network interface's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Name in the pod.
    pub name: String,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Errors receiving.
    pub rx_errors: u64,
    /// Packets dropped while receiving.
    pub rx_dropped: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Errors sending.
    pub tx_errors: u64,
    /// Packets dropped while sending.
    pub tx_dropped: u64,
}

/// A pod's figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodStats {
    /// When they were read, nanoseconds since the Unix epoch.
    pub at_ns: i64,
    /// CPU of all its containers and the pause process.
    pub cpu: Option<Cpu>,
    /// Memory likewise.
    pub memory: Option<Memory>,
    /// I/O stalls.
    pub io_pressure: Option<Pressure>,
    /// Processes.
    pub process_count: Option<u64>,
    /// Interfaces, the one with the pod's address first; none on the host's network.
    pub interfaces: Vec<Interface>,
    /// Its containers.
    pub containers: Vec<(Arc<Container>, ContainerStats)>,
}

/// Figures of one cgroup.
struct CgroupStats {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
    swap: Option<Swap>,
    io_pressure: Option<Pressure>,
    pids: Option<u64>,
}

/// Most threads that read figures of many at a time.
const READERS: usize = 4;
/// Fewest containers that are worth a thread of their own.
const SHARE: usize = 16;

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
        tokio::spawn(async move { shared.blocking(move |shared| of_part(shared, part)).await })
    });
    let mut all = Vec::with_capacity(containers.len());
    for part in read.collect::<Vec<_>>() {
        let part = part.await.map_err(|error| EngineError::step("read the figures", "containers", &error))?;
        all.extend(part?);
    }
    Ok(all)
}

fn of_part(
    shared: &Shared,
    containers: Vec<Arc<Container>>,
) -> Result<Vec<(Arc<Container>, ContainerStats)>> {
    let read = |container: Arc<Container>| match of_container(shared, &container) {
        Err(EngineError::NotFound { .. }) => None,
        stats => Some(stats.map(|stats| (container, stats))),
    };
    containers.into_iter().filter_map(read).collect()
}

/// Reads a container's figures. Blocks on the cgroup filesystem and on the writable layer's folder.
pub(crate) fn of_container(shared: &Shared, container: &Container) -> Result<ContainerStats> {
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

/// Reads a pod's figures and those of `containers`, which are its.
pub(crate) fn of_pod(shared: &Shared, pod: &Pod, containers: Vec<Arc<Container>>) -> Result<PodStats> {
    let figures = of_cgroup(shared, &pod.cgroup)?;
    let alone = containers.first().filter(|one| one.is_alone).and_then(|one| one.state.pid());
    let containers = containers
        .into_iter()
        .map(|container| of_container(shared, &container).map(|stats| (container, stats)))
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
    let usage = shared.snapshots.usage(container.id.as_str()).ok()?;
    Some(Filesystem {
        bytes: usage.bytes,
        inodes: usage.inodes,
        mountpoint: shared.images.usage().mountpoint,
    })
}

fn of_cgroup(shared: &Shared, path: &str) -> Result<CgroupStats> {
    let cgroup = Cgroup::open(&shared.cgroups, path)
        .map_err(|error| EngineError::step("read the figures", format!("cgroup {path}"), &error))?;
    let read = |controller: &str, file: &str| cgroup.read(controller, file).ok();
    let number =
        |controller: &str, file: &str| read(controller, file).and_then(|text| text.trim().parse().ok());
    let v1 = shared.cgroups.is_v1("memory");
    // Only cgroup v2 has these; asking would cost a failed open(2) each.
    let pressure =
        |file: &str| if v1 { None } else { read("memory", file).as_deref().and_then(parse_pressure) };
    let cpu_ns = if shared.cgroups.is_v1("cpuacct") {
        number("cpuacct", "cpuacct.usage")
    } else {
        read("cpu", "cpu.stat").and_then(|text| flat(&text).get("usage_usec").map(|us| us * 1000))
    };
    let memory = if v1 { memory_v1(&read, &number) } else { memory_v2(&read, &number) };
    let swap = if v1 { None } else { swap_v2(&read, &number) };
    Ok(CgroupStats {
        cpu: cpu_ns.map(|usage_ns| Cpu { usage_ns, pressure: pressure("cpu.pressure") }),
        memory: memory.map(|memory| Memory { pressure: pressure("memory.pressure"), ..memory }),
        swap,
        io_pressure: pressure("io.pressure"),
        pids: number("pids", "pids.current"),
    })
}

type Read<'a> = dyn Fn(&str, &str) -> Option<String> + 'a;
type Number<'a> = dyn Fn(&str, &str) -> Option<u64> + 'a;

fn memory_v1(read: &Read<'_>, number: &Number<'_>) -> Option<Memory> {
    /// Limits at and above this are v1's way to say that there is none (`PAGE_COUNTER_MAX`).
    const NO_LIMIT: u64 = 1 << 62;
    let text = read("memory", "memory.stat")?;
    let stat = flat(&text);
    let figure = |key: &str| stat.get(key).copied().unwrap_or_default();
    let usage = number("memory", "memory.usage_in_bytes")?;
    let limit = number("memory", "memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT);
    Some(memory(
        usage,
        limit,
        &Faults {
            inactive_file: figure("total_inactive_file"),
            rss: figure("total_rss"),
            all: figure("total_pgfault"),
            major: figure("total_pgmajfault"),
        },
    ))
}

fn memory_v2(read: &Read<'_>, number: &Number<'_>) -> Option<Memory> {
    let text = read("memory", "memory.stat")?;
    let stat = flat(&text);
    let figure = |key: &str| stat.get(key).copied().unwrap_or_default();
    let usage = number("memory", "memory.current")?;
    // "max" is no number: no limit.
    let limit = number("memory", "memory.max");
    Some(memory(
        usage,
        limit,
        &Faults {
            inactive_file: figure("inactive_file"),
            rss: figure("anon"),
            all: figure("pgfault"),
            major: figure("pgmajfault"),
        },
    ))
}

/// The part of `memory.stat` that is reported.
struct Faults {
    inactive_file: u64,
    rss: u64,
    all: u64,
    major: u64,
}

fn memory(usage: u64, limit: Option<u64>, stat: &Faults) -> Memory {
    let working_set = usage.saturating_sub(stat.inactive_file);
    Memory {
        usage_bytes: usage,
        working_set_bytes: working_set,
        available_bytes: limit.map(|limit| limit.saturating_sub(working_set)),
        rss_bytes: stat.rss,
        page_faults: stat.all,
        major_page_faults: stat.major,
        pressure: None,
    }
}

fn swap_v2(_read: &Read<'_>, number: &Number<'_>) -> Option<Swap> {
    let usage_bytes = number("memory", "memory.swap.current")?;
    let limit = number("memory", "memory.swap.max");
    Some(Swap { usage_bytes, available_bytes: limit.map(|limit| limit.saturating_sub(usage_bytes)) })
}

/// A file of `key number` lines.
pub(super) fn flat(text: &str) -> HashMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect()
}

/// The content of a pressure file.
pub(super) fn parse_pressure(text: &str) -> Option<Pressure> {
    let line = |kind: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let fields: HashMap<_, _> =
            rest.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let percent = |key: &str| fields.get(key).and_then(|value| value.parse().ok());
        Some(PressureLine {
            avg10: percent("avg10")?,
            avg60: percent("avg60")?,
            avg300: percent("avg300")?,
            total_us: fields.get("total")?.parse().ok()?,
        })
    };
    Some(Pressure { some: line("some ")?, full: line("full ") })
}

/// The pod's interfaces as its pause process, or the process `alone` of a group without one, sees them;
/// `/proc/<pid>/net/dev` needs no change of namespace.
pub(super) fn interfaces(pod: &Pod, alone: Option<i32>) -> Vec<Interface> {
    let pid = pod.pause_pid().or(alone).filter(|_| !pod.addresses.is_empty());
    let Some(pid) = pid else { return Vec::new() };
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    let mut interfaces = parse_interfaces(&text);
    interfaces.sort_by_key(|interface| interface.name != cleat_network::POD_INTERFACE);
    interfaces
}

/// The columns of proc(5)'s `/proc/net/dev`: eight of received, eight of sent; bytes, packets, errors, ...
fn parse_interfaces(text: &str) -> Vec<Interface> {
    let parse = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> =
            counters.split_whitespace().map(|field| field.parse().unwrap_or_default()).collect();
        let [received, sent] = [counters.get(..4)?, counters.get(8..12)?];
        let interface = Interface {
            name: name.trim().to_owned(),
            rx_bytes: received[0],
            rx_packets: received[1],
            rx_errors: received[2],
            rx_dropped: received[3],
            tx_bytes: sent[0],
            tx_packets: sent[1],
            tx_errors: sent[2],
            tx_dropped: sent[3],
        };
        (interface.name != "lo").then_some(interface)
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_in_their_columns() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
                    lo:     100       1    0    0    0     0          0         0      100       1    0    0 0 0 0 0\n  \
                    eth0:    1234      10    2    4    0     0          0         0      567       8    3    5 0 0 0 0\n";
        let expected = Interface {
            name: "eth0".into(),
            rx_bytes: 1234,
            rx_packets: 10,
            rx_errors: 2,
            rx_dropped: 4,
            tx_bytes: 567,
            tx_packets: 8,
            tx_errors: 3,
            tx_dropped: 5,
        };
        assert_eq!(parse_interfaces(text), [expected]);
    }

    #[test]
    fn pressure_is_read_line_by_line() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.total_us), (1.5, 12345));
        assert_eq!(pressure.full.unwrap().total_us, 7);
    }

    #[test]
    fn the_working_set_is_usage_without_inactive_cache() {
        let stat = Faults { inactive_file: 30, rss: 50, all: 1, major: 0 };
        let memory = memory(100, Some(200), &stat);
        assert_eq!((memory.working_set_bytes, memory.available_bytes), (70, Some(130)));
    }
}
