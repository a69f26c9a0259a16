//! Every metric there is, under cAdvisor's names: dashboards and alerts of Kubernetes ask for these.

/// How a figure behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// What is measured.
#[derive(Debug)]
pub(crate) struct Metric {
    /// cAdvisor's name.
    pub name: &'static str,
    /// What it tells, in a sentence.
    pub help: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Labels besides those that say whom it is about.
    pub labels: &'static [&'static str],
}

/// Declares the metrics, and the list of them all in the same order.
macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal $labels:tt $help:literal)*) => {
        $(pub(super) static $id: Metric =
            Metric { name: $name, help: $help, kind: Kind::$kind, labels: &$labels };)*
        /// All of them.
        pub(crate) static ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    LAST_SEEN Gauge "container_last_seen" [] "When it was last looked at, seconds since the Unix epoch."
    START_TIME Gauge "container_start_time_seconds" [] "When it was started, seconds since the Unix epoch."
    CPU_USER Counter "container_cpu_user_seconds_total" [] "CPU time in user mode, seconds."
    CPU_SYSTEM Counter "container_cpu_system_seconds_total" [] "CPU time in the kernel, seconds."
    CPU_USAGE Counter "container_cpu_usage_seconds_total" ["cpu"] "CPU time, seconds."
    CPU_PERIODS Counter "container_cpu_cfs_periods_total" [] "Periods in which a quota was enforced."
    CPU_THROTTLED_PERIODS Counter "container_cpu_cfs_throttled_periods_total" [] "Periods in which the quota was used up."
    CPU_THROTTLED Counter "container_cpu_cfs_throttled_seconds_total" [] "Time spent waiting for the next quota, seconds."
    FS_INODES_FREE Gauge "container_fs_inodes_free" ["device"] "Inodes left on the file system of the writable layer."
    FS_INODES_TOTAL Gauge "container_fs_inodes_total" ["device"] "Inodes of the file system of the writable layer."
    FS_LIMIT Gauge "container_fs_limit_bytes" ["device"] "Size of the file system of the writable layer, bytes."
    FS_USAGE Gauge "container_fs_usage_bytes" ["device"] "Size of the writable layer, bytes."
    FS_READ_BYTES Counter "container_fs_reads_bytes_total" ["device"] "Bytes read from the device."
    FS_READS Counter "container_fs_reads_total" ["device"] "Reads from the device."
    FS_WRITTEN_BYTES Counter "container_fs_writes_bytes_total" ["device"] "Bytes written to the device."
    FS_WRITES Counter "container_fs_writes_total" ["device"] "Writes to the device."
    HUGETLB_USAGE Gauge "container_hugetlb_usage_bytes" ["pagesize"] "Memory in huge pages, bytes."
    HUGETLB_MAX Gauge "container_hugetlb_max_usage_bytes" ["pagesize"] "Most memory in huge pages so far, bytes."
    MEMORY_CACHE Gauge "container_memory_cache" [] "Page cache, bytes."
    MEMORY_RSS Gauge "container_memory_rss" [] "Anonymous memory, bytes."
    MEMORY_KERNEL Gauge "container_memory_kernel_usage" [] "Memory of the kernel on its behalf, bytes."
    MEMORY_MAPPED Gauge "container_memory_mapped_file" [] "Mapped files, bytes."
    MEMORY_SWAP Gauge "container_memory_swap" [] "Swap used, bytes."
    MEMORY_FAILCNT Counter "container_memory_failcnt" [] "How often the limit was reached."
    MEMORY_USAGE Gauge "container_memory_usage_bytes" [] "All memory, page cache included, bytes."
    MEMORY_MAX Gauge "container_memory_max_usage_bytes" [] "Most memory so far, bytes."
    MEMORY_WORKING_SET Gauge "container_memory_working_set_bytes" [] "Memory without inactive page cache, bytes."
    MEMORY_FAILURES Counter "container_memory_failures_total" ["failure_type", "scope"] "Page faults."
    NETWORK_RX_BYTES Counter "container_network_receive_bytes_total" ["interface"] "Bytes received."
    NETWORK_RX_PACKETS Counter "container_network_receive_packets_total" ["interface"] "Packets received."
    NETWORK_RX_DROPPED Counter "container_network_receive_packets_dropped_total" ["interface"] "Packets dropped while receiving."
    NETWORK_RX_ERRORS Counter "container_network_receive_errors_total" ["interface"] "Errors while receiving."
    NETWORK_TX_BYTES Counter "container_network_transmit_bytes_total" ["interface"] "Bytes sent."
    NETWORK_TX_PACKETS Counter "container_network_transmit_packets_total" ["interface"] "Packets sent."
    NETWORK_TX_DROPPED Counter "container_network_transmit_packets_dropped_total" ["interface"] "Packets dropped while sending."
    NETWORK_TX_ERRORS Counter "container_network_transmit_errors_total" ["interface"] "Errors while sending."
    OOM_EVENTS Counter "container_oom_events_total" [] "Processes that the kernel ended for want of memory."
    FILE_DESCRIPTORS Gauge "container_file_descriptors" [] "Open descriptors of all its processes."
    SOCKETS Gauge "container_sockets" [] "Open sockets of all its processes."
    PROCESSES Gauge "container_processes" [] "Processes."
    THREADS Gauge "container_threads" [] "Threads."
    THREADS_MAX Gauge "container_threads_max" [] "Most threads; 0 is no limit."
    ULIMITS_SOFT Gauge "container_ulimits_soft" ["ulimit"] "Soft limits of its first process; those without end are left out."
    SPEC_CPU_PERIOD Gauge "container_spec_cpu_period" [] "Length of a CPU period, microseconds."
    SPEC_CPU_QUOTA Gauge "container_spec_cpu_quota" [] "CPU time in a period, microseconds."
    SPEC_CPU_SHARES Gauge "container_spec_cpu_shares" [] "Relative weight; 1024 is one CPU asked for."
    SPEC_MEMORY_LIMIT Gauge "container_spec_memory_limit_bytes" [] "Most memory, bytes; 0 is no limit."
    SPEC_MEMORY_RESERVATION Gauge "container_spec_memory_reservation_limit_bytes" [] "Memory that is left to it when memory is short, bytes; 0 is none."
    SPEC_MEMORY_SWAP Gauge "container_spec_memory_swap_limit_bytes" [] "Most memory and swap together, bytes; 0 is no limit."
    PRESSURE_CPU_STALLED Counter "container_pressure_cpu_stalled_seconds_total" [] "Time in which no task could go on for want of a CPU, seconds."
    PRESSURE_CPU_WAITING Counter "container_pressure_cpu_waiting_seconds_total" [] "Time in which some task waited for a CPU, seconds."
    PRESSURE_IO_STALLED Counter "container_pressure_io_stalled_seconds_total" [] "Time in which no task could go on because of I/O, seconds."
    PRESSURE_IO_WAITING Counter "container_pressure_io_waiting_seconds_total" [] "Time in which some task waited for I/O, seconds."
    PRESSURE_MEMORY_STALLED Counter "container_pressure_memory_stalled_seconds_total" [] "Time in which no task could go on for want of memory, seconds."
    PRESSURE_MEMORY_WAITING Counter "container_pressure_memory_waiting_seconds_total" [] "Time in which some task waited for memory, seconds."
}
