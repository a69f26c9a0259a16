//! The leak checker: what exists in a scope before and after, and the difference.
//!
//! A scope is everything that belongs to one daemon: its world (network and mount namespace), its cgroup parent, its
//! folders. A leak anywhere else would be the work of a stranger and is none of a test's business.

mod cgroups;
mod files;
mod mounts;
mod network;
mod processes;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Scope {
    /// A process in the network and mount namespace to look into.
    pub world: u32,
    /// The cgroup below which everything belongs to the scope, from the root of each hierarchy.
    pub cgroup_parent: String,
    /// Folders whose files belong to the scope.
    pub folders: Vec<PathBuf>,
    /// A path that no other process has reason to name in its command line.
    pub mention: PathBuf,
    /// Processes of the scope that are meant to be there.
    pub known: Vec<u32>,
}

/// One thing that exists, as a line: its kind, then its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    kind: &'static str,
    name: String,
}

impl Finding {
    fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What exists in a scope at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<Finding>);

/// What is there that was not there before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaks(Vec<Finding>);

impl Snapshot {
    /// Looks at everything in `scope`.
    ///
    /// # Errors
    /// Fails when a place cannot be read: what cannot be seen cannot be called clean.
    pub fn take(scope: &Scope) -> Result<Self> {
        let mut found = BTreeSet::new();
        found.extend(mounts::find(scope.world)?);
        found.extend(processes::find(scope)?);
        found.extend(cgroups::find(&scope.cgroup_parent)?);
        found.extend(network::find(scope.world)?);
        found.extend(files::find(&scope.folders)?);
        Ok(Self(found))
    }

    /// Everything that was found, in order.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// What is in `after` and not in `self`.
    #[must_use]
    pub fn leaks(&self, after: &Self) -> Leaks {
        Leaks(after.0.difference(&self.0).cloned().collect())
    }
}

impl Leaks {
    /// The findings.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.0
    }

    /// The findings except those a test expects: the ones whose line begins with one of `prefixes`.
    #[must_use]
    pub fn except(mut self, prefixes: &[&str]) -> Self {
        self.0.retain(|finding| {
            let line = finding.to_string();
            !prefixes.iter().any(|prefix| line.starts_with(prefix))
        });
        self
    }

    /// Fails, naming every leak, when there is one.
    ///
    /// # Errors
    /// Fails when something leaked.
    pub fn none(&self) -> Result<()> {
        ensure!(self.0.is_empty(), "{} leaked:{self}", self.0.len());
        Ok(())
    }
}

impl fmt::Display for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|finding| write!(f, "\n  {finding}"))
    }
}

impl Scope {
    /// Every process of the scope that is not a known one.
    ///
    /// # Errors
    /// Fails when they cannot be listed.
    pub fn processes(&self) -> Result<Vec<u32>> {
        processes::pids(self)
    }

    /// Kills every process of the scope that is not a known one.
    ///
    /// # Errors
    /// Fails when one cannot be killed within `limit`.
    pub fn kill_processes(&self, limit: Duration) -> Result<()> {
        // A process may start another one while the list is read: look again until there is none.
        for _round in 0..50 {
            let pids = processes::pids(self)?;
            if pids.is_empty() {
                return Ok(());
            }
            for pid in pids {
                crate::process::kill_and_wait(pid, limit)?;
            }
        }
        anyhow::bail!("processes of {} keep coming", self.cgroup_parent)
    }

    /// Removes the empty cgroups of the scope, its parent included.
    ///
    /// # Errors
    /// Fails when one cannot be removed.
    pub fn remove_cgroups(&self) -> Result<()> {
        cgroups::remove(&self.cgroup_parent)
    }
}
