//! Groups of the resctrl filesystem, by which the kernel shares caches and memory bandwidth among processes
//! (Documentation/filesystems/resctrl.rst).
//!
//! ```text
//! <mount>/<group>/schemata                      what its processes get
//! <mount>/<group>/tasks                         who they are; init and exec'd processes write themselves down
//! <mount>/<group>/mon_groups/<container>/tasks  those that are counted apart
//! ```
//! A group of the container's own name ends with it. One that was asked for by its name is somebody else's to remove,
//! even where it was missing; a monitoring group always is the container's.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::failure::Step;
use crate::spec::IntelRdt;

/// The filesystem's type in a table of mounts.
const FILESYSTEM: &str = "resctrl";

/// A container's groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResctrlGroups {
    /// Those its processes are in.
    joined: Vec<PathBuf>,
    /// Those that end with it, the inner ones first.
    own: Vec<PathBuf>,
}

impl ResctrlGroups {
    /// Whether there is nothing to join and nothing to remove.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.joined.is_empty() && self.own.is_empty()
    }

    /// Finds or makes the planned groups. On failure nothing is left of what was made.
    pub(crate) fn make(planned: Option<&IntelRdt>, root: Option<&Path>) -> Result<Self, Failure> {
        let (Some(planned), Some(root)) = (planned, root) else { return Ok(Self::default()) };
        let mut groups = Self::default();
        match groups.make_in(planned, root) {
            Ok(()) => Ok(groups),
            Err(mut failure) => {
                if let Err(also) = groups.remove() {
                    failure.reason = format!("{}; then also: {also}", failure.reason);
                }
                Err(failure)
            }
        }
    }

    fn make_in(&mut self, planned: &IntelRdt, root: &Path) -> Result<(), Failure> {
        let group = root.join(&planned.group);
        let step = || format!("make resctrl group {}", group.display());
        let schemata = group.join("schemata");
        if planned.is_named && group.is_dir() {
            check_schemata(&schemata, &planned.schemata)?;
        } else if planned.is_named && planned.schemata.is_empty() {
            return Err(Failure::because(
                step(),
                "there is none of this name, and no schemata to make it with",
            ));
        } else {
            make_folder(&group).step(step)?;
            if !planned.is_named {
                self.own.push(group.clone());
            }
            write_schemata(&schemata, &planned.schemata)
                .step(|| format!("write to {}{}", schemata.display(), complaint(root)))?;
        }
        self.joined.push(group.clone());
        let Some(name) = &planned.monitored_as else { return Ok(()) };
        let monitor = group.join("mon_groups").join(name);
        make_folder(&monitor).step(|| format!("make monitoring group {}", monitor.display()))?;
        self.own.insert(0, monitor.clone());
        self.joined.push(monitor);
        Ok(())
    }

    /// Puts the calling process, of a single thread, into the groups.
    pub(crate) fn join_self(&self) -> Result<(), Failure> {
        self.joined.iter().try_for_each(|group| {
            let tasks = group.join("tasks");
            // The kernel takes 0 for whoever writes (`rdtgroup_move_task`).
            fs::write(&tasks, "0").step(|| format!("write to {}", tasks.display()))
        })
    }

    /// Removes those that are the container's own. Absent is fine.
    pub fn remove(&self) -> Result<(), Failure> {
        let remove = |group: &PathBuf| match fs::remove_dir(group) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).step(|| format!("remove resctrl group {}", group.display()))
            }
            _ => Ok(()),
        };
        self.own.iter().map(remove).fold(Ok(()), Result::and)
    }
}

/// Where the filesystem is mounted, for a container that needs it.
pub(crate) fn root(planned: Option<&IntelRdt>) -> Result<Option<PathBuf>, Failure> {
    if planned.is_none() {
        return Ok(None);
    }
    let step = "carry out linux.intelRdt";
    let mounts = fs::read_to_string("/proc/self/mountinfo").step(|| step)?;
    let missing = || Failure::because(step, "Intel RDT is not enabled: no resctrl filesystem is mounted");
    find(&mounts).ok_or_else(missing).map(Some)
}

/// The first mount of the filesystem in a table of mounts (proc_pid_mountinfo(5)).
fn find(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let is_it = filesystem.split(' ').next() == Some(FILESYSTEM);
        // Nobody mounts it where a name would have to be escaped.
        mount.split(' ').nth(4).filter(|_| is_it).map(PathBuf::from)
    })
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// All lines in one write, so that the kernel refuses all of them or none.
fn write_schemata(file: &Path, lines: &[String]) -> io::Result<()> {
    if lines.is_empty() { Ok(()) } else { fs::write(file, lines.join("\n") + "\n") }
}

/// What the kernel says of the last change, which its error number does not.
fn complaint(root: &Path) -> String {
    match fs::read_to_string(root.join("info/last_cmd_status")) {
        Ok(text) if text.trim() != "ok" => format!(" ({})", text.trim()),
        _ => String::new(),
    }
}

/// A group that is there already has to be what was asked for: it may be others' too.
fn check_schemata(file: &Path, wanted: &[String]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return Ok(());
    }
    let step = || format!("compare linux.intelRdt with {}", file.display());
    let present = fs::read_to_string(file).step(step)?;
    match wanted.iter().find(|line| !has_schema(&present, line)) {
        Some(line) => Err(Failure::because(step(), format!("it does not have {line}"))),
        None => Ok(()),
    }
}

/// Whether `schemata` give the resource of `line` what that says of each of its domains.
fn has_schema(schemata: &str, line: &str) -> bool {
    let Some((resource, wanted)) = line.split_once(':') else { return false };
    let of_resource =
        |line: &&str| line.split_once(':').is_some_and(|(name, _)| name.trim() == resource.trim());
    let Some((_, present)) = schemata.lines().find(of_resource).and_then(|line| line.split_once(':')) else {
        return false;
    };
    let present: Vec<_> = domains(present).collect();
    domains(wanted).all(|domain| present.contains(&domain))
}

/// `0=7f0;1=1f` as pairs; leading zeroes and the letters' case are of no account.
fn domains(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.split(';').filter_map(|domain| domain.split_once('=')).map(|(domain, value)| {
        let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
        (domain.trim(), if value.is_empty() { "0".to_owned() } else { value })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(group: &str, is_named: bool, schemata: &[&str], monitored: bool) -> IntelRdt {
        let monitored_as = monitored.then(|| "c1".to_owned());
        let schemata = schemata.iter().map(|line| (*line).to_owned()).collect();
        IntelRdt { group: group.to_owned(), is_named, schemata, monitored_as }
    }

    /// A folder like the filesystem's root, with a group `gold`.
    fn fake() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for group in ["gold/mon_groups", "info"] {
            fs::create_dir_all(root.path().join(group)).unwrap();
        }
        fs::write(root.path().join("gold/schemata"), "    MB:0=100;1= 20\n    L3:0=00ff;1=FFF\n").unwrap();
        root
    }

    #[test]
    fn the_mount_is_found_among_others() {
        let table = "25 1 0:23 / /sys rw - sysfs sysfs rw\n36 25 0:30 / /sys/fs/resctrl rw,relatime shared:9 - resctrl resctrl rw\n";
        assert_eq!(find(table), Some("/sys/fs/resctrl".into()));
        assert_eq!(find("36 25 0:30 / /resctrl rw - ext4 resctrl rw\n"), None);
    }

    #[test]
    fn an_own_group_is_made_written_joined_and_removed() {
        let root = fake();
        let planned = planned("c1", false, &["L3:0=f", "MB:0=20"], false);
        let groups = ResctrlGroups::make(Some(&planned), Some(root.path())).unwrap();
        let group = root.path().join("c1");
        assert_eq!(fs::read_to_string(group.join("schemata")).unwrap(), "L3:0=f\nMB:0=20\n");
        groups.join_self().unwrap();
        assert_eq!(fs::read_to_string(group.join("tasks")).unwrap(), "0");
        // The kernel's folders go with their files.
        fs::remove_file(group.join("tasks")).and_then(|()| fs::remove_file(group.join("schemata"))).unwrap();
        groups.remove().unwrap();
        assert!(!group.exists());
        groups.remove().expect("absent is fine");
    }

    #[test]
    fn a_named_group_stays_and_its_monitoring_group_goes() {
        let root = fake();
        let planned = planned("gold", true, &[], true);
        let groups = ResctrlGroups::make(Some(&planned), Some(root.path())).unwrap();
        let monitor = root.path().join("gold/mon_groups/c1");
        assert_eq!(groups.joined, [root.path().join("gold"), monitor.clone()]);
        assert!(monitor.is_dir());
        groups.remove().unwrap();
        assert!(!monitor.exists() && root.path().join("gold").is_dir());
    }

    #[test]
    fn a_named_group_that_is_not_what_was_asked_for_is_refused() {
        let root = fake();
        for (schemata, is_right) in [
            (&["L3:0=ff;1=fff"][..], true),
            (&["L3:1=0fff", "MB:1=20"], true),
            (&["L3:0=f"], false),
            (&["L2:0=ff"], false),
            (&["MB:2=20"], false),
            (&["nonsense"], false),
        ] {
            let planned = planned("gold", true, schemata, false);
            let made = ResctrlGroups::make(Some(&planned), Some(root.path()));
            assert_eq!(made.is_ok(), is_right, "{schemata:?}");
        }
        let missing = planned("silver", true, &[], false);
        assert!(ResctrlGroups::make(Some(&missing), Some(root.path())).is_err());
        assert!(!root.path().join("silver").exists());
    }

    #[test]
    fn a_failure_leaves_nothing_and_tells_what_the_kernel_says() {
        let root = fake();
        fs::write(root.path().join("info/last_cmd_status"), "mask f too wide\n").unwrap();
        // A folder in the place of the file: it cannot be written.
        fs::create_dir_all(root.path().join("c1/schemata")).unwrap();
        let wide = planned("c1", false, &["L3:0=f"], false);
        let failure = ResctrlGroups::make(Some(&wide), Some(root.path())).unwrap_err();
        assert!(failure.to_string().contains("mask f too wide"), "{failure}");
        // No monitoring groups: the group that was made for it goes again.
        let unmonitored = planned("c2", false, &[], true);
        assert!(ResctrlGroups::make(Some(&unmonitored), Some(root.path())).is_err());
        assert!(!root.path().join("c2").exists());
    }
}
