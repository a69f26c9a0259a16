//! The forked child that makes a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::process::{Clone, Cloned, clone3};
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};

use super::channel::{Answer, Channel, shortened};
use super::gate::Gate;
use super::init::{self, Birth, LATE};
use super::mapping::{self, Owner};
use super::midwife::{self, Role};
use super::newborn::{Newborn, known_as};
use super::rootless::{self, make_cgroup_or_none};
use super::{Answered, check_terminal, compile_filter, give_pipes, keep_filter, read_json, tie_to_caller};
use crate::failure::Step;
use crate::network::Mover;
use crate::procfs::Procfs;
use crate::rootfs::{Materials, SharedRoot};
use crate::seccomp::Filter;
use crate::spec::{MountNamespace, Namespaces, Plan};
use crate::systemd::{self, Property, Scope};
use crate::{Create, Failure, ResctrlGroups, cgroups, resctrl, selinux};

/// Makes the container; its init waits at the gate.
pub(crate) fn create(request: &Create<'_>, layout: &Layout, caller: &Channel) -> Answered {
    let prepared = prepare(request, layout, caller).map_err(|failure| (shortened(failure), None))?;
    let Prepared { plan, filter, cgroup, scope, resctrl } = prepared;
    // The placeholder is held until init is in the scope.
    let (cgroup, _placeholder) = make_cgroup_or_none(&plan, cgroup, scope, request.options.rootless)
        .map_err(|failure| (shortened(failure), None))?;
    let newborn = cgroups::limit(&cgroup, &plan.resources)
        .and_then(|()| ResctrlGroups::make(plan.intel_rdt.as_ref(), resctrl.as_deref()))
        .map_err(|failure| (failure, None))
        .and_then(|groups| {
            give_birth_in(Places { cgroup: &cgroup, groups: &groups }, request, plan, filter, caller)
        });
    newborn.map_err(|(failure, init)| {
        let failure = abandon(&cgroup, init.as_ref(), failure);
        (shortened(failure), init)
    })
}

/// Where a container's processes are counted and limited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'a> {
    pub(super) cgroup: &'a Cgroup,
    pub(super) groups: &'a ResctrlGroups,
}

/// As [`give_birth`]; on failure the groups are removed: who is left in them goes back to the root's.
fn give_birth_in(
    places: Places<'_>,
    request: &Create<'_>,
    plan: Plan,
    filter: Option<Filter>,
    caller: &Channel,
) -> Answered {
    give_birth(request, plan, filter, places, caller).map_err(|(mut failure, init)| {
        if let Err(also) = places.groups.remove() {
            failure.reason = format!("{}; then also: {also}", failure.reason);
        }
        (failure, init)
    })
}

struct Prepared {
    plan: Plan,
    filter: Option<Filter>,
    cgroup: Cgroup,
    scope: ScopeWanted,
    /// Where resctrl groups are, if it is to be in one.
    resctrl: Option<PathBuf>,
}

/// The scope with its properties, when systemd makes the cgroup.
pub(crate) type ScopeWanted = Option<(Scope, Vec<Property>)>;

/// Everything that can be decided and refused before there is an effect.
fn prepare(request: &Create<'_>, layout: &Layout, caller: &Channel) -> Result<Prepared, Failure> {
    cleat_sys::signal::reset().step(|| "reset signals")?;
    let mut plan = read_plan(request.id, request.bundle, request.options.systemd_cgroup)?;
    if rootless::is_needed() {
        // Files of a hidden process are root's, and the mappings are written to some.
        rootless::enter(&mut plan, caller)?;
    }
    cleat_sys::process::become_undumpable().step(|| "hide from containers")?;
    check_terminal(&request.stdio, plan.process.terminal)?;
    check_labels(&plan)?;
    let filter = plan.seccomp.as_ref().map(compile_filter).transpose()?;
    let (cgroup, scope) = cgroup_of(&plan, layout)?;
    let resctrl = resctrl::root(plan.intel_rdt.as_ref())?;
    Ok(Prepared { plan, filter, cgroup, scope, resctrl })
}

/// The plan of the container whose `config.json` is in `bundle`.
pub(crate) fn read_plan(id: &str, bundle: &Path, systemd_cgroup: bool) -> Result<Plan, Failure> {
    let path = bundle.join("config.json");
    let spec: Spec = read_json(&path)?;
    let step = || format!("check {}", path.display());
    let mut plan = Plan::new(id, bundle, &spec).step(step)?;
    if systemd_cgroup {
        let named = spec.linux().as_ref().is_some_and(|linux| linux.cgroups_path().is_some());
        plan.require_systemd(id, named).step(step)?;
    }
    Ok(plan)
}

/// The plan's cgroup, and what systemd is told when it is to make it.
pub(crate) fn cgroup_of(plan: &Plan, layout: &Layout) -> Result<(Cgroup, ScopeWanted), Failure> {
    let cgroup = Cgroup::open(layout, &plan.cgroup_path).step(|| "check linux.cgroupsPath")?;
    let scope = Scope::of_path(&plan.cgroup_path);
    let scope = scope.map(|scope| Ok((scope, scope_properties(plan, &cgroup)?))).transpose()?;
    Ok((cgroup, scope))
}

fn check_labels(plan: &Plan) -> Result<(), Failure> {
    let (process, mounts) = (plan.process.selinux_label.as_ref(), plan.mount_label.as_ref());
    if process.or(mounts).is_none() {
        return Ok(());
    }
    let procfs = Procfs::open().step(|| "open /proc")?;
    selinux::require("process.selinuxLabel", process, &procfs)?;
    selinux::require("linux.mountLabel", mounts, &procfs)
}

fn scope_properties(plan: &Plan, cgroup: &Cgroup) -> Result<Vec<Property>, Failure> {
    let mut properties = cgroups::scope_properties(cgroup, &plan.resources)?;
    properties.extend(systemd::annotated(&plan.annotations).step(|| "read the annotations")?);
    Ok(properties)
}

/// Makes the container's cgroup, or has systemd make it.
pub(crate) fn make_cgroup(
    cgroup: &Cgroup,
    scope: ScopeWanted,
) -> Result<Option<systemd::Placeholder>, Failure> {
    let step = || format!("make cgroup {}", cgroup.path());
    let Some((scope, properties)) = scope else { return cgroup.create().map(|()| None).step(step) };
    cgroup.require_empty().step(step)?;
    let placeholder = systemd::start(cgroup.layout(), &scope, properties)?;
    // systemd makes it where it has use for it: not in every hierarchy of a v1 host.
    if let Err(failure) = cgroup.complete().step(step) {
        return Err(abandon(cgroup, None, failure));
    }
    Ok(Some(placeholder))
}

/// What init's birth takes that can be had before it.
struct Provisions {
    gate: Gate,
    /// The filter, for processes that are exec'd later.
    kept: Option<OwnedFd>,
    mover: Option<Mover>,
    owner: Option<Owner>,
    /// How mounts' owners are mapped, by the mounts' positions.
    owners: Vec<Option<OwnedFd>>,
    materials: Option<Materials>,
    shared_root: Option<SharedRoot>,
}

impl Provisions {
    fn make(
        request: &Create<'_>,
        plan: &Plan,
        filter: Option<&Filter>,
        caller: &Channel,
    ) -> Result<Self, Failure> {
        let gate = Gate::open(request.gate, caller)?;
        let kept = filter.map(keep_filter).transpose().step(|| "keep the seccomp filter")?;
        let mover = Mover::of(&plan.net_devices)?;
        let owner = Owner::of(plan.namespaces.user.as_ref())?;
        give_pipes(&request.stdio, &plan.process, owner.as_ref())?;
        let owners = mapping::make_all(&plan.mounts)?;
        let materials = take_materials(request, plan, owner.as_ref(), &owners)?;
        let shared_root = materials.as_ref().map(|materials| SharedRoot::of(plan, materials));
        let shared_root = shared_root.transpose()?.flatten();
        Ok(Self { gate, kept, mover, owner, owners, materials, shared_root })
    }
}

/// Clones init and waits until it is ready.
fn give_birth(
    request: &Create<'_>,
    plan: Plan,
    filter: Option<Filter>,
    places: Places<'_>,
    caller: &Channel,
) -> Answered {
    let cgroup = places.cgroup;
    let early = |failure| (failure, None);
    let provisions = Provisions::make(request, &plan, filter.as_ref(), caller).map_err(early)?;
    let Provisions { gate, kept, mover, owner, owners, materials, shared_root } = provisions;
    let (ours, theirs) = Channel::pair().step(|| "connect with init").map_err(early)?;
    let clone = || clone_init(&plan.namespaces, owner.as_ref(), cgroup, caller);
    let role = if owner.is_some() { midwife::deliver(caller, clone) } else { clone() };
    match role.map_err(early)? {
        Role::Init(namespaces) => {
            drop(ours);
            let confined = owner.is_some();
            let birth =
                Birth { request, plan, filter, places, namespaces, owners, materials, confined, caller };
            init::run(birth, gate, theirs)
        }
        Role::Midwife(builder) => {
            drop((ours, theirs, gate, materials));
            midwife::see_out(&builder)
        }
        Role::Builder { pid, pidfd } => {
            drop((theirs, materials));
            let notifying = filter.as_ref().filter(|filter| filter.notify());
            let newborn = Newborn {
                request,
                pid,
                init: &ours,
                caller,
                confined: owner.is_some(),
                filter: filter.as_ref(),
                mover: mover.as_ref(),
            };
            let (notes, console) = match newborn.raise(&plan) {
                Ok(ready) => ready,
                Err(failure) => {
                    let failure = unmount_after(&pidfd, shared_root.as_ref(), failure);
                    return Err((failure, Some(pidfd)));
                }
            };
            let answer = Answer::Born {
                pid,
                cgroup: cgroup.path(),
                has_cgroup: !cgroup.layout().is_none(),
                shared_root,
                later_hooks: plan.hooks.are_later,
                groups: places.groups.clone(),
                console: console.is_some(),
                filter: kept.is_some(),
                notes,
                known_as: notifying.map(|_| known_as(request, &plan)),
            };
            Ok((answer, [Some(pidfd), console, kept].into_iter().flatten().collect()))
        }
    }
}

/// What init may not take itself, in a user namespace, or what has to be known of after its end: none otherwise.
fn take_materials(
    request: &Create<'_>,
    plan: &Plan,
    owner: Option<&Owner>,
    owners: &[Option<OwnedFd>],
) -> Result<Option<Materials>, Failure> {
    match owner {
        Some(owner) => Materials::take_for(owner.tenant(), plan, &request.rootfs, owners).map(Some),
        None if plan.namespaces.mounts == MountNamespace::New => Ok(None),
        None => Materials::take(plan, &request.rootfs, owners).map(Some),
    }
}

/// Ends init and takes away what it has mounted where others live.
fn unmount_after(init: &OwnedFd, root: Option<&SharedRoot>, mut failure: Failure) -> Failure {
    let Some(root) = root else { return failure };
    end(init);
    if let Err(also) = crate::release_root(root) {
        failure.reason = format!("{}; then also: {also}", failure.reason);
    }
    failure
}

/// Namespaces that init joins itself.
#[derive(Debug)]
pub(super) struct Joined {
    /// Once it has joined its cgroups.
    pub(super) cgroup: Option<OwnedFd>,
    /// Once it needs nothing of the runtime's mount namespace any more.
    pub(super) mounts: Option<OwnedFd>,
}

/// Clones init into its new namespaces, from within those that it joins.
fn clone_init(
    namespaces: &Namespaces,
    owner: Option<&Owner>,
    cgroup: &Cgroup,
    caller: &Channel,
) -> Result<Role, Failure> {
    let folder = cgroup.v2_dir_fd().step(|| "open the container's cgroup")?;
    let joined = join_namespaces(namespaces)?;
    make_time_namespace(namespaces)?;
    if let Some(owner) = owner {
        let user = cleat_sys::namespace::join(&owner.namespace, cleat_sys::namespace::USER);
        user.step(|| format!("join user namespace {}", owner.name))?;
        // What a change of credentials may have undone.
        tie_to_caller(caller)?;
        cleat_sys::process::become_undumpable().step(|| "hide from containers")?;
    }
    // What belongs to whoever made it is left to init, once it is root there.
    let created = if owner.is_some() { namespaces.create & !LATE } else { namespaces.create };
    let how = Clone { namespaces: created, sibling: true, cgroup: folder.as_ref().map(OwnedFd::as_fd) };
    match clone3(&how).step(|| "clone init")? {
        Cloned::Child => Ok(Role::Init(joined)),
        Cloned::Parent { pid, pidfd } => Ok(Role::Builder { pid, pidfd }),
    }
}

/// Opens the namespaces to join; those that hold for children only after joining (pid) or that concern nobody else are
/// joined here, the others are left to init.
fn join_namespaces(namespaces: &Namespaces) -> Result<Joined, Failure> {
    let open = |path: &Path| {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        file.step(|| format!("join namespace {}", path.display()))
    };
    let mounts = match &namespaces.mounts {
        MountNamespace::At(path) => Some(open(path)?),
        MountNamespace::New | MountNamespace::Runtimes => None,
    };
    let mut cgroup = None;
    for (kind, path) in &namespaces.join {
        let file = open(path)?;
        if *kind == cleat_sys::namespace::CGROUP {
            cgroup = Some(file);
        } else {
            cleat_sys::namespace::join(&file, *kind).step(|| format!("join namespace {}", path.display()))?;
        }
    }
    Ok(Joined { cgroup, mounts })
}

/// A time namespace is for children, and its clocks are set before the first is born in it (time_namespaces(7)).
fn make_time_namespace(namespaces: &Namespaces) -> Result<(), Failure> {
    let Some(offsets) = &namespaces.new_time else { return Ok(()) };
    cleat_sys::namespace::unshare(cleat_sys::namespace::TIME).step(|| "make a time namespace")?;
    if offsets.is_empty() {
        return Ok(());
    }
    let step = || "set linux.timeOffsets";
    Procfs::open().and_then(|procfs| procfs.write("self/timens_offsets".as_ref(), offsets)).step(step)
}

/// Undoes a birth: ends the process, removes its cgroup. What cannot be undone is told along with the failure.
pub(crate) fn abandon(cgroup: &Cgroup, process: Option<&OwnedFd>, mut failure: Failure) -> Failure {
    if let Some(pidfd) = process {
        end(pidfd);
    }
    let killed = cgroup.kill().step(|| format!("kill cgroup {}", cgroup.path()));
    if let Err(also) = killed.and_then(|()| cgroups::remove(cgroup)) {
        failure.reason = format!("{}; then also: {also}", failure.reason);
    }
    failure
}

/// Kills a process and waits for its end.
pub(crate) fn end(pidfd: &OwnedFd) {
    let killed = cleat_sys::process::send_signal(pidfd, rustix::process::Signal::KILL.as_raw());
    // ESRCH: it has ended and was reaped.
    if killed.is_ok() {
        await_end(pidfd);
    }
}

/// Waits until the process behind `pidfd` has ended (it is somebody else's to reap).
fn await_end(pidfd: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    while poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
}
