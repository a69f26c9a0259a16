//! Processes that belong to a scope, and the network namespaces they keep.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Finding, Scope, cgroups};

/// The processes of `scope` that are not known, and the namespaces of the network they live in.
pub(super) fn find(scope: &Scope) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let own = namespace(scope.world, "net");
    for pid in pids(scope)? {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        found.push(Finding::new("process", format!("{pid}: {}", line.trim())));
        if let Some(net) = namespace(pid, "net").filter(|net| Some(net) != own.as_ref()) {
            found.push(Finding::new("namespace", format!("{} kept by process {pid}", net.display())));
        }
    }
    Ok(found)
}

/// The processes of `scope` that are not known: those in its cgroups or its namespaces, and those that name its path.
pub(super) fn pids(scope: &Scope) -> Result<Vec<u32>> {
    let mut pids: BTreeSet<u32> = cgroups::processes(&scope.cgroup_parent)?.into_iter().collect();
    let (net, mnt) = (namespace(scope.world, "net"), namespace(scope.world, "mnt"));
    // Else every process of the host would belong to the scope, and `clean` would kill them.
    let of_host = net == namespace(1, "net") || mnt == namespace(1, "mnt");
    ensure!(
        !of_host,
        "process {} is in the namespaces of the host, or gone: no world of a scope",
        scope.world
    );
    for entry in fs::read_dir("/proc").context("list /proc")? {
        let name = entry.context("list /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let inside = [("net", &net), ("mnt", &mnt)].iter().any(|(kind, of_world)| {
            let of_process = namespace(pid, kind);
            of_process.is_some() && of_process == **of_world
        });
        if inside || mentions(pid, &scope.mention) {
            pids.insert(pid);
        }
    }
    // Whoever looks, and whoever asked for it, is no leak.
    let lookers = ancestry(std::process::id());
    pids.retain(|pid| !lookers.contains(pid) && !scope.known.contains(pid) && !is_zombie(*pid));
    Ok(pids.into_iter().collect())
}

/// The namespace of process `pid`, as `net:[4026531840]`; none when the process is gone or a zombie.
fn namespace(pid: u32, kind: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

fn mentions(pid: u32, path: &Path) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let path = path.as_os_str().as_encoded_bytes();
    !path.is_empty() && line.windows(path.len()).any(|window| window == path)
}

/// A zombie holds nothing but its number; when its parent has died, reaping it is up to process 1.
fn is_zombie(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state(&status).is_none_or(|state| state == 'Z' || state == 'X')
}

/// Process `pid`, its parent, and so on.
fn ancestry(pid: u32) -> Vec<u32> {
    let parent = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parent(&stat).filter(|parent| *parent != 0)
    };
    std::iter::successors(Some(pid), parent).collect()
}

/// The parent's id in a line of proc_pid_stat(5).
fn parent(stat: &str) -> Option<u32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The state in a line of proc_pid_stat(5); the name before it may hold anything, brackets included.
fn state(stat: &str) -> Option<char> {
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_in_stat_lines() {
        let cases = [("1 (a) S 7 1", Some('S')), ("1 (a) R) Z 7 1", Some('Z')), ("", None), ("1 (a)", None)];
        for (line, expected) in cases {
            assert_eq!(state(line), expected, "{line:?}");
            assert_eq!(parent(line), expected.map(|_| 7), "{line:?}");
        }
    }

    #[test]
    fn this_process_and_its_parent_are_in_its_ancestry() {
        let found = ancestry(std::process::id());
        assert_eq!(found[..2], [std::process::id(), std::os::unix::process::parent_id()]);
    }
}
