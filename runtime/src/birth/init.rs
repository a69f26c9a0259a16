//! A container's init, from its first breath to its program.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cleat_sys::cgroup::Cgroup;
use cleat_sys::namespace;
use cleat_sys::process::exit_now;

use super::builder::{Joined, Places};
use super::channel::{Channel, Received, Report, shortened};
use super::gate::{Gate, Go};
use super::newborn::Provided;
use super::{start_session, streams, tie_to_caller};
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::seccomp::Filter;
use crate::spec::{Hooks, Plan};
use crate::{Create, Failure, HookState, hooks, network, process, rootfs};

/// What init is born with.
pub(super) struct Birth<'a> {
    pub(super) request: &'a Create<'a>,
    pub(super) plan: Plan,
    pub(super) filter: Option<Filter>,
    pub(super) places: Places<'a>,
    /// Existing namespaces to join.
    pub(super) namespaces: Joined,
    /// How mounts' owners are mapped, by the mounts' positions.
    pub(super) owners: Vec<Option<OwnedFd>>,
    /// What the builder took for it; none when it takes all of it itself.
    pub(super) materials: Option<rootfs::Materials>,
    /// Whether it has a user namespace of its own.
    pub(super) confined: bool,
    /// Whose end is init's until it is ready.
    pub(super) caller: &'a Channel,
}

/// Kinds of namespaces that init makes itself in a user namespace, as its root: the files of an IPC namespace's message
/// queues belong to who made it.
pub(super) const LATE: u64 = namespace::IPC;

/// The exit code of an init that never executed its program.
const NOT_STARTED: i32 = 1;

/// Becomes the container's init and waits at the gate. Never returns.
pub(super) fn run(birth: Birth<'_>, gate: Gate, builder: Channel) -> ! {
    match prepare(birth, &builder) {
        Ok((prepared, story)) => {
            drop(builder);
            gate.pass(prepared, || story.run_start_hooks());
        }
        Err(failure) => {
            // A builder that is gone has nobody to tell.
            builder.send(&Report::Failed(shortened(failure)), &[]).ok();
        }
    }
    exit_now(NOT_STARTED)
}

/// Everything before the gate.
fn prepare<'a>(birth: Birth<'a>, builder: &Channel) -> Result<(process::Prepared, Story<'a>), Failure> {
    let Birth { request, mut plan, filter, places, namespaces, owners, materials, confined, caller } = birth;
    tie_to_caller(caller)?;
    let story = Story::take(request, &mut plan);
    let procfs = Procfs::open().step(|| "open /proc")?;
    let mut notes = Vec::new();
    // Limits of a confined init are the builder's to set.
    if !confined {
        notes = process::limit(&plan.process, &procfs, None)?;
    }
    set_up_network(&plan, confined, builder)?;
    // Cgroups belong to the host's root, whom init still is.
    let Joined { cgroup: cgroup_namespace, mounts: namespace } = namespaces;
    places.groups.join_self()?;
    enter_cgroups(&plan, places.cgroup, cgroup_namespace)?;
    if confined {
        process::become_root(false)?;
        namespace::unshare(plan.namespaces.create & LATE).step(|| "make the late namespaces")?;
    }
    process::set_execution_domain(plan.personality)?;
    if let Some(policy) = &plan.memory_policy {
        policy.apply().step(|| "set linux.memoryPolicy")?;
    }
    set_names(&plan)?;
    set_sysctls(&plan, &procfs)?;
    let no_pivot = request.options.no_pivot;
    let supplies = rootfs::Supplies { cgroup: places.cgroup, owners, materials, namespace, no_pivot };
    let (tree, console) =
        rootfs::enter(&plan, &request.rootfs, supplies, || story.run_create_hooks(builder))?;
    start_session(&request.stdio, console.as_ref())?;
    // Hooks are no programs of the container: those that were run until here are not confined as these are.
    process::set_profile(&plan.process, &procfs)?;
    if !request.options.keep_keyring {
        cleat_sys::keyring::start_session().step(|| "start a session keyring")?;
    }
    let more = request.options.inherited();
    if request.options.listen_fds > 0 {
        plan.process.tell_of_sockets(request.options.listen_fds, rustix::process::getpid());
    }
    let inherited =
        process::Inherited { streams: streams(&request.stdio, console.as_ref(), &tree, more)?, more };
    let hand_over = |listener: OwnedFd| hand_over(builder, &listener);
    let prepared = process::become_process(plan.process, &tree, inherited, filter, hand_over)?;
    let master = console.as_ref().map(|console| console.master.as_fd());
    builder.send(&Report::Ready { notes }, master.as_slice()).step(|| "report to the builder")?;
    Ok((prepared, story))
}

/// Gives the builder the listener of a filter that has just been loaded: from now on any call may wait for an agent.
pub(super) fn hand_over(builder: &Channel, listener: &OwnedFd) -> Result<(), Failure> {
    builder.send(&Report::Listener, &[listener.as_fd()]).step(|| "hand over the seccomp listener")
}

/// Turns on the loopback device of a new network namespace and takes in the planned devices. Waits for the builder, who
/// provides these, and to a confined init what its own capabilities do not reach.
fn set_up_network(plan: &Plan, is_confined: bool, builder: &Channel) -> Result<(), Failure> {
    if plan.namespaces.create & namespace::NETWORK != 0 {
        network::raise_loopback()?;
    }
    let has_devices = !plan.net_devices.is_empty();
    let step = || "wait for what the runtime's child provides";
    if has_devices {
        network::check_names(&plan.net_devices)?;
        builder.send(&Report::Devices, &[]).step(step)?;
    }
    if !has_devices && !is_confined {
        return Ok(());
    }
    match builder.receive::<Provided>().step(step)? {
        Received::Message(Provided { devices }, _) if has_devices => network::settle(&devices),
        Received::Message(..) => Ok(()),
        Received::Closed => Err(Failure::because(step(), "it has ended")),
    }
}

/// What init's hooks need.
struct Story<'a> {
    id: &'a str,
    bundle: &'a Path,
    hooks: Hooks,
    annotations: BTreeMap<String, String>,
}

impl<'a> Story<'a> {
    fn take(request: &Create<'a>, plan: &mut Plan) -> Self {
        let (hooks, annotations) = (std::mem::take(&mut plan.hooks), std::mem::take(&mut plan.annotations));
        Self { id: request.id, bundle: request.bundle, hooks, annotations }
    }

    /// Has the builder run its hooks, which know the namespaces now, then runs those of the container's namespaces.
    fn run_create_hooks(&self, builder: &Channel) -> Result<(), Failure> {
        let step = || "wait for the runtime's hooks";
        if !self.hooks.create_runtime.is_empty() {
            builder.send(&Report::Hooks, &[]).step(step)?;
            if let Received::Closed = builder.receive::<Go>().step(step)? {
                return Err(Failure::because(step(), "the runtime's child has ended"));
            }
        }
        hooks::run("createContainer", &self.hooks.create_container, &self.state("creating"), None)
    }

    fn run_start_hooks(&self) -> Result<(), Failure> {
        hooks::run("startContainer", &self.hooks.start_container, &self.state("created"), None)
    }

    fn state<'b>(&'b self, status: &'b str) -> HookState<'b> {
        HookState {
            oci_version: crate::OCI_VERSION,
            id: self.id,
            status,
            pid: rustix::process::getpid().as_raw_nonzero().get().into(),
            bundle: self.bundle,
            annotations: &self.annotations,
        }
    }
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
