//! Limits: in from requests and out into statuses.

use cleat_cri_api::v1::{self, ContainerResources, LinuxContainerResources};

use super::field::{line, map, ordered, refused};
use crate::engine::Result;
use crate::engine::model::{HugepageLimit, Resources};

/// Shortest and longest CFS period and shortest quota the kernel takes, microseconds (`min_cfs_quota_period`,
/// `max_cfs_quota_period` in kernel/sched/core.c).
const PERIOD_US: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;

/// Weights of cgroup v1's `cpu.shares` (`MIN_SHARES`, `MAX_SHARES` in kernel/sched/sched.h).
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// `oom_score_adj` (proc(5)).
const OOM_SCORE: std::ops::RangeInclusive<i64> = -1_000..=1_000;

/// "As much as there is", where the CRI has such a value.
const UNLIMITED: i64 = -1;

/// The limits of a new container. It gets an `oom_score_adj` in any case: without one it would inherit this daemon's,
/// which protects it from the OOM killer.
pub(super) fn limits(resources: Option<LinuxContainerResources>) -> Result<Resources> {
    let stated = stated(resources.unwrap_or_default())?;
    Ok(Resources { oom_score_adj: stated.oom_score_adj.or(Some(0)), ..stated })
}

/// What a message states. The CRI's numbers have no presence: 0 means "not stated".
pub(in crate::cri) fn stated(resources: LinuxContainerResources) -> Result<Resources> {
    let checked = Resources {
        memory_reservation_bytes: None,
        memory_swappiness: None,
        disable_oom_killer: false,
        cpu_realtime_period_us: None,
        cpu_realtime_runtime_us: None,
        disk_weight: None,
        pids_limit: None,
        cpu_period_us: within("resources.cpu_period", resources.cpu_period, PERIOD_US)?,
        cpu_quota_us: quota(resources.cpu_quota)?,
        cpu_shares: within("resources.cpu_shares", resources.cpu_shares, SHARES)?,
        memory_limit_bytes: bytes("resources.memory_limit_in_bytes", resources.memory_limit_in_bytes)?,
        memory_swap_limit_bytes: bytes(
            "resources.memory_swap_limit_in_bytes",
            resources.memory_swap_limit_in_bytes,
        )?,
        oom_score_adj: oom_score(resources.oom_score_adj)?,
        cpuset_cpus: kernel_list("resources.cpuset_cpus", resources.cpuset_cpus)?,
        cpuset_mems: kernel_list("resources.cpuset_mems", resources.cpuset_mems)?,
        hugepage_limits: resources.hugepage_limits.into_iter().map(hugepages).collect::<Result<_>>()?,
        unified: ordered(resources.unified),
    };
    for (file, value) in &checked.unified {
        unified(file, value)?;
    }
    match (checked.memory_limit_bytes, checked.memory_swap_limit_bytes) {
        (Some(memory), Some(both)) if both != UNLIMITED && both < memory => Err(refused(
            "resources.memory_swap_limit_in_bytes",
            both,
            "it counts memory and swap together, so it is at least memory_limit_in_bytes",
        )),
        _ => Ok(checked),
    }
}

/// Limits as a status shows them.
pub(super) fn report(resources: &Resources) -> ContainerResources {
    ContainerResources { linux: Some(linux(resources)), windows: None }
}

/// Limits as the CRI's message.
pub(super) fn linux(resources: &Resources) -> LinuxContainerResources {
    LinuxContainerResources {
        cpu_period: signed(resources.cpu_period_us),
        cpu_quota: resources.cpu_quota_us.unwrap_or_default(),
        cpu_shares: signed(resources.cpu_shares),
        memory_limit_in_bytes: resources.memory_limit_bytes.unwrap_or_default(),
        oom_score_adj: resources.oom_score_adj.map_or(0, i64::from),
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        hugepage_limits: resources
            .hugepage_limits
            .iter()
            .map(|limit| v1::HugepageLimit { page_size: limit.page_size.clone(), limit: limit.limit_bytes })
            .collect(),
        unified: map(&resources.unified),
        memory_swap_limit_in_bytes: resources.memory_swap_limit_bytes.unwrap_or_default(),
    }
}

fn signed(number: Option<u64>) -> i64 {
    number.map_or(0, |number| i64::try_from(number).unwrap_or(i64::MAX))
}

fn within(field: &str, number: i64, range: std::ops::RangeInclusive<u64>) -> Result<Option<u64>> {
    if number == 0 {
        return Ok(None);
    }
    let fitting = u64::try_from(number).ok().filter(|number| range.contains(number));
    let expected = || format!("a number from {} to {} is expected", range.start(), range.end());
    fitting.map(Some).ok_or_else(|| refused(field, number, &expected()))
}

fn quota(number: i64) -> Result<Option<i64>> {
    let shortest = i64::try_from(*PERIOD_US.start()).unwrap_or(i64::MAX);
    match number {
        0 => Ok(None),
        UNLIMITED => Ok(Some(UNLIMITED)),
        number if number >= shortest => Ok(Some(number)),
        number => Err(refused(
            "resources.cpu_quota",
            number,
            "at least 1000 microseconds, or -1 for no limit, are expected",
        )),
    }
}

fn bytes(field: &str, number: i64) -> Result<Option<i64>> {
    match number {
        0 => Ok(None),
        UNLIMITED.. => Ok(Some(number)),
        _ => Err(refused(field, number, "a number of bytes, or -1 for no limit, is expected")),
    }
}

fn oom_score(number: i64) -> Result<Option<i32>> {
    if !OOM_SCORE.contains(&number) {
        return Err(refused("resources.oom_score_adj", number, "a number from -1000 to 1000 is expected"));
    }
    Ok(i32::try_from(number).ok().filter(|number| *number != 0))
}

/// The kernel's list format (`cpuset(7)`): `0-2,7`.
fn kernel_list(field: &str, text: String) -> Result<String> {
    let number = |text: &str| -> Option<u32> {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
    };
    let range = |part: &str| match part.split_once('-') {
        None => number(part).is_some(),
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
    };
    if text.is_empty() || text.split(',').all(range) {
        return Ok(text);
    }
    Err(refused(field, text, "a list such as `0-2,7` is expected"))
}

/// The size becomes part of a file name of the hugetlb controller.
fn hugepages(limit: v1::HugepageLimit) -> Result<HugepageLimit> {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| limit.page_size.strip_suffix(unit));
    let is_size = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !digits.is_some_and(is_size) {
        return Err(refused(
            "resources.hugepage_limits.page_size",
            limit.page_size,
            "a size such as `2MB` is expected",
        ));
    }
    Ok(HugepageLimit { page_size: limit.page_size, limit_bytes: limit.limit })
}

/// The key becomes a file name, the value its content.
fn unified(file: &str, value: &str) -> Result<()> {
    let is_file = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    let dotted = file.split('.').all(|part| !part.is_empty()) && file.contains('.');
    if !dotted || !file.bytes().all(is_file) {
        return Err(refused(
            "resources.unified",
            file,
            "a file of cgroup v2 such as `memory.high` is expected",
        ));
    }
    line("resources.unified's value", value.to_owned()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Message = LinuxContainerResources;

    #[test]
    fn nonsense_is_refused_by_field() {
        let none = Message::default;
        let huge = |page_size: &str| vec![v1::HugepageLimit { page_size: page_size.into(), limit: 0 }];
        let unified = |file: &str, value: &str| [(file.to_owned(), value.to_owned())].into();
        for (message, field) in [
            (Message { cpu_period: 999, ..none() }, "cpu_period"),
            (Message { cpu_period: 1_000_001, ..none() }, "cpu_period"),
            (Message { cpu_period: -1, ..none() }, "cpu_period"),
            (Message { cpu_quota: 999, ..none() }, "cpu_quota"),
            (Message { cpu_quota: -2, ..none() }, "cpu_quota"),
            (Message { cpu_shares: 1, ..none() }, "cpu_shares"),
            (Message { cpu_shares: 262_145, ..none() }, "cpu_shares"),
            (Message { memory_limit_in_bytes: -2, ..none() }, "memory_limit_in_bytes"),
            (Message { memory_swap_limit_in_bytes: -2, ..none() }, "memory_swap_limit_in_bytes"),
            (
                Message { memory_limit_in_bytes: 9, memory_swap_limit_in_bytes: 8, ..none() },
                "memory_swap_limit_in_bytes",
            ),
            (Message { oom_score_adj: 1_001, ..none() }, "oom_score_adj"),
            (Message { oom_score_adj: i64::MIN, ..none() }, "oom_score_adj"),
            (Message { cpuset_cpus: "2-0".into(), ..none() }, "cpuset_cpus"),
            (Message { cpuset_cpus: "0,".into(), ..none() }, "cpuset_cpus"),
            (Message { cpuset_mems: "0\n1".into(), ..none() }, "cpuset_mems"),
            (Message { cpuset_mems: "+1".into(), ..none() }, "cpuset_mems"),
            (Message { hugepage_limits: huge("2M"), ..none() }, "hugepage_limits"),
            (Message { hugepage_limits: huge("/../MB"), ..none() }, "hugepage_limits"),
            (Message { unified: unified("../x", "1"), ..none() }, "unified"),
            (Message { unified: unified("memory..high", "1"), ..none() }, "unified"),
            (Message { unified: unified("memory.high", "1\n2"), ..none() }, "unified"),
        ] {
            let error = stated(message.clone()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("resources.{field}")), "{message:?}: {error}");
        }
    }

    #[test]
    fn what_is_stated_comes_back_and_zero_states_nothing() {
        let message = Message {
            cpu_period: 100_000,
            cpu_quota: -1,
            cpu_shares: 2,
            memory_limit_in_bytes: 1 << 20,
            oom_score_adj: -998,
            cpuset_cpus: "0-1,3".into(),
            cpuset_mems: "0".into(),
            hugepage_limits: vec![v1::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 }],
            unified: [("hugetlb.2MB.max".to_owned(), "max".to_owned())].into(),
            memory_swap_limit_in_bytes: -1,
        };
        assert_eq!(linux(&stated(message.clone()).unwrap()), message);
        assert_eq!(stated(Message::default()).unwrap(), Resources::default());
        assert_eq!(report(&Resources::default()).linux, Some(Message::default()));
    }

    #[test]
    fn a_new_container_never_inherits_the_daemons_oom_score() {
        assert_eq!(limits(None).unwrap().oom_score_adj, Some(0));
        let guaranteed = Message { oom_score_adj: -997, ..Message::default() };
        assert_eq!(limits(Some(guaranteed)).unwrap().oom_score_adj, Some(-997));
    }
}
