//! The figures of containers and pods, as both doors take them.

use std::path::PathBuf;
use std::sync::Arc;

use crate::engine::container::Container;

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
    /// When it was measured, nanoseconds since the Unix epoch: that may be a while ago.
    pub at_ns: i64,
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
