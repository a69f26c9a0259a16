//! The forked child that starts one more process in a container, and that process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use cleat_sys::namespace;
use cleat_sys::process::{Clone, Cloned, clone3, exit_now};
use nix::sys::personality::Persona;
use rustix::process::{chroot, fchdir};
use rustix::thread::CpuSet;

use super::channel::{Answer, Channel, Received, Report, shortened};
use super::init::hand_over;
use super::mapping::Owner;
use super::newborn::await_report;
use super::place::Place;
use super::rootless;
use super::{
    Answered, check_terminal, give_pipes, given_up, kept_filter, start_session, streams, tie_to_caller,
};
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::seccomp::Filter;
use crate::spec::ProcessPlan;
use crate::{Exec, Failure, Target, agent, process, rootfs, selinux};

/// The exit code of a process that never executed its program.
const NOT_STARTED: i32 = 1;

/// Namespaces of init that the process joins itself. The builder joins the pid namespace alone, for its children: it
/// stays on the host otherwise, where it can undo what it did. The time namespace comes with them, where the kernel has
/// any.
const JOINED: u64 =
    namespace::MOUNT | namespace::NETWORK | namespace::IPC | namespace::UTS | namespace::CGROUP;

/// Starts the process. It has executed its program when this succeeds.
pub(crate) fn exec(target: &Target, request: &Exec<'_>, caller: &Channel) -> Answered {
    let early = |failure| (shortened(failure), None);
    let prepared = prepare(target, request).map_err(early)?;
    let place = Place::new(target.cgroup(), request).map_err(early)?;
    place.make().map_err(early)?;
    give_birth(target, request, prepared, &place, caller).map_err(|(failure, orphan)| {
        let failure = place.abandon(orphan.as_ref(), failure);
        (shortened(failure), orphan)
    })
}

struct Prepared {
    plan: ProcessPlan,
    filter: Option<Filter>,
    procfs: Procfs,
    /// Init's, which is the container's.
    persona: Persona,
    /// The container's user namespace, if it is not ours.
    owner: Option<Owner>,
    /// Whether the builder enters that itself: else it could not join what belongs to it.
    enters_early: bool,
    /// Kinds of namespaces that the process joins.
    joined: u64,
    /// Init's root, where that is not its mount namespace's.
    root: Option<OwnedFd>,
}

/// Everything that can be decided, and opened on the host, before there is an effect.
fn prepare(target: &Target, request: &Exec<'_>) -> Result<Prepared, Failure> {
    cleat_sys::process::become_undumpable().step(|| "hide from the container")?;
    cleat_sys::signal::reset().step(|| "reset signals")?;
    let specified = serde_json::from_str(request.process_json).step(|| "read process")?;
    let mut plan = ProcessPlan::new(&specified).step(|| "check process")?;
    check_terminal(&request.stdio, plan.terminal)?;
    let filter = target.seccomp.as_ref().map(kept_filter).transpose().step(|| "read the seccomp filter")?;
    let procfs = Procfs::open().step(|| "open /proc")?;
    selinux::require("process.selinuxLabel", plan.selinux_label.as_ref(), &procfs)?;
    let init = pid_of(&procfs, &target.pidfd).step(|| "look for init")?;
    let owner = Owner::of_process(init)?;
    let enters_early = owner.is_some() && rootless::is_needed();
    if let Some(owner) = owner.as_ref().filter(|_| enters_early) {
        plan.has_fixed_groups = owner.has_fixed_groups()?;
    }
    // Who is nobody outside may not join what is the host's, though it is in there already.
    let time = if procfs.has("self/ns/time") { namespace::TIME } else { 0 };
    let mut joined = JOINED | time;
    if enters_early {
        joined &= rootless::not_shared_with(&procfs, init)?;
    }
    let persona = persona_of(&procfs, init).step(|| "look at init's personality")?;
    give_pipes(&request.stdio, &plan, owner.as_ref())?;
    let path = target.shares_mounts.then(|| PathBuf::from(format!("{init}/root")));
    let root = path.map(|path| procfs.open_link(&path)).transpose().step(|| "open init's root")?;
    Ok(Prepared { plan, filter, procfs, persona, owner, enters_early, joined, root })
}

/// The number of the process behind a pidfd. `ESRCH` when it has ended and was reaped.
fn pid_of(procfs: &Procfs, pidfd: &OwnedFd) -> io::Result<i32> {
    let text = procfs.read(&format!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    number.filter(|pid| *pid > 0).ok_or_else(|| rustix::io::Errno::SRCH.into())
}

fn persona_of(procfs: &Procfs, pid: i32) -> io::Result<Persona> {
    let text = procfs.read(&format!("{pid}/personality"))?;
    i32::from_str_radix(text.trim(), 16).map(Persona::from_bits_retain).map_err(io::Error::other)
}

fn give_birth(
    target: &Target,
    request: &Exec<'_>,
    prepared: Prepared,
    place: &Place<'_>,
    caller: &Channel,
) -> Answered {
    let early = |failure| (failure, None);
    let folder = place.birthplace().map_err(early)?;
    join_before_birth(target, &prepared, caller).map_err(early)?;
    let (ours, theirs) = Channel::pair().step(|| "connect with the process").map_err(early)?;
    let how = Clone { namespaces: 0, sibling: true, cgroup: folder.as_ref().map(OwnedFd::as_fd) };
    match clone3(&how).step(|| "clone the process").map_err(early)? {
        Cloned::Child => {
            drop(ours);
            let joined = tie_to_caller(caller).and_then(|()| join(target, place, &prepared));
            run(joined, request, prepared, &theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let tell = |listener: &OwnedFd| tell_agent(target, listener, pid);
            let console = match await_program(&ours, caller, tell) {
                Ok(console) => console,
                Err(failure) => return Err((failure, Some(pidfd))),
            };
            let answer = Answer::born(pid, String::new(), console.is_some());
            Ok((answer, [Some(pidfd), console].into_iter().flatten().collect()))
        }
    }
}

/// Joins what holds for children only; and the user namespace that owns it, for a builder who is nobody outside.
fn join_before_birth(target: &Target, prepared: &Prepared, caller: &Channel) -> Result<(), Failure> {
    let join = |kinds| namespace::join(&target.pidfd, kinds);
    match prepared.owner.as_ref().filter(|_| prepared.enters_early) {
        None => join(namespace::PID).step(|| "join the container's pid namespace"),
        Some(owner) => {
            let kinds = namespace::USER | namespace::PID;
            rootless::become_owner(owner, kinds, prepared.plan.has_fixed_groups, join)?;
            tie_to_caller(caller)
        }
    }
}

fn tell_agent(target: &Target, listener: &OwnedFd, pid: i32) -> Result<(), Failure> {
    let step = || "hand over the seccomp listener";
    let filter = target.seccomp.as_ref().map(kept_filter).transpose().step(step)?;
    match (filter, &target.known_as) {
        (Some(filter), Some(container)) => agent::tell(&filter, listener, container, "running", pid),
        _ => Err(Failure::because(step(), "it is not known which container the agent is to be told of")),
    }
}

/// Waits until the process has executed its program: its report, then the end of its side.
fn await_program(
    from: &Channel,
    caller: &Channel,
    tell_agent: impl Fn(&OwnedFd) -> Result<(), Failure>,
) -> Result<Option<OwnedFd>, Failure> {
    let (_, console) = await_report(from, caller, "the process", tell_agent)?;
    if !from.wait_for(caller).step(|| "wait for the process")? {
        return Err(given_up());
    }
    match from.receive().step(|| "hear from the process")? {
        Received::Closed => Ok(console),
        Received::Message(Report::Failed(failure), _) => Err(failure),
        Received::Message(..) => Err(Failure::because("hear from the process", "it reported twice")),
    }
}

/// Becomes the process, in the container or with the reason why it could not be joined. Never returns.
fn run(joined: Result<Vec<String>, Failure>, request: &Exec<'_>, prepared: Prepared, builder: &Channel) -> ! {
    let failure = match joined.and_then(|notes| become_process(request, prepared, notes, builder)) {
        Ok(prepared) => process::execute(prepared),
        Err(failure) => failure,
    };
    // A builder that is gone has nobody to tell.
    builder.send(&Report::Failed(shortened(failure)), &[]).ok();
    exit_now(NOT_STARTED)
}

/// Sets limits, where our capabilities reach everything, and joins the container: its v1 cgroups (the process was born in
/// a cgroup2 one), then its namespaces, which take the cgroups' paths out of reach. Gives notes on the limits.
fn join(target: &Target, place: &Place<'_>, prepared: &Prepared) -> Result<Vec<String>, Failure> {
    let Prepared { plan, procfs, owner, enters_early, joined, persona, root, .. } = prepared;
    set_cpus(plan.exec_cpus.initial.as_ref())?;
    place.join()?;
    target.groups().join_self()?;
    set_cpus(plan.exec_cpus.last.as_ref())?;
    process::set_execution_domain(Some(*persona))?;
    let notes = process::limit(plan, procfs, None)?;
    process::set_profile(plan, procfs)?;
    let user = if owner.is_some() && !enters_early { namespace::USER } else { 0 };
    namespace::join(&target.pidfd, joined | user).step(|| "join the container's namespaces")?;
    if let Some(root) = root {
        fchdir(root).and_then(|()| chroot(".")).step(|| "enter init's root")?;
    }
    if owner.is_some() {
        process::become_root(plan.has_fixed_groups)?;
    }
    Ok(notes)
}

fn set_cpus(cpus: Option<&CpuSet>) -> Result<(), Failure> {
    let Some(cpus) = cpus else { return Ok(()) };
    rustix::thread::sched_setaffinity(None, cpus).step(|| "set process.execCPUAffinity")
}

/// Keeps the error number back: callers take an ENOENT of an exec for a missing program, which has an exit code of its own.
fn without_number(failure: Failure) -> Failure {
    Failure { errno: None, ..failure }
}

fn become_process(
    request: &Exec<'_>,
    prepared: Prepared,
    notes: Vec<String>,
    builder: &Channel,
) -> Result<process::Prepared, Failure> {
    let Prepared { plan, filter, .. } = prepared;
    let tree = rootfs::own_root()?;
    let console = if plan.terminal { Some(rootfs::open_console(&tree, &plan)?) } else { None };
    let cwd = &plan.cwd;
    // Beneath the root and by no link of /proc: a descriptor could lead anywhere (CVE-2024-21626).
    tree.find(cwd)
        .step(|| format!("look for the working folder {}", cwd.display()))
        .map_err(without_number)?;
    start_session(&request.stdio, console.as_ref())?;
    cleat_sys::keyring::start_session().step(|| "start a session keyring")?;
    let streams = streams(&request.stdio, console.as_ref(), &tree, request.preserve_fds)?;
    let master = console.as_ref().map(|console| console.master.as_fd());
    let hand_over = |listener: OwnedFd| hand_over(builder, &listener);
    let inherited = process::Inherited { streams, more: request.preserve_fds };
    let ready = process::become_process(plan, &tree, inherited, filter, hand_over)?;
    builder.send(&Report::Ready { notes }, master.as_slice()).step(|| "report to the builder")?;
    Ok(ready)
}
