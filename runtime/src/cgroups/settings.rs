//! Limits as values of cgroup files, v1 and v2.

use cleat_sys::cgroup::Layout;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice, LinuxWeightDevice,
};

use super::{ResourceError, rare};

/// One value of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// Where the file is: the controller's hierarchy.
    pub(crate) controller: &'static str,
    pub(crate) file: String,
    pub(crate) value: String,
}

type Outcome = Result<(), ResourceError>;

/// The settings that `resources` ask for on a host with `layout`, in an order the kernel accepts for a new cgroup.
pub(crate) fn settings(layout: &Layout, resources: &LinuxResources) -> Result<Vec<Setting>, ResourceError> {
    let is_v1 = |controller: &str| layout.is_v1(controller);
    let mut list = List::default();
    refuse_unsupported(resources, layout.v1().is_empty())?;
    if let Some(cpu) = resources.cpu() {
        cpu_time(&mut list, cpu, is_v1("cpu"))?;
        cpu_set(&mut list, cpu)?;
        list.0.extend(rare::realtime(cpu, is_v1("cpu"))?);
    }
    if let Some(memory) = resources.memory() {
        memory_limits(&mut list, memory, is_v1("memory"))?;
    }
    if let Some(limit) = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit) {
        match limit {
            0 => {}
            1.. => list.add("pids", "pids.max", limit),
            -1 => list.add("pids", "pids.max", "max"),
            _ => return Err(invalid("pids.limit", limit)),
        }
    }
    for huge in resources.hugepage_limits().iter().flatten() {
        let limit = non_negative("hugepageLimits.limit", huge.limit())?;
        let size = page_size(huge.page_size())?;
        let suffix = if is_v1("hugetlb") { "limit_in_bytes" } else { "max" };
        list.add("hugetlb", &format!("hugetlb.{size}.{suffix}"), limit);
    }
    if let Some(io) = resources.block_io() {
        block_io(&mut list, io, is_v1("blkio"))?;
    }
    if let Some(network) = resources.network() {
        list.0.extend(rare::network(network, is_v1)?);
    }
    for (device, limits) in resources.rdma().iter().flatten() {
        list.0.push(rare::rdma(device, limits)?);
    }
    for (file, value) in resources.unified().iter().flatten() {
        unified(&mut list, file, value)?;
    }
    Ok(list.0)
}

#[derive(Default)]
struct List(Vec<Setting>);

impl List {
    fn add(&mut self, controller: &'static str, file: &str, value: impl ToString) {
        self.0.push(Setting { controller, file: file.into(), value: value.to_string() });
    }
}

fn invalid(field: &'static str, value: impl ToString) -> ResourceError {
    ResourceError::Value { field, value: value.to_string() }
}

fn non_negative(field: &'static str, value: i64) -> Result<u64, ResourceError> {
    u64::try_from(value).map_err(|_| invalid(field, value))
}

/// `unified` on a host without cgroup v2 controllers would have no effect.
fn refuse_unsupported(resources: &LinuxResources, is_unified: bool) -> Outcome {
    let unified = resources.unified().as_ref().is_some_and(|map| !map.is_empty());
    if unified && !is_unified { Err(ResourceError::Unsupported("unified")) } else { Ok(()) }
}

fn cpu_time(list: &mut List, cpu: &LinuxCpu, v1: bool) -> Outcome {
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        if v1 { list.add("cpu", "cpu.shares", shares) } else { list.add("cpu", "cpu.weight", weight(shares)) }
    }
    let quota = cpu.quota().filter(|quota| *quota != 0);
    let period = cpu.period().filter(|period| *period != 0);
    if quota.is_some_and(|quota| quota < -1) {
        return Err(invalid("cpu.quota", quota.unwrap_or_default()));
    }
    match (v1, quota, period) {
        (true, ..) => {
            period.inspect(|period| list.add("cpu", "cpu.cfs_period_us", period));
            quota.inspect(|quota| list.add("cpu", "cpu.cfs_quota_us", quota));
        }
        (false, None, None) => {}
        (false, quota, period) => {
            let mut value =
                quota.filter(|quota| *quota > 0).map_or("max".to_owned(), |quota| quota.to_string());
            // A quota alone leaves the period as it is.
            if let Some(period) = period {
                value = format!("{value} {period}");
            }
            list.add("cpu", "cpu.max", value);
        }
    }
    if let Some(burst) = cpu.burst() {
        list.add("cpu", if v1 { "cpu.cfs_burst_us" } else { "cpu.max.burst" }, burst);
    }
    if let Some(idle) = cpu.idle() {
        list.add("cpu", "cpu.idle", idle);
    }
    Ok(())
}

/// Shares (2 to 262,144, default 1,024) as a weight (1 to 10,000, default 100), so that the two ends and the default
/// meet: the curve of the container runtimes since 2026, a parabola in the logarithm of the shares.
pub(super) fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    #[allow(clippy::cast_precision_loss)] // below 2^18
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 1 and 10,000
    let weight = 10f64.powf(exponent).ceil() as u64;
    weight
}

fn cpu_set(list: &mut List, cpu: &LinuxCpu) -> Outcome {
    for (field, file, value) in
        [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())]
    {
        let Some(value) = value.as_ref().filter(|value| !value.is_empty()) else { continue };
        if !value.bytes().all(|byte| byte.is_ascii_digit() || b",-".contains(&byte)) {
            return Err(invalid(field, value));
        }
        list.add("cpuset", file, value);
    }
    Ok(())
}

/// A limit on the kernel's memory alone is not set: Linux 5.16 took it out, and the specification advises against it.
fn memory_limits(list: &mut List, memory: &LinuxMemory, v1: bool) -> Outcome {
    let at_least = |field, value: Option<i64>| match value {
        Some(value) if value < -1 => Err(invalid(field, value)),
        value => Ok(value.filter(|value| *value != 0)),
    };
    let limit = at_least("memory.limit", memory.limit())?;
    let swap = at_least("memory.swap", memory.swap())?;
    let reservation = at_least("memory.reservation", memory.reservation())?;
    if let (Some(limit), Some(swap)) = (limit, swap)
        && swap > 0
        && (limit < 0 || swap < limit)
    {
        return Err(invalid("memory.swap", swap));
    }
    if v1 {
        memory_v1(list, memory, [limit, swap, reservation]);
        return Ok(());
    }
    if let Some(swap) = swap {
        let alone = swap.checked_sub(limit.unwrap_or(0)).filter(|_| swap > 0);
        if alone.is_some() && limit.is_none() {
            // v2 limits swap alone; the sum says nothing without the other part.
            return Err(invalid("memory.swap", swap));
        }
        list.add("memory", "memory.swap.max", alone.map_or("max".into(), |value| value.to_string()));
    }
    for (file, value) in [("memory.max", limit), ("memory.low", reservation)] {
        if let Some(value) = value {
            list.add("memory", file, if value < 0 { "max".into() } else { value.to_string() });
        }
    }
    Ok(())
}

fn memory_v1(list: &mut List, memory: &LinuxMemory, [limit, swap, reservation]: [Option<i64>; 3]) {
    let files = [
        ("memory.limit_in_bytes", limit),
        // No limit on memory means none on the sum, which the kernel insists on.
        ("memory.memsw.limit_in_bytes", swap.or(limit.filter(|limit| *limit < 0))),
        ("memory.soft_limit_in_bytes", reservation),
        ("memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp().filter(|limit| *limit != 0)),
    ];
    for (file, value) in files {
        value.inspect(|value| list.add("memory", file, value));
    }
    if let Some(swappiness) = memory.swappiness() {
        list.add("memory", "memory.swappiness", swappiness);
    }
    if memory.disable_oom_killer().unwrap_or(false) {
        list.add("memory", "memory.oom_control", 1);
    }
}

/// `2MB`, `1GB`, `64KB`: part of a file's name.
fn page_size(size: &str) -> Result<&str, ResourceError> {
    let digits = size.strip_suffix("KB").or(size.strip_suffix("MB")).or(size.strip_suffix("GB"));
    match digits {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => Ok(size),
        _ => Err(invalid("hugepageLimits.pageSize", size)),
    }
}

fn block_io(list: &mut List, io: &LinuxBlockIo, v1: bool) -> Outcome {
    let leaves = io.weight_device().iter().flatten().map(LinuxWeightDevice::leaf_weight);
    if std::iter::once(io.leaf_weight()).chain(leaves).flatten().any(|weight| weight != 0) {
        return Err(ResourceError::Unsupported("blockIO.leafWeight"));
    }
    weights(list, io, v1)?;
    let throttles = [
        (io.throttle_read_bps_device(), "blkio.throttle.read_bps_device", "rbps"),
        (io.throttle_write_bps_device(), "blkio.throttle.write_bps_device", "wbps"),
        (io.throttle_read_iops_device(), "blkio.throttle.read_iops_device", "riops"),
        (io.throttle_write_iops_device(), "blkio.throttle.write_iops_device", "wiops"),
    ];
    for (devices, file, key) in throttles {
        devices
            .iter()
            .flatten()
            .for_each(|device| throttle(list, device, if v1 { Ok(file) } else { Err(key) }));
    }
    Ok(())
}

/// The weight among all, then those at single disks.
fn weights(list: &mut List, io: &LinuxBlockIo, v1: bool) -> Outcome {
    let of_disks = io.weight_device().iter().flatten();
    let of_disks = of_disks.map(|disk| (Some((disk.major(), disk.minor())), disk.weight()));
    for (disk, weight) in std::iter::once((None, io.weight())).chain(of_disks) {
        let Some(weight) = weight.filter(|weight| *weight != 0) else { continue };
        if !(10..=1000).contains(&weight) {
            return Err(invalid("blockIO.weight", weight));
        }
        match (v1, disk) {
            (true, None) => list.add("blkio", "blkio.bfq.weight", weight),
            (true, Some((major, minor))) => {
                list.add("blkio", "blkio.bfq.weight_device", format!("{major}:{minor} {weight}"));
            }
            (false, None) => list.add("io", "io.weight", io_weight(weight)),
            (false, Some((major, minor))) => {
                list.add("io", "io.weight", format!("{major}:{minor} {}", io_weight(weight)));
            }
        }
    }
    Ok(())
}

/// 10 to 1,000, which was checked, onto 1 to 10,000.
pub(super) fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight).saturating_sub(10) * 9_999 / 990
}

/// One throttled device: in a file of its own on v1, by a key of `io.max` on v2.
fn throttle(list: &mut List, device: &LinuxThrottleDevice, file_or_key: Result<&str, &str>) {
    let (major, minor, rate) = (device.major(), device.minor(), device.rate());
    match file_or_key {
        Ok(file) => list.add("blkio", file, format!("{major}:{minor} {rate}")),
        Err(key) => list.add("io", "io.max", format!("{major}:{minor} {key}={rate}")),
    }
}

/// A file of cgroup v2 by its name: a plain `controller.name` that limits.
fn unified(list: &mut List, file: &str, value: &str) -> Outcome {
    let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let named = file.split_once('.').is_some_and(|(controller, name)| {
        !controller.is_empty() && !name.is_empty() && controller != "cgroup"
    });
    if !plain || !named {
        return Err(invalid("unified", file));
    }
    list.add("unified", file, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_weights_meet_at_both_ends_and_at_the_default() {
        for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert!((2..262_144).step_by(97).all(|shares| weight(shares) <= weight(shares + 97)));
    }

    fn memory(limit: i64, swap: Option<i64>, v1: bool) -> Result<Vec<(String, String)>, ResourceError> {
        let mut memory = LinuxMemory::default();
        memory.set_limit(Some(limit));
        memory.set_swap(swap);
        let mut list = List::default();
        memory_limits(&mut list, &memory, v1)?;
        Ok(list.0.into_iter().map(|setting| (setting.file, setting.value)).collect())
    }

    #[test]
    fn memory_and_swap_are_a_sum_on_v1_and_apart_on_v2() {
        let pair = |file: &str, value: &str| (file.to_owned(), value.to_owned());
        let v1 = memory(100, Some(150), true).unwrap();
        assert_eq!(v1, [pair("memory.limit_in_bytes", "100"), pair("memory.memsw.limit_in_bytes", "150")]);
        let v2 = memory(100, Some(150), false).unwrap();
        assert_eq!(v2, [pair("memory.swap.max", "50"), pair("memory.max", "100")]);
        let none = memory(-1, None, true).unwrap();
        assert_eq!(none, [pair("memory.limit_in_bytes", "-1"), pair("memory.memsw.limit_in_bytes", "-1")]);
    }

    #[test]
    fn disks_are_weighed_together_and_one_by_one() {
        let asked = r#"{"weight":10,"weightDevice":[{"major":8,"minor":1,"weight":1000}]}"#;
        let told = |asked: &str, v1| {
            let mut list = List::default();
            block_io(&mut list, &serde_json::from_str(asked).unwrap(), v1)?;
            Ok::<_, ResourceError>(list.0.into_iter().map(|one| (one.file, one.value)).collect::<Vec<_>>())
        };
        let pair = |file: &str, value: &str| (file.to_owned(), value.to_owned());
        let v1 = [pair("blkio.bfq.weight", "10"), pair("blkio.bfq.weight_device", "8:1 1000")];
        assert_eq!(told(asked, true).unwrap(), v1);
        assert_eq!(told(asked, false).unwrap(), [pair("io.weight", "1"), pair("io.weight", "8:1 10000")]);
        for bad in [
            r#"{"weight":9}"#,
            r#"{"weightDevice":[{"major":8,"minor":1,"weight":1001}]}"#,
            r#"{"leafWeight":10}"#,
        ] {
            assert!(told(bad, true).is_err(), "{bad}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(memory(-2, None, true).is_err());
        assert!(memory(100, Some(50), true).is_err());
        assert!(page_size("2M").is_err() && page_size("../x2MB").is_err() && page_size("2MB").is_ok());
        let mut list = List::default();
        assert!(unified(&mut list, "memory.high", "1").is_ok());
        for file in ["cgroup.procs", "memory", "../memory.high", "a/b.c"] {
            assert!(unified(&mut list, file, "1").is_err(), "{file}");
        }
    }

    #[test]
    fn a_quota_below_none_is_refused_and_each_of_quota_and_period_may_come_alone() {
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(Some(-2));
        assert!(cpu_time(&mut List::default(), &cpu, true).is_err());
        cpu.set_quota(None);
        cpu.set_period(Some(50_000));
        let mut list = List::default();
        cpu_time(&mut list, &cpu, false).unwrap();
        assert_eq!(list.0[0].value, "max 50000");
        cpu.set_quota(Some(20_000));
        cpu.set_period(None);
        let mut list = List::default();
        cpu_time(&mut list, &cpu, false).unwrap();
        assert_eq!(list.0[0].value, "20000");
    }
}
