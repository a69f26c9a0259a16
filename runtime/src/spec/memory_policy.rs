//! `linux.memoryPolicy`: on which NUMA nodes memory is taken (set_mempolicy(2)).

use cleat_sys::memory_policy::MemoryPolicy;
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType as Flag, MemoryPolicyModeType as Mode};

use super::SpecError;

/// Decides about a policy. Which modes take nodes is set_mempolicy(2)'s rule; the kernel has the last word.
pub(super) fn plan(specified: &LinuxMemoryPolicy) -> Result<MemoryPolicy, SpecError> {
    // linux/mempolicy.h
    let mode = match specified.mode() {
        Mode::MpolDefault => 0,
        Mode::MpolPreferred => 1,
        Mode::MpolBind => 2,
        Mode::MpolInterleave => 3,
        Mode::MpolLocal => 4,
        Mode::MpolPreferredMany => 5,
        Mode::MpolWeightedInterleave => 6,
    };
    let flags = specified.flags().iter().flatten().fold(0, |all, flag| {
        all | match flag {
            Flag::MpolFNumaBalancing => 1 << 13,
            Flag::MpolFRelativeNodes => 1 << 14,
            Flag::MpolFStaticNodes => 1 << 15,
        }
    });
    let list = specified.nodes().as_deref().unwrap_or_default();
    let nodes = nodes(list).ok_or_else(|| SpecError::value("linux.memoryPolicy.nodes", list))?;
    Ok(MemoryPolicy { mode: mode | flags, nodes })
}

/// A list such as `0-1,3` as bits.
fn nodes(list: &str) -> Option<[u64; MemoryPolicy::WORDS]> {
    let mut bits = [0; MemoryPolicy::WORDS];
    for range in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last >= MemoryPolicy::WORDS * 64 {
            return None;
        }
        (first..=last).for_each(|node| bits[node / 64] |= 1 << (node % 64));
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_flags_and_nodes_become_numbers() {
        let json = r#"{"mode":"MPOL_BIND","nodes":"0-1,65","flags":["MPOL_F_STATIC_NODES"]}"#;
        let policy = plan(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!((policy.mode, policy.nodes[0], policy.nodes[1]), (2 | 1 << 15, 3, 2));
        for bad in ["x", "1-0", "0,", "1024"] {
            let json = format!(r#"{{"mode":"MPOL_BIND","nodes":"{bad}"}}"#);
            assert!(plan(&serde_json::from_str(&json).unwrap()).is_err(), "{bad}");
        }
    }
}
