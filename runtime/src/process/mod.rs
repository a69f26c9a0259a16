//! Becoming the process: limits, identity, privileges, then the program. The same for init and for exec'd processes.
//!
//! The order is what the kernel's rules leave: what needs privileges first, then the identity, then the filter (last of
//! all where no_new_privs allows that), then the program.

mod capabilities;
mod identity;
mod limits;
mod program;

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::personality::Persona;
use rustix::fs::Mode;
use rustix::process::Pid;

pub(crate) use identity::{become_root, work_as};
pub(crate) use program::execute;

use crate::Failure;
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::rootfs::Tree;
use crate::seccomp::Filter;
use crate::selinux;
use crate::spec::ProcessPlan;

/// A process that has nothing left to do but to load a late filter and to execute its program.
pub(crate) struct Prepared {
    /// Where the program is, or why it cannot be found: told when the program is executed.
    pub(crate) program: Result<CString, Failure>,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// Loaded just before the program.
    pub(crate) late_filter: Option<Filter>,
}

/// Sets limits and priorities of the process `of`, or of the caller: what needs the host's procfs and capabilities that
/// reach beyond a user namespace. Gives notes on what could not be set as asked.
pub(crate) fn limit(plan: &ProcessPlan, procfs: &Procfs, of: Option<Pid>) -> Result<Vec<String>, Failure> {
    let mut notes = Vec::new();
    limits::adjust_oom_score(plan, procfs, of, &mut notes)?;
    limits::set_priorities(plan, of)?;
    limits::set_rlimits(plan, of, &mut notes)?;
    Ok(notes)
}

/// Sets the execution domain (personality(2)), if one is wanted.
pub(crate) fn set_execution_domain(wanted: Option<Persona>) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    nix::sys::personality::set(wanted).map(drop).step(|| "set linux.personality")
}

/// Sets the AppArmor profile or the SELinux label that the program will have.
pub(crate) fn set_profile(plan: &ProcessPlan, procfs: &Procfs) -> Result<(), Failure> {
    selinux::label_program(plan.selinux_label.as_ref(), procfs)?;
    let Some(profile) = &plan.apparmor_profile else { return Ok(()) };
    let step = || format!("set AppArmor profile {profile}");
    procfs.write(Path::new("thread-self/attr/apparmor/exec"), &format!("exec {profile}")).step(step)
}

/// What the program inherits.
pub(crate) struct Inherited {
    /// Its standard streams.
    pub(crate) streams: [OwnedFd; 3],
    /// How many of the caller's descriptors from 3 on besides.
    pub(crate) more: u32,
}

/// Takes on the process's identity; afterwards nothing but its program is left. `hand_over` gets the listener of a filter
/// that notifies.
pub(crate) fn become_process(
    plan: ProcessPlan,
    tree: &Tree,
    inherited: Inherited,
    filter: Option<Filter>,
    hand_over: impl Fn(OwnedFd) -> Result<(), Failure>,
) -> Result<Prepared, Failure> {
    let environment = identity::environment(&plan, tree)?;
    for (number, stream) in (0..).zip(&inherited.streams) {
        cleat_sys::descriptors::make_standard_stream(stream, number)
            .step(|| format!("set up stream {number}"))?;
    }
    cleat_sys::descriptors::close_on_exec_from(inherited.more.saturating_add(3))
        .step(|| "close what the container must not inherit")?;
    if let Some(umask) = plan.umask {
        rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
    }
    let entered = rustix::process::chdir(&plan.cwd);
    capabilities::drop_bounding(&plan).step(|| "drop capabilities from the bounding set")?;
    identity::change(&plan)?;
    // A folder may be open to the user alone, or to root alone.
    entered
        .or_else(|_| rustix::process::chdir(&plan.cwd))
        .step(|| format!("enter {}", plan.cwd.display()))?;
    check_cwd().step(|| format!("enter {}", plan.cwd.display()))?;
    let (early, mut late) = if plan.no_new_privileges { (None, filter) } else { (filter, None) };
    if let Some(filter) = &early {
        // Without no_new_privs the filter needs CAP_SYS_ADMIN, which is about to go.
        capabilities::raise_all().step(|| "raise capabilities for the seccomp filter")?;
        // The filter may forbid it later.
        untie()?;
        enforce(filter, &hand_over)?;
    }
    capabilities::set(&plan).step(|| "set capabilities")?;
    if plan.no_new_privileges {
        rustix::thread::set_no_new_privs(true).step(|| "set no_new_privs")?;
    }
    let program = program::find(&plan);
    if early.is_none() {
        untie()?;
    }
    // The builder that hands it on is gone when the program is executed.
    if let Some(filter) = late.take_if(|filter| filter.notify()) {
        enforce(&filter, &hand_over)?;
    }
    Ok(Prepared { program, arguments: plan.arguments, environment, late_filter: late })
}

/// Lets the process live on without its caller: it is ready, and its program would inherit the tie.
fn untie() -> Result<(), Failure> {
    cleat_sys::process::outlive_parent().step(|| "untie the process from its caller")
}

/// Loads a filter and hands its listener over at once: what follows may wait for the agent.
fn enforce(filter: &Filter, hand_over: impl Fn(OwnedFd) -> Result<(), Failure>) -> Result<(), Failure> {
    load_filter(filter)?.map_or(Ok(()), hand_over)
}

/// Loads a filter for everything that follows; gives its listener, if it notifies.
pub(crate) fn load_filter(filter: &Filter) -> Result<Option<OwnedFd>, Failure> {
    cleat_sys::seccomp::load(&filter.to_bytes(), filter.flags).step(|| "load the seccomp filter")
}

/// A folder outside the container's root, reached by a leaked descriptor, has no path in it (CVE-2024-21626).
fn check_cwd() -> std::io::Result<()> {
    let cwd = rustix::process::getcwd(Vec::new())?;
    if cwd.as_bytes().first() != Some(&b'/') {
        return Err(std::io::Error::other("it is outside the container's root"));
    }
    Ok(())
}
