//! The forked child that makes a container.

use std::os::fd::{AsFd, OwnedFd};

use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::process::{Clone, Cloned, clone3};
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};

use super::channel::{Answer, Channel, Received, Report, shortened};
use super::gate::{GO, Gate};
use super::{Answered, check_terminal, compile_filter, given_up, init, keep_filter, mapping, read_json};
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::seccomp::Filter;
use crate::spec::{Namespaces, Plan};
use crate::systemd::{self, Property, Scope};
use crate::{Create, Failure, HookState, cgroups, hooks};

/// Makes the container; its init waits at the gate.
pub(crate) fn create(request: &Create<'_>, caller: &Channel) -> Answered {
    let prepared = prepare(request).map_err(|failure| (shortened(failure), None))?;
    let Prepared { plan, filter, cgroup, scope } = prepared;
    // Held until init is in the scope.
    let _placeholder = make_cgroup(&cgroup, scope).map_err(|failure| (shortened(failure), None))?;
    let newborn = cgroups::limit(&cgroup, &plan.resources)
        .map_err(|failure| (failure, None))
        .and_then(|()| give_birth(request, plan, filter, &cgroup, caller));
    newborn.map_err(|(failure, init)| {
        let failure = abandon(&cgroup, init.as_ref(), failure);
        (shortened(failure), init)
    })
}

struct Prepared {
    plan: Plan,
    filter: Option<Filter>,
    cgroup: Cgroup,
    /// With its properties, when systemd makes the cgroup.
    scope: Option<(Scope, Vec<Property>)>,
}

/// Everything that can be decided and refused before there is an effect.
fn prepare(request: &Create<'_>) -> Result<Prepared, Failure> {
    cleat_sys::process::become_undumpable().step(|| "hide from containers")?;
    cleat_sys::signal::reset().step(|| "reset signals")?;
    let path = request.bundle.join("config.json");
    let spec: Spec = read_json(&path)?;
    let step = || format!("check {}", path.display());
    let mut plan = Plan::new(request.id, request.bundle, &spec).step(step)?;
    if request.options.systemd_cgroup {
        let named = spec.linux().as_ref().is_some_and(|linux| linux.cgroups_path().is_some());
        plan.require_systemd(request.id, named).step(step)?;
    }
    check_terminal(&request.stdio, plan.process.terminal)?;
    let filter = plan.seccomp.as_ref().map(compile_filter).transpose()?;
    let layout = Layout::detect().step(|| "look at the host's cgroups")?;
    let cgroup = Cgroup::open(&layout, &plan.cgroup_path).step(|| "check linux.cgroupsPath")?;
    let scope = Scope::of_path(&plan.cgroup_path);
    let scope = scope.map(|scope| Ok((scope, scope_properties(&plan, &cgroup)?))).transpose()?;
    Ok(Prepared { plan, filter, cgroup, scope })
}

fn scope_properties(plan: &Plan, cgroup: &Cgroup) -> Result<Vec<Property>, Failure> {
    let mut properties = cgroups::scope_properties(cgroup, &plan.resources)?;
    properties.extend(systemd::annotated(&plan.annotations).step(|| "read the annotations")?);
    Ok(properties)
}

/// Makes the container's cgroup, or has systemd make it.
fn make_cgroup(
    cgroup: &Cgroup,
    scope: Option<(Scope, Vec<Property>)>,
) -> Result<Option<systemd::Placeholder>, Failure> {
    let step = || format!("make cgroup {}", cgroup.path());
    let Some((scope, properties)) = scope else { return cgroup.create().map(|()| None).step(step) };
    cgroup.require_empty().step(step)?;
    let placeholder = systemd::start(&scope, properties)?;
    // systemd makes it where it has use for it: not in every hierarchy of a v1 host.
    if let Err(failure) = cgroup.complete().step(step) {
        return Err(abandon(cgroup, None, failure));
    }
    Ok(Some(placeholder))
}

/// Clones init and waits until it is ready.
fn give_birth(
    request: &Create<'_>,
    plan: Plan,
    filter: Option<Filter>,
    cgroup: &Cgroup,
    caller: &Channel,
) -> Answered {
    let early = |failure| (failure, None);
    let gate = Gate::open(request.gate, caller).map_err(early)?;
    let kept =
        filter.as_ref().map(keep_filter).transpose().step(|| "keep the seccomp filter").map_err(early)?;
    let owners = mapping::make_all(&plan.mounts).map_err(early)?;
    let namespaces = join_namespaces(&plan.namespaces).map_err(early)?;
    make_time_namespace(&plan.namespaces).map_err(early)?;
    let folder = cgroup.v2_dir_fd().step(|| "open the container's cgroup").map_err(early)?;
    let (ours, theirs) = Channel::pair().step(|| "connect with init").map_err(early)?;
    let how = Clone {
        namespaces: plan.namespaces.create,
        sibling: true,
        cgroup: folder.as_ref().map(OwnedFd::as_fd),
    };
    match clone3(&how).step(|| "clone init").map_err(early)? {
        Cloned::Child => {
            drop(ours);
            init::run(init::Birth { request, plan, filter, cgroup, namespaces, owners, caller }, gate, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let hooked = run_hooks(request, &plan, pid, &ours, caller);
            let (notes, console) = match hooked.and_then(|()| await_report(&ours, caller, "init")) {
                Ok(ready) => ready,
                Err(failure) => return Err((failure, Some(pidfd))),
            };
            let answer = Answer::Born {
                pid,
                cgroup: cgroup.path(),
                console: console.is_some(),
                filter: kept.is_some(),
                notes,
            };
            Ok((answer, [Some(pidfd), console, kept].into_iter().flatten().collect()))
        }
    }
}

/// Opens the namespaces to join; those that hold for children only after joining (pid) or that concern nobody else are
/// joined here, the cgroup namespace is left to init, which first joins its cgroups.
fn join_namespaces(namespaces: &Namespaces) -> Result<Option<OwnedFd>, Failure> {
    let mut cgroup = None;
    for (kind, path) in &namespaces.join {
        let step = || format!("join namespace {}", path.display());
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).step(step)?;
        if *kind == cleat_sys::namespace::CGROUP {
            cgroup = Some(file);
        } else {
            cleat_sys::namespace::join(&file, *kind).step(step)?;
        }
    }
    Ok(cgroup)
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

/// Runs the hooks of the runtime's namespaces once the container's are made; init waits meanwhile.
fn run_hooks(
    request: &Create<'_>,
    plan: &Plan,
    pid: i32,
    init: &Channel,
    caller: &Channel,
) -> Result<(), Failure> {
    if plan.hooks.create_runtime.is_empty() {
        return Ok(());
    }
    if !init.wait_for(caller).step(|| "wait for init")? {
        return Err(given_up());
    }
    match init.receive().step(|| "hear from init")? {
        Received::Message(Report::Hooks, _) => {}
        Received::Message(Report::Failed(failure), _) => return Err(failure),
        Received::Message(Report::Ready { .. }, _) | Received::Closed => {
            return Err(Failure::because("hear from init", "it did not wait for its hooks"));
        }
    }
    leave_namespaces(&plan.namespaces)?;
    let state = HookState {
        oci_version: crate::OCI_VERSION,
        id: request.id,
        status: "creating",
        pid: Some(pid),
        bundle: request.bundle,
        annotations: &plan.annotations,
    };
    hooks::run("createRuntime", &plan.hooks.create_runtime, &state, Some(caller.end()))?;
    init.send(&GO, &[]).step(|| "let init go on")
}

/// Goes back to the caller's namespaces, the runtime's, from those that were made or joined for init's sake.
fn leave_namespaces(namespaces: &Namespaces) -> Result<(), Failure> {
    let changed = namespaces.builders();
    if changed == 0 {
        return Ok(());
    }
    let step = || "go back to the caller's namespaces";
    let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let parent = cleat_sys::process::open_pidfd(parent).step(step)?;
    cleat_sys::namespace::join(&parent, changed).step(step)
}

/// Waits for the new process: its notes and the master of its terminal.
pub(super) fn await_report(
    from: &Channel,
    caller: &Channel,
    who: &str,
) -> Result<(Vec<String>, Option<OwnedFd>), Failure> {
    if !from.wait_for(caller).step(|| format!("wait for {who}"))? {
        return Err(given_up());
    }
    let received = from.receive().step(|| format!("hear from {who}"))?;
    match received {
        Received::Message(Report::Ready { notes }, descriptors) => {
            Ok((notes, descriptors.into_iter().next()))
        }
        Received::Message(Report::Failed(failure), _) => Err(failure),
        Received::Message(Report::Hooks, _) => {
            Err(Failure::because(format!("hear from {who}"), "it waits for hooks that there are not"))
        }
        Received::Closed => Err(Failure::because(format!("hear from {who}"), "it ended without a word")),
    }
}

/// Undoes a birth: ends the process, removes its cgroup. What cannot be undone is told along with the failure.
pub(super) fn abandon(cgroup: &Cgroup, process: Option<&OwnedFd>, mut failure: Failure) -> Failure {
    if let Some(pidfd) = process {
        let killed = cleat_sys::process::send_signal(pidfd, rustix::process::Signal::KILL.as_raw());
        // ESRCH: it has ended and was reaped.
        if killed.is_ok() {
            await_end(pidfd);
        }
    }
    let killed = cgroup.kill().step(|| format!("kill cgroup {}", cgroup.path()));
    if let Err(also) = killed.and_then(|()| cgroups::remove(cgroup)) {
        failure.reason = format!("{}; then also: {also}", failure.reason);
    }
    failure
}

/// Waits until the process behind `pidfd` has ended (it is somebody else's to reap).
fn await_end(pidfd: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    while poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
}
