//! Cgroups below a parent, in every hierarchy of the host.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Finding;

/// The cgroups below `parent` in all hierarchies; the parent itself is not one of them.
pub(super) fn find(parent: &str) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for top in parents(parent)? {
        let mut below = Vec::new();
        collect(&top, &mut below)?;
        found.extend(below.into_iter().map(|path| Finding::new("cgroup", path.display().to_string())));
    }
    Ok(found)
}

/// The processes in `parent` and below it.
pub(super) fn processes(parent: &str) -> Result<Vec<u32>> {
    let mut pids = Vec::new();
    for top in parents(parent)? {
        let mut all = vec![top.clone()];
        collect(&top, &mut all)?;
        for folder in all {
            match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("read cgroup.procs of {}", folder.display()));
                }
            }
        }
    }
    Ok(pids)
}

/// Removes `parent` and everything below it; no process may be left in them.
pub(super) fn remove(parent: &str) -> Result<()> {
    for top in parents(parent)? {
        let mut all = vec![top.clone()];
        collect(&top, &mut all)?;
        for folder in all.iter().rev() {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("remove cgroup {}", folder.display()));
                }
            }
        }
    }
    Ok(())
}

/// `ENOENT`, or `ENODEV` from a file of a cgroup that was removed after the file was opened.
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

/// `parent` in every hierarchy where it exists.
fn parents(parent: &str) -> Result<Vec<PathBuf>> {
    // Everything on the host is below the root: a scope must not be that wide.
    ensure!(Path::new(parent).file_name().is_some(), "{parent:?} is no cgroup of a test's own");
    let text = fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    let parent = parent.trim_start_matches('/');
    Ok(hierarchies(&text).map(|top| top.join(parent)).filter(|path| path.is_dir()).collect())
}

/// The mount points of all hierarchies in `mountinfo`.
fn hierarchies(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let kind = after.split(' ').next()?;
        let point = before.split(' ').nth(4)?;
        matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(point))
    })
}

/// Appends everything below `folder`, parents before children.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if is_gone(&error) => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        if entry.file_type().with_context(|| format!("look at {}", entry.path().display()))?.is_dir() {
            found.push(entry.path());
            collect(&entry.path(), found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_a_hybrid_machine() {
        let text = "30 29 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n\
                    31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    32 30 0:28 / /sys/fs/cgroup/pids rw shared:9 - cgroup cgroup rw,pids\n";
        let found: Vec<PathBuf> = hierarchies(text).collect();
        assert_eq!(found, ["/sys/fs/cgroup/unified", "/sys/fs/cgroup/pids"].map(PathBuf::from));
    }

    #[test]
    fn a_parent_that_does_not_exist_holds_nothing() {
        let parent = "/cleat-test-there-is-no-such-cgroup";
        assert!(find(parent).unwrap().is_empty());
        assert!(processes(parent).unwrap().is_empty());
        remove(parent).unwrap();
        assert!(processes("/").is_err());
    }
}
