//! The forked child that makes a container.

use std::os::fd::{AsFd, OwnedFd};

use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::process::{Clone, Cloned, clone3};
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags};

use super::channel::{Answer, Channel, Received, Report, shortened};
use super::gate::Gate;
use super::{Answered, check_terminal, compile_filter, init, keep_filter, read_json};
use crate::failure::Step;
use crate::spec::{Namespaces, Plan};
use crate::{Create, Failure, cgroups};

/// Makes the container; its init waits at the gate.
pub(crate) fn create(request: &Create<'_>, caller: &Channel) -> Answered {
    let prepared = prepare(request).map_err(|failure| (shortened(failure), None))?;
    let Prepared { plan, filter, cgroup } = prepared;
    let cgroup_path = plan.cgroup_path.clone();
    if let Err(failure) = cgroup.create().step(|| format!("make cgroup {cgroup_path}")) {
        return Err((shortened(failure), None));
    }
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
    filter: Option<Vec<u8>>,
    cgroup: Cgroup,
}

/// Everything that can be decided and refused before there is an effect.
fn prepare(request: &Create<'_>) -> Result<Prepared, Failure> {
    cleat_sys::process::become_undumpable().step(|| "hide from containers")?;
    cleat_sys::signal::reset().step(|| "reset signals")?;
    let path = request.bundle.join("config.json");
    let spec: Spec = read_json(&path)?;
    let plan = Plan::new(request.id, request.bundle, &spec).step(|| format!("check {}", path.display()))?;
    check_terminal(&request.stdio, plan.process.terminal)?;
    let filter = plan.seccomp.as_ref().map(compile_filter).transpose()?;
    let layout = Layout::detect().step(|| "look at the host's cgroups")?;
    let cgroup = Cgroup::open(&layout, &plan.cgroup_path).step(|| "check linux.cgroupsPath")?;
    Ok(Prepared { plan, filter, cgroup })
}

/// Clones init and waits until it is ready.
fn give_birth(
    request: &Create<'_>,
    plan: Plan,
    filter: Option<Vec<u8>>,
    cgroup: &Cgroup,
    caller: &Channel,
) -> Answered {
    let early = |failure| (failure, None);
    let gate = Gate::open(request.gate, caller).map_err(early)?;
    let kept =
        filter.as_deref().map(keep_filter).transpose().step(|| "keep the seccomp filter").map_err(early)?;
    let namespaces = join_namespaces(&plan.namespaces).map_err(early)?;
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
            init::run(init::Birth { request, plan, filter, cgroup, namespaces }, gate, theirs)
        }
        Cloned::Parent { pid, pidfd } => {
            drop(theirs);
            let (notes, console) = match await_report(&ours, "init") {
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

/// Waits for the new process: its notes and the master of its terminal.
pub(super) fn await_report(from: &Channel, who: &str) -> Result<(Vec<String>, Option<OwnedFd>), Failure> {
    let received = from.receive().step(|| format!("hear from {who}"))?;
    match received {
        Received::Message(Report::Ready { notes }, descriptors) => {
            Ok((notes, descriptors.into_iter().next()))
        }
        Received::Message(Report::Failed(failure), _) => Err(failure),
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
    let removed = cgroup.kill().and_then(|()| cgroup.remove());
    if let Err(error) = removed {
        failure.reason = format!("{}; then also: {}", failure.reason, Failure::new("undo", &error).reason);
    }
    failure
}

/// Waits until the process behind `pidfd` has ended (it is somebody else's to reap).
fn await_end(pidfd: &OwnedFd) {
    use rustix::event::{PollFd, PollFlags, poll};
    while poll(&mut [PollFd::new(pidfd, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
}
