//! What `/proc/<pid>` says of a container's processes. They come and go meanwhile: one that is gone counts as none.

use std::fs;

use cleat_sys::cgroup::Cgroup;

use super::Samples;
use super::known::*;

/// Processes, descriptors and sockets of the cgroup, and the limits of the first process.
pub(super) fn read(cgroup: &Cgroup, init: i32, samples: &mut Samples) {
    let Ok(pids) = cgroup.processes() else { return };
    samples.add(&PROCESSES, pids.len() as u64);
    let (mut descriptors, mut sockets) = (0, 0);
    for entry in
        pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).flatten().flatten()
    {
        descriptors += 1;
        let target = fs::read_link(entry.path());
        sockets += u64::from(target.is_ok_and(|target| target.to_string_lossy().starts_with("socket:")));
    }
    samples.add(&FILE_DESCRIPTORS, descriptors);
    samples.add(&SOCKETS, sockets);
    let limits = fs::read_to_string(format!("/proc/{init}/limits")).unwrap_or_default();
    for (name, limit) in soft_limits(&limits) {
        samples.labelled(&ULIMITS_SOFT, &[&name], limit);
    }
}

/// The finite soft limits, named as cAdvisor names them: `max_open_files`. proc_pid_limits(5): a name, two spaces or
/// more, soft, hard and unit.
fn soft_limits(text: &str) -> Vec<(String, u64)> {
    let limit = |line: &str| {
        let (name, rest) = line.split_once("  ")?;
        let soft = rest.split_whitespace().next()?.parse().ok()?;
        Some((name.trim().to_lowercase().replace(' ', "_"), soft))
    };
    text.lines().skip(1).filter_map(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limits_have_cadvisors_names() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max open files            1024                 4096                 files     \n";
        assert_eq!(soft_limits(text), [("max_open_files".to_owned(), 1024)]);
    }
}
