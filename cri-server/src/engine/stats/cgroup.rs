//! The figures of one cgroup, of both versions. The kernel's `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/`.
//!
//! The figures and their names are cAdvisor's, which the kubelet expects: the working set is the usage without the page
//! cache that the kernel would drop first. A list is made of thousands of these files, so only what is told is read.

use std::collections::HashMap;

use cleat_sys::cgroup::{Cgroup, Folder, Mode};

use super::figures::{Cpu, Memory, Pressure, PressureLine, Swap};
use crate::engine::error::{EngineError, Result};
use crate::engine::shared::Shared;

/// Limits at and above this are v1's way to say that there is none (`PAGE_COUNTER_MAX`).
const NO_LIMIT: u64 = 1 << 62;

/// Where `memory.stat` has inactive page cache, anonymous memory, page faults and those that read from disk; on v1 with
/// those of all cgroups below.
const V1: [&str; 4] = ["total_inactive_file", "total_rss", "total_pgfault", "total_pgmajfault"];
const V2: [&str; 4] = ["inactive_file", "anon", "pgfault", "pgmajfault"];

/// Figures of one cgroup.
pub(super) struct CgroupStats {
    pub(super) cpu: Option<Cpu>,
    pub(super) memory: Option<Memory>,
    pub(super) swap: Option<Swap>,
    pub(super) io_pressure: Option<Pressure>,
    pub(super) pids: Option<u64>,
}

/// Reads those of the cgroup at `path`. What its hierarchy has no file for, and everything of one that is gone, is absent.
pub(super) fn of_cgroup(shared: &Shared, path: &str) -> Result<CgroupStats> {
    let cgroup = Cgroup::open(&shared.cgroups, path)
        .map_err(|error| EngineError::step("read the figures", format!("cgroup {path}"), &error))?;
    let files = Files::of(&cgroup);
    let v1 = shared.cgroups.is_v1("memory");
    // Only cgroup v2 has these; asking would cost a failed open(2) each.
    let pressure = |file: &str| {
        if v1 { None } else { files.text("memory", file).as_deref().and_then(parse_pressure) }
    };
    let cpu_ns = if shared.cgroups.is_v1("cpuacct") {
        files.number("cpuacct", "cpuacct.usage")
    } else {
        files.text("cpu", "cpu.stat").map(|text| pick(&text, ["usage_usec"])[0] * 1000)
    };
    let memory = if v1 { memory_v1(&files) } else { memory_v2(&files) };
    Ok(CgroupStats {
        cpu: cpu_ns.map(|usage_ns| Cpu { usage_ns, pressure: pressure("cpu.pressure") }),
        memory: memory.map(|memory| Memory { pressure: pressure("memory.pressure"), ..memory }),
        swap: if v1 { None } else { swap(&files) },
        io_pressure: pressure("io.pressure"),
        pids: files.number("pids", "pids.current"),
    })
}

/// The files of a cgroup; one that is not there has no text.
struct Files<'a> {
    cgroup: &'a Cgroup,
    /// Where most of them are: all of them on cgroup v2.
    memory: Option<Folder>,
    unified: bool,
}

impl<'a> Files<'a> {
    fn of(cgroup: &'a Cgroup) -> Self {
        let unified = cgroup.layout().mode() == Mode::Unified;
        Self { cgroup, memory: cgroup.folder("memory").ok(), unified }
    }

    fn text(&self, controller: &str, file: &str) -> Option<String> {
        if self.unified || controller == "memory" {
            return self.memory.as_ref()?.read(file).ok();
        }
        self.cgroup.read(controller, file).ok()
    }

    /// What is no number is none: "max" of a limit, too.
    fn number(&self, controller: &str, file: &str) -> Option<u64> {
        self.text(controller, file)?.trim().parse().ok()
    }
}

fn memory_v1(files: &Files<'_>) -> Option<Memory> {
    let stat = pick(&files.text("memory", "memory.stat")?, V1);
    let usage = files.number("memory", "memory.usage_in_bytes")?;
    let limit = files.number("memory", "memory.limit_in_bytes").filter(|limit| *limit < NO_LIMIT);
    Some(memory(usage, limit, stat))
}

fn memory_v2(files: &Files<'_>) -> Option<Memory> {
    let stat = pick(&files.text("memory", "memory.stat")?, V2);
    let usage = files.number("memory", "memory.current")?;
    Some(memory(usage, files.number("memory", "memory.max"), stat))
}

fn memory(usage: u64, limit: Option<u64>, [inactive, rss, faults, major]: [u64; 4]) -> Memory {
    let working_set = usage.saturating_sub(inactive);
    Memory {
        usage_bytes: usage,
        working_set_bytes: working_set,
        available_bytes: limit.map(|limit| limit.saturating_sub(working_set)),
        rss_bytes: rss,
        page_faults: faults,
        major_page_faults: major,
        pressure: None,
    }
}

fn swap(files: &Files<'_>) -> Option<Swap> {
    let usage_bytes = files.number("memory", "memory.swap.current")?;
    let limit = files.number("memory", "memory.swap.max");
    Some(Swap { usage_bytes, available_bytes: limit.map(|limit| limit.saturating_sub(usage_bytes)) })
}

/// The numbers of `keys` in a file of `key number` lines; nothing of a key that is not there.
fn pick<const N: usize>(text: &str, keys: [&str; N]) -> [u64; N] {
    let mut numbers = [0; N];
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        if let Some(index) = keys.iter().position(|wanted| *wanted == key) {
            numbers[index] = value.parse().unwrap_or_default();
        }
    }
    numbers
}

/// All of a file of `key number` lines.
pub(in crate::engine) fn flat(text: &str) -> HashMap<&str, u64> {
    text.lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
        .collect()
}

/// The content of a pressure file.
pub(in crate::engine) fn parse_pressure(text: &str) -> Option<Pressure> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_line_by_line() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let pressure = parse_pressure(text).unwrap();
        assert_eq!((pressure.some.avg10, pressure.some.total_us), (1.5, 12345));
        assert_eq!(pressure.full.unwrap().total_us, 7);
    }

    #[test]
    fn numbers_are_found_by_their_whole_keys() {
        let text = "rss 1\ntotal_rss 2\ntotal_rss_huge 3\ntotal_pgfault 18446744073709551615\nx y\n";
        assert_eq!(pick(text, ["total_pgfault", "total_rss", "absent"]), [u64::MAX, 2, 0]);
    }

    #[test]
    fn the_working_set_is_usage_without_inactive_cache() {
        let memory = memory(100, Some(200), [30, 50, 1, 0]);
        assert_eq!((memory.working_set_bytes, memory.available_bytes, memory.rss_bytes), (70, Some(130), 50));
    }
}
