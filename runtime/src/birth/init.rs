//! A container's init, from its first breath to its program.

use std::os::fd::{AsFd, OwnedFd};

use cleat_sys::cgroup::Cgroup;
use cleat_sys::namespace;
use cleat_sys::process::exit_now;

use super::channel::{Channel, Report, shortened};
use super::gate::Gate;
use super::{start_session, streams};
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::spec::Plan;
use crate::{Create, Failure, process, rootfs};

/// What init is born with.
pub(super) struct Birth<'a> {
    pub(super) request: &'a Create<'a>,
    pub(super) plan: Plan,
    pub(super) filter: Option<Vec<u8>>,
    pub(super) cgroup: &'a Cgroup,
    /// An existing cgroup namespace to join.
    pub(super) namespaces: Option<OwnedFd>,
}

/// The exit code of an init that never executed its program.
const NOT_STARTED: i32 = 1;

/// Becomes the container's init and waits at the gate. Never returns.
pub(super) fn run(birth: Birth<'_>, gate: Gate, builder: Channel) -> ! {
    match prepare(birth, &builder) {
        Ok(prepared) => {
            drop(builder);
            gate.pass(prepared);
        }
        Err(failure) => {
            // A builder that is gone has nobody to tell.
            builder.send(&Report::Failed(shortened(failure)), &[]).ok();
        }
    }
    exit_now(NOT_STARTED)
}

/// Everything before the gate.
fn prepare(birth: Birth<'_>, builder: &Channel) -> Result<process::Prepared, Failure> {
    let Birth { request, plan, filter, cgroup, namespaces } = birth;
    enter_cgroups(&plan, cgroup, namespaces)?;
    let procfs = Procfs::open().step(|| "open /proc")?;
    let notes = process::limit(&plan.process, &procfs)?;
    set_names(&plan)?;
    set_sysctls(&plan, &procfs)?;
    let (tree, console) = rootfs::enter(&plan, &request.rootfs, cgroup)?;
    start_session(&request.stdio, console.as_ref())?;
    let streams = streams(&request.stdio, console.as_ref())?;
    let prepared = process::become_process(plan.process, &tree, streams, filter)?;
    let master = console.as_ref().map(|console| console.master.as_fd());
    builder.send(&Report::Ready { notes }, master.as_slice()).step(|| "report to the builder")?;
    Ok(prepared)
}

/// Joins the v1 hierarchies (init was born in the cgroup2 one); then their folders become the roots of a new cgroup
/// namespace.
fn enter_cgroups(plan: &Plan, cgroup: &Cgroup, existing: Option<OwnedFd>) -> Result<(), Failure> {
    cgroup.join_self().step(|| format!("join cgroup {}", cgroup.path()))?;
    if plan.namespaces.new_cgroup {
        namespace::unshare(namespace::CGROUP).step(|| "make a cgroup namespace")?;
    }
    match existing {
        Some(file) => namespace::join(&file, namespace::CGROUP).step(|| "join the cgroup namespace"),
        None => Ok(()),
    }
}

fn set_names(plan: &Plan) -> Result<(), Failure> {
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).step(|| format!("set hostname {name}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes()).step(|| format!("set domainname {name}"))?;
    }
    Ok(())
}

/// System controls act on the caller's namespaces, whichever procfs they are written through.
fn set_sysctls(plan: &Plan, procfs: &Procfs) -> Result<(), Failure> {
    plan.sysctls.iter().try_for_each(|(path, value)| {
        let file = std::path::Path::new("sys").join(path);
        procfs.write(&file, value).step(|| format!("set sysctl {} to {value}", path.display()))
    })
}
