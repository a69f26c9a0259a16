//! Limits of a container.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Limits; `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resources {
    /// Length of a CFS period, microseconds.
    pub cpu_period_us: Option<u64>,
    /// CPU time per period, microseconds; -1 is unlimited.
    pub cpu_quota_us: Option<i64>,
    /// Relative weight, 2 to 262144 (1024 is one CPU asked for).
    pub cpu_shares: Option<u64>,
    /// Length of a period of real-time scheduling, microseconds; only on cgroup v1.
    #[serde(default)]
    pub cpu_realtime_period_us: Option<u64>,
    /// Real-time CPU time per period, microseconds; only on cgroup v1.
    #[serde(default)]
    pub cpu_realtime_runtime_us: Option<i64>,
    /// Relative weight at disks, 10 to 1000.
    #[serde(default)]
    pub disk_weight: Option<u16>,
    /// Most memory, bytes.
    pub memory_limit_bytes: Option<i64>,
    /// Most memory and swap together, bytes; -1 is unlimited.
    pub memory_swap_limit_bytes: Option<i64>,
    /// What memory is brought back to when the host has little, bytes.
    #[serde(default)]
    pub memory_reservation_bytes: Option<i64>,
    /// How readily its memory is swapped out, 0 to 100; only on cgroup v1.
    #[serde(default)]
    pub memory_swappiness: Option<u64>,
    /// Whether its processes wait for memory at the limit in place of being killed; only on cgroup v1.
    #[serde(default)]
    pub disable_oom_killer: bool,
    /// How readily the OOM killer chooses it, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// CPUs it may use, in the kernel's list format (`0-2,7`).
    pub cpuset_cpus: String,
    /// Memory nodes it may use, in the kernel's list format.
    pub cpuset_mems: String,
    /// Most processes and threads, -1 is unlimited; the daemon's default when absent.
    pub pids_limit: Option<i64>,
    /// Huge pages.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// cgroup v2 files and what is written to them.
    pub unified: BTreeMap<String, String>,
}

/// Most memory in huge pages of one size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HugepageLimit {
    /// Size as the kernel writes it: `2MB`, `1GB`.
    pub page_size: String,
    /// Bytes.
    pub limit_bytes: u64,
}

impl Resources {
    /// These limits with everything that `change` states replaced.
    #[must_use]
    pub(crate) fn changed_by(&self, change: &Self) -> Self {
        let text = |new: &String, old: &String| if new.is_empty() { old.clone() } else { new.clone() };
        let mut unified = self.unified.clone();
        unified.extend(change.unified.clone());
        Self {
            cpu_period_us: change.cpu_period_us.or(self.cpu_period_us),
            cpu_quota_us: change.cpu_quota_us.or(self.cpu_quota_us),
            cpu_shares: change.cpu_shares.or(self.cpu_shares),
            cpu_realtime_period_us: change.cpu_realtime_period_us.or(self.cpu_realtime_period_us),
            cpu_realtime_runtime_us: change.cpu_realtime_runtime_us.or(self.cpu_realtime_runtime_us),
            disk_weight: change.disk_weight.or(self.disk_weight),
            memory_limit_bytes: change.memory_limit_bytes.or(self.memory_limit_bytes),
            memory_swap_limit_bytes: change.memory_swap_limit_bytes.or(self.memory_swap_limit_bytes),
            memory_reservation_bytes: change.memory_reservation_bytes.or(self.memory_reservation_bytes),
            memory_swappiness: change.memory_swappiness.or(self.memory_swappiness),
            disable_oom_killer: change.disable_oom_killer || self.disable_oom_killer,
            oom_score_adj: change.oom_score_adj.or(self.oom_score_adj),
            cpuset_cpus: text(&change.cpuset_cpus, &self.cpuset_cpus),
            cpuset_mems: text(&change.cpuset_mems, &self.cpuset_mems),
            pids_limit: change.pids_limit.or(self.pids_limit),
            hugepage_limits: if change.hugepage_limits.is_empty() {
                self.hugepage_limits.clone()
            } else {
                change.hugepage_limits.clone()
            },
            unified,
        }
    }
}

/// What a pod as a whole is said to need. Kept and reported, not enforced: the pod's cgroup and its limits are the
/// client's, who has set them by the time he tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodResources {
    /// Cost of the pod itself.
    pub overhead: Option<Resources>,
    /// Sum over its containers.
    pub resources: Option<Resources>,
}

impl PodResources {
    /// These with each part that `change` states replaced as a whole.
    #[must_use]
    pub(crate) fn changed_by(&self, change: &Self) -> Self {
        Self {
            overhead: change.overhead.as_ref().or(self.overhead.as_ref()).cloned(),
            resources: change.resources.as_ref().or(self.resources.as_ref()).cloned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_replaces_what_it_states_and_nothing_else() {
        let old = Resources { cpu_shares: Some(512), cpuset_cpus: "0".into(), ..Resources::default() };
        let change =
            Resources { cpu_shares: Some(1024), memory_limit_bytes: Some(1 << 20), ..Resources::default() };
        let new = old.changed_by(&change);
        assert_eq!(
            (new.cpu_shares, new.memory_limit_bytes, new.cpuset_cpus.as_str()),
            (Some(1024), Some(1 << 20), "0")
        );
    }

    #[test]
    fn a_part_of_a_pods_needs_is_replaced_as_a_whole() {
        let shares = |cpu_shares| Some(Resources { cpu_shares: Some(cpu_shares), ..Resources::default() });
        let old = PodResources { overhead: shares(2), resources: shares(4) };
        let memory = Some(Resources { memory_limit_bytes: Some(1 << 20), ..Resources::default() });
        let new = old.changed_by(&PodResources { overhead: None, resources: memory.clone() });
        assert_eq!(new, PodResources { overhead: shares(2), resources: memory });
    }
}
