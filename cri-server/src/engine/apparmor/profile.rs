//! The text of the default AppArmor profile.
//!
//! It has the effect of the one Docker and containerd load, which is what users of `RuntimeDefault` expect: everything
//! an ordinary program does is allowed; mounting, writing to what of /proc and /sys is the host's, and looking at
//! kernel memory, firmware and power meters are not. AppArmor knows no exceptions from a denial, so "everything but
//! `/proc/sys/kernel/shm*`" is spelt out as the names that differ from it in their first, second, ... letter.

/// The default profile's name.
pub(crate) const NAME: &str = "cleat-default";

/// Denied both ways: memory of the kernel, what the firmware says, power meters (a side channel), security policies.
const HIDDEN: [&str; 5] = [
    "/proc/kcore",
    "/proc/sysrq-trigger",
    "/sys/devices/virtual/powercap/**",
    "/sys/firmware/**",
    "/sys/kernel/security/**",
];

/// Profiles other runtimes come with on some distributions: as a handler's program they signal containers.
const SIGNALLERS: [&str; 3] = ["unconfined", "runc", "crun"];

/// Sockets to the kernel's algorithms (CVE-2026-31431). The default filter refuses them to `socket(2)`, but cannot see them
/// in `socketcall(2)`, by which programs of 32 bits reach them.
const NO_ALGORITHMS: &str = "deny network alg,";

/// The language version whose `network` includes Unix sockets; later ones want a rule for them, and for user
/// namespaces, that earlier parsers do not know.
const ABI: &str = "abi <abi/3.0>,";

/// The profile, for a daemon that runs as `daemon` (a label, `unconfined` mostly). `has_abi` tells whether the installed
/// AppArmor has definitions of language versions (since 3.0).
pub(super) fn text(daemon: &str, has_abi: bool) -> String {
    let mut rules: Vec<String> =
        ["network,", NO_ALGORITHMS, "capability,", "file,", "umount,", "deny mount,"]
            .map(str::to_owned)
            .into();
    for peer in SIGNALLERS.into_iter().chain((!SIGNALLERS.contains(&daemon)).then_some(daemon)) {
        rules.push(format!("signal (receive) peer=\"{peer}\","));
    }
    rules.push(format!("signal (send, receive) peer={NAME},"));
    // Whether a process is there may be asked by everybody. Who looks at a container from outside needs leave of the
    // profile that it runs under itself.
    rules.push("signal (send, receive) set=(exists),".to_owned());
    rules.push("ptrace (readby, tracedby),".to_owned());
    rules.push(format!("ptrace (trace, read) peer={NAME},"));
    rules.extend(proc_of_the_host().into_iter().map(|path| format!("deny {path} w,")));
    rules.extend(sys_of_the_host().into_iter().map(|path| format!("deny {path} wklx,")));
    rules.extend(HIDDEN.iter().map(|path| format!("deny {path} rwklx,")));

    let abi = if has_abi { ABI } else { "" };
    let rules: String = rules.into_iter().map(|rule| format!("  {rule}\n")).collect();
    format!(
        "# Loaded by cleatd at its start, which undoes changes of this file.\n{abi}\n\
         profile {NAME} flags=(attach_disconnected, mediate_deleted) {{\n{rules}}}\n"
    )
}

/// Patterns of what of /proc may not be written: all but processes' own folders and `sys/kernel/shm*`.
fn proc_of_the_host() -> Vec<String> {
    let mut paths = vec!["/proc/*".to_owned()];
    // Neither a process's number nor `sys`.
    paths.extend(["/proc/[^1-9s/]*/**", "/proc/sys[^/]*/**"].map(str::to_owned));
    paths.extend(["/proc/s[^y/]*/**", "/proc/sy[^s/]*/**"].map(str::to_owned));
    paths.extend(all_but("/proc/sys/", "kernel/", "**"));
    paths.extend(all_but("/proc/sys/kernel/", "shm", "**"));
    paths
}

/// Patterns of what of /sys may not be written: all but cgroups.
fn sys_of_the_host() -> Vec<String> {
    let mut paths = all_but("/sys/", "fs/", "*/**");
    paths.extend(all_but("/sys/fs/", "cgroup/", "*/**"));
    paths
}

/// Patterns of what is in `folder` and does not begin with `kept`; `rest` follows the letter that differs.
fn all_but(folder: &str, kept: &str, rest: &str) -> Vec<String> {
    let cut = |(at, letter): (usize, char)| match (&kept[..at], letter) {
        // The name is longer.
        (same, '/') => format!("{folder}{same}[^/]{rest}"),
        (same, letter) => format!("{folder}{same}[^{letter}/]{rest}"),
    };
    kept.char_indices().map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_only_paths() -> Vec<String> {
        [proc_of_the_host(), sys_of_the_host()].concat()
    }

    /// Whether `path` matches an AppArmor pattern (apparmor.d(5), globbing) of the kinds used here.
    fn matches(pattern: &str, path: &str) -> bool {
        if let Some(rest) = pattern.strip_prefix("**") {
            return (0..=path.len()).any(|at| matches(rest, &path[at..]));
        }
        if let Some(rest) = pattern.strip_prefix('*') {
            let segment = path.find('/').unwrap_or(path.len());
            return (0..=segment).any(|at| matches(rest, &path[at..]));
        }
        let mut letters = path.chars();
        let Some(letter) = letters.next() else { return pattern.is_empty() };
        match pattern.strip_prefix("[^").and_then(|rest| rest.split_once(']')) {
            Some((class, rest)) => {
                let digits = class.contains("1-9") && ('1'..='9').contains(&letter);
                !digits && !class.contains(letter) && matches(rest, letters.as_str())
            }
            None => pattern.strip_prefix(letter).is_some_and(|rest| matches(rest, letters.as_str())),
        }
    }

    #[test]
    fn what_is_the_hosts_cannot_be_written() {
        let paths = read_only_paths();
        let denied = |path: &str| paths.iter().any(|pattern| matches(pattern, path));
        for path in [
            "/proc/sysrq-trigger",
            "/proc/timer_list",
            "/proc/irq/0/smp_affinity",
            "/proc/bus/pci/00",
            "/proc/fs/nfsd/x",
            "/proc/scsi/scsi",
            "/proc/sysvipc/shm",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sys/keys/x",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/sysrq",
            "/proc/sys/kernel/sem",
            "/proc/sys/kernel/random/uuid",
            "/sys/kernel/mm/x",
            "/sys/firmware/efi/vars",
            "/sys/fs/bpf/pinned",
            "/sys/fs/ext4/sda/x",
            "/sys/fs/cgroups/x",
            "/sys/class/net/lo/mtu",
        ] {
            assert!(denied(path), "{path}");
        }
    }

    #[test]
    fn what_is_the_containers_can_be_written() {
        let paths = read_only_paths();
        for path in [
            "/proc/1/oom_score_adj",
            "/proc/17/task/17/comm",
            "/proc/999/attr/current",
            "/proc/sys/kernel/shmmax",
            "/proc/sys/kernel/shm_rmid_forced",
            "/sys/fs/cgroup/cgroup.procs",
            "/sys/fs/cgroup/memory/x/tasks",
            "/process/x",
            "/home/system",
        ] {
            let hit: Vec<_> = paths.iter().filter(|pattern| matches(pattern, path)).collect();
            assert!(hit.is_empty(), "{path}: {hit:?}");
        }
    }

    #[test]
    fn a_confined_daemon_may_signal_its_containers() {
        assert_eq!(text("unconfined", true).matches("signal (receive)").count(), SIGNALLERS.len());
        assert!(text("/usr/bin/cleatd", true).contains("signal (receive) peer=\"/usr/bin/cleatd\","));
    }

    #[test]
    fn language_versions_are_named_where_they_are_known() {
        assert!(text("unconfined", true).contains("\nabi <abi/3.0>,\nprofile cleat-default "));
        assert!(!text("unconfined", false).contains("abi <"));
    }
}
