//! Looking for what a container must not leave behind on the host.

use std::fs;
use std::path::Path;

/// Fails when the host still has a cgroup, a mount or a process of the container `id` with `bundle`.
///
/// # Panics
/// See above.
pub fn assert_nothing_left(id: &str, bundle: &Path) {
    assert_no_cgroup(id);
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts can be listed");
    let bundle = bundle.to_string_lossy();
    assert!(!mounts.contains(&*bundle), "a mount of {bundle} is left");
    for process in fs::read_dir("/proc").expect("processes can be listed").flatten() {
        let command = fs::read_to_string(process.path().join("cmdline")).unwrap_or_default();
        assert!(!command.contains(id), "process {} ({command}) is left", process.path().display());
    }
}

/// Fails when some hierarchy has the cgroup at `path`, which is relative to its root.
///
/// # Panics
/// See above.
pub(crate) fn assert_no_cgroup(path: &str) {
    let mut hierarchies = vec![Path::new("/sys/fs/cgroup").to_path_buf()];
    let entries = fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted");
    hierarchies.extend(entries.flatten().map(|entry| entry.path()));
    for hierarchy in hierarchies {
        assert!(!hierarchy.join(path).exists(), "cgroup {} is left", hierarchy.join(path).display());
    }
}
