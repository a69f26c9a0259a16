//! Paths of /proc and /sys that a container must not see, or must not write: the lists of the Moby project.

use super::Host;
use crate::engine::model::Security;

/// Hidden: they tell about, or act on, the whole machine.
pub(crate) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    // Timing of keystrokes and other containers' work can be read from the interrupt counters.
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    // Power figures give away what other programs compute (CVE-2020-8694).
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Read-only: they act on the whole machine.
pub(crate) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What is hidden from a container. A list given by the client replaces the fixed one; a privileged container sees all.
pub(super) fn masked_paths(host: &Host, security: &Security) -> Vec<String> {
    if security.privileged {
        return Vec::new();
    }
    match &security.masked_paths {
        Some(paths) => paths.clone(),
        None => {
            MASKED.iter().map(|path| (*path).to_owned()).chain(host.masked_paths.iter().cloned()).collect()
        }
    }
}

/// What is read-only for a container, by the same rules.
pub(super) fn read_only_paths(security: &Security) -> Vec<String> {
    if security.privileged {
        return Vec::new();
    }
    security
        .read_only_paths
        .clone()
        .unwrap_or_else(|| READ_ONLY.iter().map(|path| (*path).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::super::fixture;
    use super::*;

    #[test]
    fn lists_are_the_fixed_ones_the_clients_or_none() {
        let mut host = fixture::host();
        host.masked_paths = vec!["/sys/devices/system/cpu/cpu0/thermal_throttle".into()];
        let security = Security::default();
        assert_eq!(masked_paths(&host, &security).len(), MASKED.len() + 1);
        assert!(masked_paths(&host, &security).iter().any(|path| path == "/proc/interrupts"));
        assert_eq!(read_only_paths(&security), READ_ONLY);

        let none =
            Security { masked_paths: Some(vec![]), read_only_paths: Some(vec![]), ..Security::default() };
        assert!(masked_paths(&host, &none).is_empty() && read_only_paths(&none).is_empty());

        let own = Security { masked_paths: Some(vec!["/bin/ls".into()]), ..Security::default() };
        assert_eq!(masked_paths(&host, &own), ["/bin/ls"]);

        let privileged = Security { privileged: true, ..own };
        assert!(masked_paths(&host, &privileged).is_empty() && read_only_paths(&privileged).is_empty());
    }
}
