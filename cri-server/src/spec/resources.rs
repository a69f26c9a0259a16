//! Limits: what the kernel would refuse or misread is refused here, with a reason.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxPids, LinuxResources};

use super::{Host, SpecError};
use crate::engine::model::{HugepageLimit, Resources};

/// The kernel's bounds of a CFS period, microseconds.
const CPU_PERIOD_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;
/// The kernel's least CFS quota, microseconds.
const CPU_QUOTA_MIN_US: i64 = 1_000;
/// The kernel's bounds of `cpu.shares`. Weights of cgroup v2 are made from them by the runtime.
const CPU_SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
/// The bounds of a disk weight in the OCI specification. Weights of cgroup v2 are made from them by the runtime.
const DISK_WEIGHT: std::ops::RangeInclusive<u16> = 10..=1000;
/// The kernel's bounds of `oom_score_adj`.
const OOM_SCORE_ADJ: std::ops::RangeInclusive<i32> = -1000..=1000;
/// More CPUs or memory nodes than any kernel is built for.
const CPUSET_MAX: u32 = 1 << 16;
/// The longest cpuset list that is accepted, bytes: a page, as the kernel takes.
const CPUSET_TEXT_MAX: usize = 4096;

/// Limits that make no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResourceError {
    /// The CFS period.
    #[error("CPU period of {0} us, 1000 to 1000000 are possible")]
    CpuPeriod(u64),
    /// The CFS quota.
    #[error("CPU quota of {0} us, -1 (unlimited) or at least 1000 are possible")]
    CpuQuota(i64),
    /// The CPU weight.
    #[error("CPU shares of {0}, 2 to 262144 are possible")]
    CpuShares(u64),
    /// The disk weight.
    #[error("disk weight of {0}, 10 to 1000 are possible")]
    DiskWeight(u64),
    /// The memory limit.
    #[error("memory limit of {0} bytes, -1 (unlimited) or more than 0 are possible")]
    Memory(i64),
    /// The limit of memory and swap.
    #[error(
        "limit of memory and swap of {swap} bytes with a memory limit of {memory} bytes: it has to be as large or -1"
    )]
    Swap {
        /// Memory and swap together.
        swap: i64,
        /// Memory.
        memory: i64,
    },
    /// A limit of memory and swap without one of memory.
    #[error("limit of memory and swap of {0} bytes without a memory limit")]
    SwapWithoutMemory(i64),
    /// The OOM killer's adjustment.
    #[error("oom_score_adj of {0}, -1000 to 1000 are possible")]
    OomScoreAdj(i32),
    /// A list of CPUs or memory nodes.
    #[error("{0:?} is not a list of CPUs or memory nodes such as 0-2,7")]
    Cpuset(String),
    /// A huge page size.
    #[error("{0:?} is not a huge page size such as 2MB")]
    PageSize(String),
    /// A huge page size named twice.
    #[error("huge page size {0:?} is limited twice")]
    PageSizeTwice(String),
    /// A limit that does not fit.
    #[error("limit of {limit_bytes} bytes for huge pages of {page_size} is too large")]
    Hugepages {
        /// The size.
        page_size: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// A cgroup file.
    #[error("{0:?} is not a cgroup v2 setting: a controller's file such as memory.high is expected")]
    UnifiedKey(String),
    /// What is written to one.
    #[error("value of cgroup v2 setting {0:?} is empty or contains a control character")]
    UnifiedValue(String),
}

/// Limits for a runtime, checked. Zero means the kernel's default wherever zero could not be meant, as in the CRI.
/// `oom_score_adj` is checked too, but belongs to the process: see [`clamp_oom_score_adj`].
///
/// # Errors
/// When the kernel would refuse them, or one contradicts another.
fn resources(limits: &Resources) -> Result<LinuxResources, ResourceError> {
    if let Some(adjustment) = limits.oom_score_adj.filter(|value| !OOM_SCORE_ADJ.contains(value)) {
        return Err(ResourceError::OomScoreAdj(adjustment));
    }
    let mut resources = LinuxResources::default();
    resources
        .set_cpu(cpu(limits)?)
        .set_memory(memory(limits)?)
        .set_block_io(disk_weight(limits)?)
        .set_hugepage_limits(hugepages(&limits.hugepage_limits)?)
        .set_unified(unified(&limits.unified)?);
    Ok(resources)
}

/// The nearest `oom_score_adj` that a daemon may set whose own minimum is `min`: without CAP_SYS_RESOURCE nobody can
/// lower it.
#[must_use]
pub(crate) fn clamp_oom_score_adj(asked: i32, min: i32) -> i32 {
    asked.max(min)
}

/// Limits that this machine can set.
pub(crate) fn on_host(host: &Host, limits: &Resources) -> Result<LinuxResources, SpecError> {
    if !limits.unified.is_empty() && !host.cgroup_v2 {
        return Err(SpecError::UnifiedWithoutCgroupV2);
    }
    let mut resources = resources(limits).map_err(SpecError::Resources)?;
    if !host.swap_accounting
        && let Some(memory) = resources.memory_mut()
    {
        memory.set_swap(None);
    }
    // A kubelet limits every size of huge pages in every container, to zero bytes where none are asked for.
    if !host.hugetlb {
        resources.set_hugepage_limits(None);
    }
    resources.set_pids(limits.pids_limit.or(host.pids_limit).map(pids));
    Ok(resources)
}

fn pids(limit: i64) -> LinuxPids {
    let mut pids = LinuxPids::default();
    pids.set_limit(limit);
    pids
}

fn cpu(limits: &Resources) -> Result<Option<LinuxCpu>, ResourceError> {
    let period = limits.cpu_period_us.filter(|&period| period != 0);
    let quota = limits.cpu_quota_us.filter(|&quota| quota != 0);
    let shares = limits.cpu_shares.filter(|&shares| shares != 0);
    if let Some(bad) = period.filter(|period| !CPU_PERIOD_US.contains(period)) {
        return Err(ResourceError::CpuPeriod(bad));
    }
    if let Some(bad) = quota.filter(|&quota| quota < CPU_QUOTA_MIN_US && quota != -1) {
        return Err(ResourceError::CpuQuota(bad));
    }
    if let Some(bad) = shares.filter(|shares| !CPU_SHARES.contains(shares)) {
        return Err(ResourceError::CpuShares(bad));
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_period(period)
        .set_quota(quota)
        .set_shares(shares)
        .set_realtime_period(limits.cpu_realtime_period_us.filter(|&period| period != 0))
        .set_realtime_runtime(limits.cpu_realtime_runtime_us.filter(|&runtime| runtime != 0))
        .set_cpus(cpuset(&limits.cpuset_cpus)?)
        .set_mems(cpuset(&limits.cpuset_mems)?);
    Ok((cpu != LinuxCpu::default()).then_some(cpu))
}

/// A weight at disks that can be one.
pub(super) fn checked_disk_weight(weight: u64) -> Result<u16, ResourceError> {
    let fitting = u16::try_from(weight).ok().filter(|weight| DISK_WEIGHT.contains(weight));
    fitting.ok_or(ResourceError::DiskWeight(weight))
}

fn disk_weight(limits: &Resources) -> Result<Option<LinuxBlockIo>, ResourceError> {
    let Some(weight) = limits.disk_weight.filter(|&weight| weight != 0) else { return Ok(None) };
    let weight = checked_disk_weight(weight.into())?;
    let mut disks = LinuxBlockIo::default();
    disks.set_weight(Some(weight));
    Ok(Some(disks))
}

fn memory(limits: &Resources) -> Result<Option<LinuxMemory>, ResourceError> {
    let limit = limits.memory_limit_bytes.filter(|&limit| limit != 0);
    let swap = limits.memory_swap_limit_bytes.filter(|&limit| limit != 0);
    if let Some(bad) = limit.filter(|&limit| limit < -1) {
        return Err(ResourceError::Memory(bad));
    }
    match (limit, swap) {
        (_, None | Some(-1)) => {}
        (None, Some(swap)) => return Err(ResourceError::SwapWithoutMemory(swap)),
        (Some(memory), Some(swap)) if memory == -1 || swap < memory => {
            return Err(ResourceError::Swap { swap, memory });
        }
        (Some(_), Some(_)) => {}
    }
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit)
        .set_swap(swap)
        .set_reservation(limits.memory_reservation_bytes.filter(|&bytes| bytes != 0))
        .set_swappiness(limits.memory_swappiness)
        .set_disable_oom_killer(limits.disable_oom_killer.then_some(true));
    Ok((memory != LinuxMemory::default()).then_some(memory))
}

/// A list in the kernel's format (`cpuset(7)`, list format): numbers and ranges, in any order.
fn cpuset(text: &str) -> Result<Option<String>, ResourceError> {
    let number = |text: &str| -> Option<u32> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&value| digits && value < CPUSET_MAX)
    };
    let sound = |item: &str| match item.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(a), Some(b)) if a <= b),
        None => number(item).is_some(),
    };
    match text {
        "" => Ok(None),
        _ if text.len() < CPUSET_TEXT_MAX && text.split(',').all(sound) => Ok(Some(text.to_owned())),
        _ => Err(ResourceError::Cpuset(text.to_owned())),
    }
}

fn hugepages(limits: &[HugepageLimit]) -> Result<Option<Vec<LinuxHugepageLimit>>, ResourceError> {
    let mut seen = BTreeSet::new();
    let mut list = Vec::with_capacity(limits.len());
    for HugepageLimit { page_size, limit_bytes } in limits {
        if !is_page_size(page_size) {
            return Err(ResourceError::PageSize(page_size.clone()));
        }
        if !seen.insert(page_size) {
            return Err(ResourceError::PageSizeTwice(page_size.clone()));
        }
        let limit = i64::try_from(*limit_bytes).map_err(|_| ResourceError::Hugepages {
            page_size: page_size.clone(),
            limit_bytes: *limit_bytes,
        })?;
        let mut entry = LinuxHugepageLimit::default();
        entry.set_page_size(page_size.clone()).set_limit(limit);
        list.push(entry);
    }
    Ok((!list.is_empty()).then_some(list))
}

/// `64KB`, `2MB`, `1GB`: it becomes part of a file's name.
fn is_page_size(text: &str) -> bool {
    let Some(number) = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit)) else {
        return false;
    };
    (1..=6).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && !number.starts_with('0')
}

fn unified(settings: &BTreeMap<String, String>) -> Result<Option<HashMap<String, String>>, ResourceError> {
    for (key, value) in settings {
        if !is_controller_file(key) {
            return Err(ResourceError::UnifiedKey(key.clone()));
        }
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(ResourceError::UnifiedValue(key.clone()));
        }
    }
    let all = settings.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok((!settings.is_empty()).then_some(all))
}

/// A file of a controller. Those of the hierarchy itself (`cgroup.procs`, `cgroup.kill`) are the runtime's.
fn is_controller_file(key: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    key.split('.').count() >= 2 && key.split('.').all(word) && !key.starts_with("cgroup.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    #[test]
    fn limits_are_carried_over() {
        let limits = Resources {
            pids_limit: None,
            cpu_period_us: Some(100_000),
            cpu_quota_us: Some(50_000),
            cpu_shares: Some(512),
            memory_limit_bytes: Some(64 << 20),
            memory_swap_limit_bytes: Some(64 << 20),
            oom_score_adj: Some(-998),
            cpuset_cpus: "0-2,7".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![HugepageLimit { page_size: "2MB".into(), limit_bytes: 4 << 20 }],
            unified: BTreeMap::from([("memory.high".into(), "max".into())]),
            memory_reservation_bytes: Some(32 << 20),
            memory_swappiness: Some(7),
            disable_oom_killer: true,
            cpu_realtime_period_us: Some(1_000_000),
            cpu_realtime_runtime_us: Some(950_000),
            disk_weight: Some(300),
        };
        let resources = resources(&limits).unwrap();
        let cpu = resources.cpu().as_ref().unwrap();
        assert_eq!((cpu.period(), cpu.quota(), cpu.shares()), (Some(100_000), Some(50_000), Some(512)));
        assert_eq!((cpu.cpus().as_deref(), cpu.mems().as_deref()), (Some("0-2,7"), Some("0")));
        assert_eq!((cpu.realtime_period(), cpu.realtime_runtime()), (Some(1_000_000), Some(950_000)));
        assert_eq!(resources.block_io().as_ref().unwrap().weight(), Some(300));
        let memory = resources.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(64 << 20), Some(64 << 20)));
        assert_eq!((memory.reservation(), memory.swappiness()), (Some(32 << 20), Some(7)));
        assert_eq!(memory.disable_oom_killer(), Some(true));
        assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].limit(), 4 << 20);
        assert_eq!(resources.unified().as_ref().unwrap()["memory.high"], "max");
    }

    #[test]
    fn nothing_asked_is_nothing_set() {
        let zeros = Resources {
            cpu_period_us: Some(0),
            cpu_quota_us: Some(0),
            cpu_shares: Some(0),
            memory_limit_bytes: Some(0),
            memory_swap_limit_bytes: Some(0),
            cpu_realtime_period_us: Some(0),
            cpu_realtime_runtime_us: Some(0),
            disk_weight: Some(0),
            ..Resources::default()
        };
        for limits in [Resources::default(), zeros] {
            assert_eq!(resources(&limits), Ok(LinuxResources::default()));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let base = Resources::default;
        let page = |size: &str, limit_bytes| HugepageLimit { page_size: size.into(), limit_bytes };
        for (limits, expected) in [
            (Resources { cpu_period_us: Some(999), ..base() }, ResourceError::CpuPeriod(999)),
            (Resources { cpu_period_us: Some(1_000_001), ..base() }, ResourceError::CpuPeriod(1_000_001)),
            (Resources { cpu_quota_us: Some(-2), ..base() }, ResourceError::CpuQuota(-2)),
            (Resources { cpu_quota_us: Some(999), ..base() }, ResourceError::CpuQuota(999)),
            (Resources { cpu_shares: Some(1), ..base() }, ResourceError::CpuShares(1)),
            (Resources { cpu_shares: Some(262_145), ..base() }, ResourceError::CpuShares(262_145)),
            (Resources { memory_limit_bytes: Some(-2), ..base() }, ResourceError::Memory(-2)),
            (Resources { memory_swap_limit_bytes: Some(5), ..base() }, ResourceError::SwapWithoutMemory(5)),
            (
                Resources { memory_limit_bytes: Some(9), memory_swap_limit_bytes: Some(8), ..base() },
                ResourceError::Swap { swap: 8, memory: 9 },
            ),
            (
                Resources { memory_limit_bytes: Some(9), memory_swap_limit_bytes: Some(-2), ..base() },
                ResourceError::Swap { swap: -2, memory: 9 },
            ),
            (
                Resources { memory_limit_bytes: Some(-1), memory_swap_limit_bytes: Some(8), ..base() },
                ResourceError::Swap { swap: 8, memory: -1 },
            ),
            (Resources { disk_weight: Some(9), ..base() }, ResourceError::DiskWeight(9)),
            (Resources { disk_weight: Some(1001), ..base() }, ResourceError::DiskWeight(1001)),
            (Resources { oom_score_adj: Some(1001), ..base() }, ResourceError::OomScoreAdj(1001)),
            (Resources { oom_score_adj: Some(-1001), ..base() }, ResourceError::OomScoreAdj(-1001)),
            (
                Resources { hugepage_limits: vec![page("2M", 1)], ..base() },
                ResourceError::PageSize("2M".into()),
            ),
            (
                Resources { hugepage_limits: vec![page("../2MB", 1)], ..base() },
                ResourceError::PageSize("../2MB".into()),
            ),
            (
                Resources { hugepage_limits: vec![page("MB", 1)], ..base() },
                ResourceError::PageSize("MB".into()),
            ),
            (
                Resources { hugepage_limits: vec![page("2MB", 1), page("2MB", 2)], ..base() },
                ResourceError::PageSizeTwice("2MB".into()),
            ),
            (
                Resources { hugepage_limits: vec![page("2MB", u64::MAX)], ..base() },
                ResourceError::Hugepages { page_size: "2MB".into(), limit_bytes: u64::MAX },
            ),
        ] {
            assert_eq!(resources(&limits), Err(expected));
        }
    }

    #[test]
    fn unlimited_is_minus_one() {
        let limits = Resources {
            cpu_quota_us: Some(-1),
            memory_limit_bytes: Some(-1),
            memory_swap_limit_bytes: Some(-1),
            ..Resources::default()
        };
        let resources = resources(&limits).unwrap();
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(-1));
        assert_eq!(resources.memory().unwrap().swap(), Some(-1));
    }

    #[test]
    fn lists_of_cpus_are_the_kernels() {
        for good in ["0", "0-3", "0,2,4-6", "7,1", "65535"] {
            assert_eq!(cpuset(good), Ok(Some(good.into())));
        }
        for bad in [",", "0,", "-1", "3-1", "a", "0-", "0--1", "65536", "0 1", "0\n", "0-3:1/2", "+1"] {
            assert_eq!(cpuset(bad), Err(ResourceError::Cpuset(bad.into())));
        }
        assert!(cpuset(&"0,".repeat(CPUSET_TEXT_MAX)).is_err());
    }

    #[test]
    fn unified_settings_stay_below_their_controller() {
        let ask = |key: &str, value: &str| {
            unified(&BTreeMap::from([(key.to_owned(), value.to_owned())])).map(|_| ())
        };
        for good in ["memory.high", "cpu.uclamp.min", "hugetlb.2MB.max", "io.max"] {
            assert_eq!(ask(good, "1"), Ok(()));
        }
        for bad in [
            "",
            "memory",
            "cgroup.procs",
            "cgroup.kill",
            "../memory.max",
            "memory..max",
            "a.b/c",
            ".x",
            "a.\n",
        ] {
            assert_eq!(ask(bad, "1"), Err(ResourceError::UnifiedKey(bad.into())));
        }
        for bad in ["", "1\n2", "\0"] {
            assert_eq!(ask("memory.high", bad), Err(ResourceError::UnifiedValue("memory.high".into())));
        }
    }

    #[test]
    fn a_machine_sets_what_it_has() {
        let mut host = fixture::host();
        let limits = Resources {
            memory_limit_bytes: Some(8),
            memory_swap_limit_bytes: Some(8),
            unified: BTreeMap::from([("memory.high".into(), "4".into())]),
            ..Resources::default()
        };
        host.swap_accounting = false;
        let memory = on_host(&host, &limits).unwrap().memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(8), None));
        let pages = HugepageLimit { page_size: "2MB".into(), limit_bytes: 0 };
        let pages = Resources { hugepage_limits: vec![pages], ..Resources::default() };
        assert!(on_host(&host, &pages).unwrap().hugepage_limits().is_some());
        host.hugetlb = false;
        assert_eq!(on_host(&host, &pages).unwrap().hugepage_limits(), &None);
        host.cgroup_v2 = false;
        assert_eq!(on_host(&host, &limits), Err(SpecError::UnifiedWithoutCgroupV2));
    }

    #[test]
    fn processes_are_limited_by_the_request_and_else_by_the_daemon() {
        for (asked, default, limit) in [
            (None, None, None),
            (None, Some(9), Some(9)),
            (Some(3), Some(9), Some(3)),
            (Some(-1), Some(9), Some(-1)),
        ] {
            let limits = Resources { pids_limit: asked, ..Resources::default() };
            let host = Host { pids_limit: default, ..fixture::host() };
            let made = on_host(&host, &limits).unwrap();
            assert_eq!(made.pids().as_ref().map(|pids| pids.limit()), limit, "{asked:?} {default:?}");
        }
    }

    #[test]
    fn the_oom_killers_adjustment_is_not_lowered_beyond_the_daemons_minimum() {
        for (asked, min, expected) in [(-998, -1000, -998), (-998, 0, 0), (500, 0, 500), (-998, -500, -500)] {
            assert_eq!(clamp_oom_score_adj(asked, min), expected);
        }
    }
}
