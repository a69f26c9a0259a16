//! What a cgroup's files say, of both versions. The kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.

use std::collections::HashMap;

use cleat_sys::cgroup::Cgroup;

use super::known::*;
use super::{Samples, device_name};
use crate::engine::stats::{flat, parse_pressure};

const US: u64 = 1_000_000;
const NS: u64 = 1_000_000_000;

/// Everything that the cgroup tells.
pub(super) fn read(cgroup: &Cgroup, samples: &mut Samples) {
    let files = Files(cgroup);
    cpu(&files, samples);
    memory(&files, samples);
    io(&files, samples);
    huge_pages(&files, samples);
    pressure(&files, samples);
    samples.add_some(&THREADS, files.number("pids", "pids.current"));
    // "max" is no number: no limit.
    let limit = files.text("pids", "pids.max").map(|text| text.trim().parse().unwrap_or(0));
    samples.add_some(&THREADS_MAX, limit);
    samples.add_some(&OOM_EVENTS, cgroup.oom_kills().ok());
}

/// The files of a cgroup; one that is not there has no text.
struct Files<'a>(&'a Cgroup);

impl Files<'_> {
    fn text(&self, controller: &str, file: &str) -> Option<String> {
        self.0.read(controller, file).ok()
    }

    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file)?.trim().parse().ok()
    }

    fn is_v1(&self, controller: &str) -> bool {
        self.0.layout().is_v1(controller)
    }
}

fn cpu(files: &Files<'_>, samples: &mut Samples) {
    let text = files.text("cpu", "cpu.stat").unwrap_or_default();
    let stat = flat(&text);
    let get = |key: &str| stat.get(key).copied();
    if files.is_v1("cpuacct") {
        let usage = files.number("cpuacct", "cpuacct.usage");
        let times = files.text("cpuacct", "cpuacct.stat").unwrap_or_default();
        let times = flat(&times);
        let ticks = rustix::param::clock_ticks_per_second();
        samples.add_some(&CPU_USER, times.get("user").map(|time| time / ticks));
        samples.add_some(&CPU_SYSTEM, times.get("system").map(|time| time / ticks));
        usage.into_iter().for_each(|ns| samples.labelled(&CPU_USAGE, &["total"], ns / NS));
    } else {
        samples.add_some(&CPU_USER, get("user_usec").map(|us| us / US));
        samples.add_some(&CPU_SYSTEM, get("system_usec").map(|us| us / US));
        get("usage_usec").into_iter().for_each(|us| samples.labelled(&CPU_USAGE, &["total"], us / US));
    }
    samples.add_some(&CPU_PERIODS, get("nr_periods"));
    samples.add_some(&CPU_THROTTLED_PERIODS, get("nr_throttled"));
    let throttled = get("throttled_usec").map(|us| us / US);
    samples.add_some(&CPU_THROTTLED, throttled.or_else(|| get("throttled_time").map(|ns| ns / NS)));
}

/// The same figure under the names of cgroup v1 and v2.
struct MemoryNames {
    usage: &'static str,
    max: &'static str,
    kernel: &'static str,
    stat: [&'static str; 6],
}

/// In `stat`: cache, anonymous, mapped, inactive cache, faults, major faults; those of v1 with all below.
const V1: MemoryNames = MemoryNames {
    usage: "memory.usage_in_bytes",
    max: "memory.max_usage_in_bytes",
    kernel: "memory.kmem.usage_in_bytes",
    stat: [
        "total_cache",
        "total_rss",
        "total_mapped_file",
        "total_inactive_file",
        "total_pgfault",
        "total_pgmajfault",
    ],
};
const V2: MemoryNames = MemoryNames {
    usage: "memory.current",
    max: "memory.peak",
    kernel: "",
    stat: ["file", "anon", "file_mapped", "inactive_file", "pgfault", "pgmajfault"],
};

fn memory(files: &Files<'_>, samples: &mut Samples) {
    let v1 = files.is_v1("memory");
    let names = if v1 { V1 } else { V2 };
    let text = files.text("memory", "memory.stat").unwrap_or_default();
    let stat = flat(&text);
    let [cache, rss, mapped, inactive, faults, major] = names.stat.map(|key| stat.get(key).copied());
    samples.add_some(&MEMORY_CACHE, cache);
    samples.add_some(&MEMORY_RSS, rss);
    samples.add_some(&MEMORY_MAPPED, mapped);
    let usage = files.number("memory", names.usage);
    samples.add_some(&MEMORY_USAGE, usage);
    samples.add_some(&MEMORY_MAX, files.number("memory", names.max));
    samples.add_some(&MEMORY_WORKING_SET, usage.zip(inactive).map(|(usage, off)| usage.saturating_sub(off)));
    for (kind, value) in [("pgfault", faults), ("pgmajfault", major)] {
        value.into_iter().for_each(|value| samples.labelled(&MEMORY_FAILURES, &[kind, "hierarchy"], value));
    }
    if v1 {
        samples.add_some(&MEMORY_KERNEL, files.number("memory", names.kernel));
        samples.add_some(&MEMORY_SWAP, stat.get("total_swap").copied());
        samples.add_some(&MEMORY_FAILCNT, files.number("memory", "memory.failcnt"));
    } else {
        samples.add_some(&MEMORY_KERNEL, stat.get("kernel").copied());
        samples.add_some(&MEMORY_SWAP, files.number("memory", "memory.swap.current"));
        let events = files.text("memory", "memory.events").unwrap_or_default();
        samples.add_some(&MEMORY_FAILCNT, flat(&events).get("max").copied());
    }
}

/// Bytes read, bytes written, reads and writes of a device.
type Transfers = [u64; 4];

fn io(files: &Files<'_>, samples: &mut Samples) {
    let text = |controller, file| files.text(controller, file).unwrap_or_default();
    let (bytes, operations);
    let devices = if files.is_v1("blkio") {
        bytes = text("blkio", "blkio.throttle.io_service_bytes_recursive");
        operations = text("blkio", "blkio.throttle.io_serviced_recursive");
        transfers_v1(&bytes, &operations)
    } else {
        bytes = text("io", "io.stat");
        transfers_v2(&bytes)
    };
    for (number, transfers) in devices {
        let Some(device) = device_name(number) else { continue };
        let metrics = [&FS_READ_BYTES, &FS_WRITTEN_BYTES, &FS_READS, &FS_WRITES];
        for (metric, value) in metrics.into_iter().zip(transfers) {
            samples.labelled(metric, &[&device], value);
        }
    }
}

/// Lines of `8:0 Read 4096`, one file of bytes and one of operations.
fn transfers_v1<'a>(bytes: &'a str, operations: &'a str) -> HashMap<&'a str, Transfers> {
    let mut devices: HashMap<&str, Transfers> = HashMap::new();
    for (text, first) in [(bytes, 0), (operations, 2)] {
        for line in text.lines() {
            let fields: Vec<_> = line.split(' ').collect();
            let [device, kind, value] = fields[..] else { continue };
            let index = match kind {
                "Read" => first,
                "Write" => first + 1,
                _ => continue,
            };
            devices.entry(device).or_default()[index] = value.parse().unwrap_or_default();
        }
    }
    devices
}

/// Lines of `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn transfers_v2(text: &str) -> HashMap<&str, Transfers> {
    let device = |line: &'_ str| -> Option<Transfers> {
        let fields: HashMap<_, _> = line.split(' ').filter_map(|field| field.split_once('=')).collect();
        let value = |key| fields.get(key).and_then(|value| value.parse().ok());
        Some([value("rbytes")?, value("wbytes")?, value("rios")?, value("wios")?])
    };
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(number, fields)| Some((number, device(fields)?)))
        .collect()
}

fn huge_pages(files: &Files<'_>, samples: &mut Samples) {
    let Ok(sizes) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return };
    let v1 = files.is_v1("hugetlb");
    for size in sizes.flatten() {
        let Some(size) = page_size(&size.file_name().to_string_lossy()) else { continue };
        let (usage, max) = if v1 { ("usage_in_bytes", "max_usage_in_bytes") } else { ("current", "peak") };
        for (metric, file) in [(&HUGETLB_USAGE, usage), (&HUGETLB_MAX, max)] {
            let value = files.number("hugetlb", &format!("hugetlb.{size}.{file}"));
            value.into_iter().for_each(|value| samples.labelled(metric, &[&size], value));
        }
    }
}

/// `hugepages-2048kB` as cgroup files are named: `2MB`.
fn page_size(folder: &str) -> Option<String> {
    let kb: u64 = folder.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kb {
        kb if kb >= 1 << 20 => format!("{}GB", kb >> 20),
        kb if kb >= 1 << 10 => format!("{}MB", kb >> 10),
        kb => format!("{kb}KB"),
    })
}

/// Pressure stall information: cgroup v2 only.
fn pressure(files: &Files<'_>, samples: &mut Samples) {
    for (file, controller, waiting, stalled) in [
        ("cpu.pressure", "cpu", &PRESSURE_CPU_WAITING, &PRESSURE_CPU_STALLED),
        ("io.pressure", "io", &PRESSURE_IO_WAITING, &PRESSURE_IO_STALLED),
        ("memory.pressure", "memory", &PRESSURE_MEMORY_WAITING, &PRESSURE_MEMORY_STALLED),
    ] {
        let Some(figures) = files.text(controller, file).as_deref().and_then(parse_pressure) else {
            continue;
        };
        samples.add(waiting, figures.some.total_us / US);
        samples.add_some(stalled, figures.full.map(|line| line.total_us / US));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_told_by_device_in_both_versions() {
        let expected = HashMap::from([("8:0", [4096, 512, 1, 2])]);
        let v2 = "8:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n254:0 \n";
        assert_eq!(transfers_v2(v2), expected);
        let bytes = "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n";
        let operations = "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n";
        assert_eq!(transfers_v1(bytes, operations), expected);
    }

    #[test]
    fn page_sizes_are_named_as_the_files_are() {
        for (folder, name) in
            [("hugepages-2048kB", "2MB"), ("hugepages-1048576kB", "1GB"), ("hugepages-64kB", "64KB")]
        {
            assert_eq!(page_size(folder).as_deref(), Some(name));
        }
        assert_eq!(page_size("x"), None);
    }
}
