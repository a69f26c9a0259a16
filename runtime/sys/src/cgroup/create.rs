//! Making a cgroup in every hierarchy.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::handle::{read_if_present, write_value};
use super::{Cgroup, CgroupError};

impl Cgroup {
    /// Makes the cgroup, and its parents where they are missing, in every hierarchy. A new cpuset cgroup gets its
    /// parent's processors and memory nodes; in the cgroup2 hierarchy the parents pass on the controllers they have.
    /// One that exists already is used if it has no processes. What was made is removed again on failure.
    pub fn create(&self) -> Result<(), CgroupError> {
        self.require_empty()?;
        let made = self.layout.roots().try_for_each(|root| self.create_under(root));
        if made.is_err() {
            // The first failure is the one worth telling.
            drop(self.remove());
        }
        made
    }

    /// Fails when there is a process in it. Absent is fine.
    pub fn require_empty(&self) -> Result<(), CgroupError> {
        if self.is_populated()? { Err(CgroupError::Populated(self.path.clone())) } else { Ok(()) }
    }

    /// Makes a cgroup that somebody else has made in some hierarchies in the others, too.
    pub fn complete(&self) -> Result<(), CgroupError> {
        self.layout.roots().try_for_each(|root| self.create_under(root))
    }

    /// Makes the cgroup in the cgroup2 hierarchy, or where there is none in the freezer's: enough to kill what is in it.
    pub fn create_for_kill(&self) -> Result<(), CgroupError> {
        if self.layout.is_none() {
            return Ok(());
        }
        let root = self.layout.unified().or_else(|| self.layout.v1_root("freezer"));
        let root = root.ok_or_else(|| CgroupError::NoController("freezer".into()))?;
        create_folder(&root.join(&self.path)).map(|_| ())
    }

    fn create_under(&self, root: &Path) -> Result<(), CgroupError> {
        let is_cpuset = self.layout.v1_root("cpuset") == Some(root);
        let has_controllers = self.layout.v1().is_empty();
        let mut dir = root.to_path_buf();
        if !is_cpuset
            && !has_controllers
            && fs::DirBuilder::new().mode(0o755).create(dir.join(&self.path)).is_ok()
        {
            return Ok(());
        }
        for part in &self.path {
            if has_controllers {
                pass_on_controllers(&dir)?;
            }
            let parent = dir.clone();
            dir.push(part);
            if create_folder(&dir)? && is_cpuset {
                inherit_cpuset(&parent, &dir)?;
            }
        }
        Ok(())
    }
}

/// Whether the folder is new.
fn create_folder(dir: &Path) -> Result<bool, CgroupError> {
    match fs::DirBuilder::new().mode(0o755).create(dir) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(CgroupError::Create { path: dir.into(), source }),
    }
}

/// A v1 cpuset is born without processors and memory nodes, and no process can join it so.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let value = read_if_present(parent.join(file))?.unwrap_or_default();
        write_value(dir.join(file), value.trim())?;
    }
    Ok(())
}

/// Lets the children of `dir` have every controller that `dir` has itself.
fn pass_on_controllers(dir: &Path) -> Result<(), CgroupError> {
    let own = read_if_present(dir.join("cgroup.controllers"))?.unwrap_or_default();
    let passed = read_if_present(dir.join("cgroup.subtree_control"))?.unwrap_or_default();
    let is_passed = |name: &&str| !passed.split_whitespace().any(|other| other == *name);
    for controller in own.split_whitespace().filter(is_passed) {
        let file = dir.join("cgroup.subtree_control");
        match write_value(file, &format!("+{controller}")) {
            // A controller may be bound to this level (cpu with real-time processes in the root): what needs it later
            // fails there, with the file's name.
            Ok(()) | Err(CgroupError::Write { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
