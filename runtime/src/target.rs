//! A running container as its monitor keeps it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cleat_sys::cgroup::{Cgroup, Layout};

use oci_spec::runtime::LinuxSeccomp;

use crate::agent::Container;
use crate::failure::Step;
use crate::resctrl::ResctrlGroups;
use crate::{Failure, HookState, birth, cgroups};

/// The longest id of an exec'd process, in bytes.
const MAX_EXEC_ID_BYTES: usize = 64;

/// What later requests on a container need; small, kept for the container's life.
#[derive(Debug)]
pub struct Target {
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Cgroup,
    /// A memory file with the container's seccomp filter, ready for the kernel; every exec'd process gets it too.
    pub(crate) seccomp: Option<OwnedFd>,
    /// Who it is, where its filter notifies an agent.
    pub(crate) known_as: Option<Container>,
    /// Whether its mount namespace is somebody else's, and its root not that namespace's.
    pub(crate) shares_mounts: bool,
    /// The resctrl groups that its processes are in.
    pub(crate) groups: ResctrlGroups,
}

impl Target {
    pub(crate) fn new(
        pidfd: &OwnedFd,
        layout: &Layout,
        cgroup: &str,
        seccomp: Option<OwnedFd>,
    ) -> Result<Self, Failure> {
        let pidfd = pidfd.try_clone().step(|| "copy init's pidfd")?;
        let cgroup = Cgroup::open(layout, cgroup).step(|| "open the container's cgroup")?;
        let groups = ResctrlGroups::default();
        Ok(Self { pidfd, cgroup, seccomp, known_as: None, shares_mounts: false, groups })
    }

    /// A container that another process created: its init, its cgroup, and the profile that exec'd processes get.
    pub fn reopen(init: &OwnedFd, cgroup: &Cgroup, profile: Option<&LinuxSeccomp>) -> Result<Self, Failure> {
        let filter = profile.map(birth::compile_filter).transpose()?;
        let kept = filter.as_ref().map(birth::keep_filter).transpose().step(|| "keep the seccomp filter")?;
        Self::new(init, cgroup.layout(), &cgroup.path(), kept)
    }

    /// With who the container is, for the seccomp agent that has to be told of each exec'd process; the state's status and
    /// process are of no account. Needed where [`Target::reopen`] got a profile with `listenerPath`.
    #[must_use]
    pub fn known_as(mut self, state: &HookState<'_>) -> Self {
        self.known_as = Some(Container {
            id: state.id.to_owned(),
            bundle: state.bundle.to_owned(),
            annotations: state.annotations.clone(),
        });
        self
    }

    /// Of a container that was created with a [`crate::SharedRoot`].
    #[must_use]
    pub fn sharing_mounts(mut self, is_sharing: bool) -> Self {
        self.shares_mounts = is_sharing;
        self
    }

    /// Of a container that was created in these resctrl groups.
    #[must_use]
    pub fn in_groups(mut self, groups: &ResctrlGroups) -> Self {
        self.groups = groups.clone();
        self
    }

    /// The resctrl groups that its processes are in.
    #[must_use]
    pub fn groups(&self) -> &ResctrlGroups {
        &self.groups
    }

    /// The container's cgroup in every hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// A descriptor of the container's init.
    #[must_use]
    pub fn init(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Kills every process of the container, exec'd ones included: needed after init's end when init had no pid
    /// namespace of its own. Returns when the kernel has been told, not when they are gone.
    pub fn kill_all(&self) -> Result<(), Failure> {
        if self.cgroup.layout().is_none() {
            // With init's pid namespace everything ends.
            let killed = cleat_sys::process::send_signal(&self.pidfd, rustix::process::Signal::KILL.as_raw());
            // ESRCH: it has ended.
            return killed.or_else(ignore_absence).step(|| "kill the container's init");
        }
        self.cgroup.kill().step(|| format!("kill cgroup {}", self.cgroup.path()))
    }

    /// Kills the exec'd process `id` and everything it started.
    pub fn kill_exec(&self, id: &str) -> Result<(), Failure> {
        let cgroup = exec_cgroup(&self.cgroup, id)?;
        cgroup.kill().step(|| format!("kill cgroup {}", cgroup.path()))
    }

    /// Removes the cgroup of the exec'd process `id`, after its end. What it left running in the background goes on, in
    /// the container's own cgroup. Absent is fine.
    pub fn remove_exec(&self, id: &str) -> Result<(), Failure> {
        let cgroup = exec_cgroup(&self.cgroup, id)?;
        cgroup.dissolve_for_kill().step(|| format!("remove cgroup {}", cgroup.path()))
    }

    /// Removes the container's cgroup with all its children, and its own resctrl groups, after the end of all its
    /// processes. Absent is fine.
    pub fn remove_cgroup(&self) -> Result<(), Failure> {
        let removed = cgroups::remove(&self.cgroup);
        removed.and(self.groups.remove())
    }
}

fn ignore_absence(error: io::Error) -> io::Result<()> {
    if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) { Ok(()) } else { Err(error) }
}

/// The cgroup of one exec'd process: a child of the container's, so that its whole tree can be killed.
pub(crate) fn exec_cgroup(container: &Cgroup, id: &str) -> Result<Cgroup, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    if id.is_empty() || id.len() > MAX_EXEC_ID_BYTES || !id.bytes().all(plain) {
        return Err(Failure::because(
            format!("check exec id {id:?}"),
            "it is not 1 to 64 characters of [A-Za-z0-9_-]",
        ));
    }
    container.child(&format!("exec-{id}")).step(|| format!("name the cgroup of exec {id}"))
}
