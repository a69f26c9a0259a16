//! `process.execCPUAffinity`: the processors that an exec'd process runs on.

use oci_spec::runtime::ExecCPUAffinity;
use rustix::thread::CpuSet;

use super::SpecError;

/// Processors before and after the process has joined the container's cgroups.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CpuAffinity {
    pub(crate) initial: Option<CpuSet>,
    pub(crate) last: Option<CpuSet>,
}

impl CpuAffinity {
    pub(super) fn new(specified: Option<&ExecCPUAffinity>) -> Result<Self, SpecError> {
        let Some(specified) = specified else { return Ok(Self::default()) };
        let set = |name: &str, list: Option<&String>| {
            let list = list.filter(|list| !list.is_empty());
            let field = || format!("process.execCPUAffinity.{name}");
            list.map(|list| parse(list).ok_or_else(|| SpecError::value(field(), list))).transpose()
        };
        Ok(Self {
            initial: set("initial", specified.initial().as_ref())?,
            last: set("final", specified.cpu_affinity_final().as_ref())?,
        })
    }
}

/// A list such as `0-3,7`; none when it is no such list or names a processor beyond what a set holds.
fn parse(list: &str) -> Option<CpuSet> {
    let mut set = CpuSet::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= CpuSet::MAX_CPU {
            return None;
        }
        (first..=last).for_each(|cpu| set.set(cpu));
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_numbers_and_ranges() {
        let set = parse("0-2,7").unwrap();
        let members: Vec<_> = (0..16).filter(|cpu| set.is_set(*cpu)).collect();
        assert_eq!(members, [0, 1, 2, 7]);
        for bad in ["", "a", "2-1", "0-", "0,,1", "-1", "99999"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
