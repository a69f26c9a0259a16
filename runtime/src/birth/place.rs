//! Where an exec'd process is put: into a cgroup of its own beneath the container's, so that its whole tree can be killed,
//! or into one that the container has made itself.
//!
//! | host | process | its own cgroup |
//! |---|---|---|
//! | cgroup2 alone | in the named cgroup, else in its own | none where one is named |
//! | v1 hierarchies | in the named cgroups, else in the container's | in the cgroup2 or the freezer's hierarchy |

use std::os::fd::OwnedFd;

use cleat_sys::cgroup::Cgroup;

use super::builder::{abandon, end};
use crate::failure::Step;
use crate::target::exec_cgroup;
use crate::{Exec, Failure, SubCgroup};

/// The cgroups of an exec'd process.
pub(super) struct Place<'a> {
    container: &'a Cgroup,
    /// Its own, which goes with it.
    own: Option<Cgroup>,
    /// The named one of all hierarchies.
    everywhere: Option<Cgroup>,
    /// Named ones of v1 hierarchies, by their controllers.
    by_controller: Vec<(&'a str, Cgroup)>,
}

impl<'a> Place<'a> {
    /// Decides; touches nothing.
    pub(super) fn new(container: &'a Cgroup, request: &'a Exec<'_>) -> Result<Self, Failure> {
        let own = exec_cgroup(container, request.id)?;
        let mut place = Self { container, own: Some(own), everywhere: None, by_controller: Vec::new() };
        for named in request.cgroups {
            place.name(named)?;
        }
        if container.layout().v1().is_empty() && place.everywhere.is_some() {
            place.own = None;
        }
        Ok(place)
    }

    fn name(&mut self, named: &'a SubCgroup) -> Result<(), Failure> {
        let step = || format!("find cgroup {:?} of the container", named.path);
        let cgroup = match named.path.trim_matches('/') {
            "" => self.container.clone(),
            path => self.container.child(path).step(step)?,
        };
        if named.controllers.is_empty() && self.everywhere.replace(cgroup.clone()).is_some() {
            return Err(Failure::because(step(), "another one is named for all controllers, too"));
        }
        for controller in &named.controllers {
            if !self.container.layout().is_v1(controller) {
                return Err(Failure::because(
                    step(),
                    format!("no v1 hierarchy has controller {controller:?}"),
                ));
            }
            if self.by_controller.iter().any(|(known, _)| known == controller) {
                return Err(Failure::because(step(), format!("another one is named for {controller}, too")));
            }
            self.by_controller.push((controller, cgroup.clone()));
        }
        Ok(())
    }

    /// Makes the process's own cgroup.
    pub(super) fn make(&self) -> Result<(), Failure> {
        let Some(own) = &self.own else { return Ok(()) };
        own.create_for_kill().step(|| format!("make cgroup {}", own.path()))
    }

    /// A descriptor of the cgroup2 folder in which the process is to be born, if there is that hierarchy.
    pub(super) fn birthplace(&self) -> Result<Option<OwnedFd>, Failure> {
        let cgroup = self.own.as_ref().or(self.everywhere.as_ref()).unwrap_or(self.container);
        cgroup.v2_dir_fd().step(|| format!("open cgroup {}", cgroup.path()))
    }

    /// Puts the calling process into the cgroups of v1 hierarchies.
    pub(super) fn join(&self) -> Result<(), Failure> {
        let base = self.everywhere.as_ref().unwrap_or(self.container);
        base.join_self().step(|| format!("join cgroup {}", base.path()))?;
        for (controller, cgroup) in &self.by_controller {
            cgroup.join_self_with(controller).step(|| format!("join cgroup {}", cgroup.path()))?;
        }
        let Some(own) = &self.own else { return Ok(()) };
        own.join_self_for_kill().step(|| format!("join cgroup {}", own.path()))
    }

    /// Undoes what [`Place::make`] and a birth have done.
    pub(super) fn abandon(&self, process: Option<&OwnedFd>, failure: Failure) -> Failure {
        if let Some(own) = &self.own {
            return abandon(own, process, failure);
        }
        if let Some(process) = process {
            end(process);
        }
        failure
    }
}

#[cfg(test)]
mod tests {
    use cleat_sys::cgroup::Layout;

    use super::*;
    use crate::Stdio;

    fn sub(controllers: &[&str], path: &str) -> SubCgroup {
        SubCgroup {
            controllers: controllers.iter().map(|name| (*name).to_owned()).collect(),
            path: path.into(),
        }
    }

    fn refusal(cgroups: &[SubCgroup]) -> Option<String> {
        let container = Cgroup::open(&Layout::detect().unwrap(), "/container").unwrap();
        let stdio = Stdio::Terminal { height: 1, width: 1 };
        let request = Exec { id: "e", process_json: "", stdio, preserve_fds: 0, cgroups };
        Place::new(&container, &request).err().map(|failure| failure.to_string())
    }

    #[test]
    fn named_cgroups_lie_beneath_the_containers_and_do_not_contradict_each_other() {
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&[sub(&[], "a/b")]), None);
        assert_eq!(refusal(&[sub(&[], "/")]), None);
        for bad in [
            &[sub(&[], "../other")][..],
            &[sub(&[], "a/../../other")],
            &[sub(&[], "a"), sub(&[], "b")],
            &[sub(&["no-such-controller"], "a")],
        ] {
            assert!(refusal(bad).is_some(), "{bad:?}");
        }
    }
}
