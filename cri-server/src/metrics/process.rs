//! The daemon's own process, under the names that Prometheus' clients give to every program's.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use rustix::param::{clock_ticks_per_second, page_size};

/// Reads `/proc/self` when somebody asks.
#[derive(Debug)]
pub(super) struct Process;

/// Figures of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        if let Some(usage) = usage(&stat, clock_ticks_per_second(), page_size() as u64) {
            let help = "Processor time of the daemon";
            let (seconds, bytes) = (Some(&Unit::Seconds), Some(&Unit::Bytes));
            ConstCounter::new(usage.cpu_seconds).encode(encoder.encode_descriptor(
                "process_cpu",
                help,
                seconds,
                MetricType::Counter,
            )?)?;
            let (name, help) = ("process_resident_memory", "Memory of the daemon that is present");
            gauge(usage.resident_bytes).encode(encoder.encode_descriptor(
                name,
                help,
                bytes,
                MetricType::Gauge,
            )?)?;
            let (name, help) = ("process_threads", "Threads of the daemon");
            gauge(usage.threads).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        // The one that reads the folder is among them.
        let descriptors =
            fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1));
        let (name, help) = ("process_open_fds", "Descriptors that the daemon has open");
        gauge(descriptors as u64).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

/// What `/proc/<pid>/stat` tells (proc_pid_stat(5)): fields 14 and 15, 20 and 24.
fn usage(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Usage> {
    // Counted from behind the program's name, which may hold anything; the first there is number 3.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(Usage {
        cpu_seconds: ticks as f64 / ticks_per_second as f64,
        resident_bytes: field(24)? * page_bytes,
        threads: field(20)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_behind_any_name() {
        let numbers: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b) S {}", numbers.join(" "));
        let expected = Usage { cpu_seconds: 0.29, resident_bytes: 24 * 4096, threads: 20 };
        assert_eq!(usage(&stat, 100, 4096), Some(expected));
        assert_eq!(usage("7 (a) S 1", 100, 4096), None);
    }
}
