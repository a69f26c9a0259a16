//! Limits as properties of a systemd unit (systemd.resource-control(5)): what systemd would otherwise overwrite when it
//! is reloaded. It has no properties for the rest.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::settings::{io_weight, weight};
use super::{DeviceRules, ResourceError};
use crate::systemd::{Property, Value};

/// How systemd says that there is no limit.
const NONE: u64 = u64::MAX;
/// The kernel's period of a processor quota where none is given, in microseconds.
const DEFAULT_PERIOD_US: u64 = 100_000;
/// systemd takes a quota in hundredths of a processor: microseconds a second, in steps of this.
const QUOTA_STEP_US: u64 = 10_000;

/// The properties that stand for `resources`; `is_unified`: the host has cgroup v2 alone.
pub(super) fn properties(
    resources: &LinuxResources,
    is_unified: bool,
) -> Result<Vec<Property>, ResourceError> {
    let mut list = List(Vec::new());
    if let Some(memory) = resources.memory() {
        memory_properties(&mut list, memory, is_unified);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_properties(&mut list, cpu, is_unified)?;
    }
    if let Some(limit) = resources.pids().as_ref().map(oci_spec::runtime::LinuxPids::limit) {
        list.limit("TasksMax", limit);
    }
    let io = resources.block_io().as_ref().and_then(oci_spec::runtime::LinuxBlockIo::weight);
    if let Some(of_ten) = io.filter(|of_ten| *of_ten != 0) {
        match is_unified {
            true => list.number("IOWeight", io_weight(of_ten)),
            false => list.number("BlockIOWeight", of_ten.into()),
        }
    }
    for (file, value) in resources.unified().iter().flatten() {
        unified(&mut list, file, value);
    }
    Ok(list.0)
}

/// Which devices may be used, of a new unit. What systemd cannot express is left to the cgroup's own rules alone: with
/// a policy of its own it would forbid what they allow.
pub(super) fn devices(rules: &DeviceRules, known: &str) -> Vec<Property> {
    let pair = |(path, access)| Value::Struct(vec![Value::Text(path), Value::Text(access)]);
    let Some(allowed) = rules.for_systemd(known) else { return Vec::new() };
    vec![
        ("DevicePolicy".to_owned(), Value::Text("strict".to_owned())),
        ("DeviceAllow".to_owned(), Value::Array("(ss)".into(), allowed.into_iter().map(pair).collect())),
    ]
}

struct List(Vec<Property>);

impl List {
    fn number(&mut self, name: &str, value: u64) {
        self.0.push((name.to_owned(), Value::U64(value)));
    }

    /// A limit of the specification: 0 stands for unset, -1 for none.
    fn limit(&mut self, name: &str, value: i64) {
        if value != 0 {
            self.number(name, u64::try_from(value).unwrap_or(NONE));
        }
    }

    /// A list of numbers, `0-3,7`, as a mask whose lowest bit is number 0.
    fn mask(&mut self, name: &str, text: &str) -> Option<()> {
        let mut mask = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
            for number in first..=last {
                let byte = usize::from(number / 8);
                mask.resize(mask.len().max(byte + 1), 0);
                mask[byte] |= 1 << (number % 8);
            }
        }
        let bytes = mask.into_iter().map(Value::Byte).collect();
        self.0.push((name.to_owned(), Value::Array("y".into(), bytes)));
        Some(())
    }
}

fn memory_properties(list: &mut List, memory: &LinuxMemory, is_unified: bool) {
    let limit = memory.limit().unwrap_or(0);
    if !is_unified {
        return list.limit("MemoryLimit", limit);
    }
    list.limit("MemoryMax", limit);
    list.limit("MemoryLow", memory.reservation().unwrap_or(0));
    match memory.swap().unwrap_or(0) {
        0 => {}
        swap @ 1.. => list.number("MemorySwapMax", u64::try_from(swap - limit).unwrap_or(0)),
        _ => list.number("MemorySwapMax", NONE),
    }
}

fn cpu_properties(list: &mut List, cpu: &LinuxCpu, is_unified: bool) -> Result<(), ResourceError> {
    match (cpu.shares().unwrap_or(0), is_unified) {
        (0, _) => {}
        (shares, true) => list.number("CPUWeight", weight(shares)),
        (shares, false) => list.number("CPUShares", shares),
    }
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if quota != 0 || period != 0 {
        if period != 0 {
            list.number("CPUQuotaPeriodUSec", period);
        }
        let period = if period == 0 { DEFAULT_PERIOD_US } else { period };
        let per_second = u64::try_from(quota).ok().filter(|quota| *quota > 0).map_or(NONE, |quota| {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period);
            u64::try_from(exact).unwrap_or(NONE - QUOTA_STEP_US).next_multiple_of(QUOTA_STEP_US)
        });
        list.number("CPUQuotaPerSecUSec", per_second);
    }
    if !is_unified {
        // On v1 systemd leaves cpusets alone.
        return Ok(());
    }
    for (field, name, text) in
        [("cpu.cpus", "AllowedCPUs", cpu.cpus()), ("cpu.mems", "AllowedMemoryNodes", cpu.mems())]
    {
        let Some(text) = text.as_deref().filter(|text| !text.is_empty()) else { continue };
        let refused = || ResourceError::Value { field, value: text.to_owned() };
        list.mask(name, text).ok_or_else(refused)?;
    }
    Ok(())
}

/// A file of cgroup v2 that systemd has a property for.
fn unified(list: &mut List, file: &str, value: &str) {
    let names = [
        ("memory.max", "MemoryMax"),
        ("memory.high", "MemoryHigh"),
        ("memory.low", "MemoryLow"),
        ("memory.min", "MemoryMin"),
        ("memory.swap.max", "MemorySwapMax"),
        ("pids.max", "TasksMax"),
        ("cpu.weight", "CPUWeight"),
    ];
    let number = if value == "max" { Some(NONE) } else { value.parse().ok() };
    let name = names.iter().find(|(name, _)| *name == file).map(|(_, name)| name);
    if let (Some(name), Some(number)) = (name, number) {
        list.number(name, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(resources: &str, is_unified: bool) -> Vec<(String, u64)> {
        let resources = serde_json::from_str(resources).unwrap();
        let number = |value| match value {
            Value::U64(number) => Some(number),
            _ => None,
        };
        let all = properties(&resources, is_unified).unwrap().into_iter();
        all.filter_map(|(name, value)| Some((name, number(value)?))).collect()
    }

    fn named(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
    }

    #[test]
    fn memory_and_swap_are_apart_on_v2() {
        let text = r#"{"memory":{"limit":100,"swap":150,"reservation":50}}"#;
        assert_eq!(told(text, true), named(&[("MemoryMax", 100), ("MemoryLow", 50), ("MemorySwapMax", 50)]));
        assert_eq!(told(text, false), named(&[("MemoryLimit", 100)]));
        let none = r#"{"memory":{"limit":-1,"swap":-1},"pids":{"limit":-1}}"#;
        assert_eq!(
            told(none, true),
            named(&[("MemoryMax", NONE), ("MemorySwapMax", NONE), ("TasksMax", NONE)])
        );
    }

    #[test]
    fn a_quota_is_of_a_second_and_rounded_up() {
        for (quota, period, expected) in [
            (50_000, 100_000, 500_000),
            (1_001, 100_000, 20_000),
            (-1, 100_000, NONE),
            (i64::MAX, 1, (NONE - QUOTA_STEP_US).next_multiple_of(QUOTA_STEP_US)),
        ] {
            let text = format!(r#"{{"cpu":{{"quota":{quota},"period":{period}}}}}"#);
            assert_eq!(told(&text, true)[1], ("CPUQuotaPerSecUSec".to_owned(), expected), "{text}");
        }
    }

    #[test]
    fn processors_are_bits() {
        let mut list = List(Vec::new());
        list.mask("AllowedCPUs", "0-2,9").unwrap();
        let bytes = Value::Array("y".into(), vec![Value::Byte(0b111), Value::Byte(0b10)]);
        assert_eq!(list.0, [("AllowedCPUs".to_owned(), bytes)]);
        assert!(list.mask("AllowedCPUs", "70000").is_none());
    }
}
