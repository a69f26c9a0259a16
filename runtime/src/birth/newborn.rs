//! The builder's part in what a newborn init goes through: limits, network devices, hooks, and the wait for its report.

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::channel::{Channel, Received, Report};
use super::gate::GO;
use super::given_up;
use crate::agent::{self, Container};
use crate::failure::Step;
use crate::network::{Moved, Mover};
use crate::procfs::Procfs;
use crate::seccomp::Filter;
use crate::spec::Plan;
use crate::{Create, Failure, HookState, hooks, process};

/// A container's init, as the builder knows it.
pub(super) struct Newborn<'a> {
    pub(super) request: &'a Create<'a>,
    pub(super) pid: i32,
    /// The connection with it.
    pub(super) init: &'a Channel,
    pub(super) caller: &'a Channel,
    /// Whether it has a user namespace of its own: then the builder has left the cloning to another, and its own
    /// namespaces are the caller's still.
    pub(super) confined: bool,
    /// Its filter, for the agent.
    pub(super) filter: Option<&'a Filter>,
    /// From where devices are moved to it, if there are any.
    pub(super) mover: Option<&'a Mover>,
}

/// What the builder has done for an init that waits for it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Provided {
    pub(super) devices: Vec<Moved>,
}

impl Newborn<'_> {
    /// Does what init cannot do itself, and waits until it is ready: notes and the master of its terminal.
    pub(super) fn raise(&self, plan: &Plan) -> Result<(Vec<String>, Option<OwnedFd>), Failure> {
        let mut notes = Vec::new();
        if self.confined {
            let procfs = Procfs::open().step(|| "open /proc")?;
            notes = process::limit(&plan.process, &procfs, rustix::process::Pid::from_raw(self.pid))?;
        }
        let devices = self.move_devices(plan)?;
        if self.confined || self.mover.is_some() {
            self.init.send(&Provided { devices }, &[]).step(|| "let init go on")?;
        }
        self.run_hooks(plan)?;
        let tell = |listener: &OwnedFd| self.tell_agent(plan, listener);
        let (more, console) = await_report(self.init, self.caller, "init", tell)?;
        notes.extend(more);
        Ok((notes, console))
    }

    /// Moves devices to the container, whose init has looked whether it can take them.
    fn move_devices(&self, plan: &Plan) -> Result<Vec<Moved>, Failure> {
        let Some(mover) = self.mover else { return Ok(Vec::new()) };
        match await_message(self.init, self.caller, "init")? {
            Received::Message(Report::Devices, _) => mover.send(&plan.net_devices, self.pid),
            other => Err(not_awaited(other, "init", "its network devices")),
        }
    }

    fn tell_agent(&self, plan: &Plan, listener: &OwnedFd) -> Result<(), Failure> {
        let Some(filter) = self.filter else { return Ok(()) };
        agent::tell(filter, listener, &known_as(self.request, plan), "creating", self.pid)
    }

    /// Runs the hooks of the runtime's namespaces once the container's are made; init waits meanwhile.
    fn run_hooks(&self, plan: &Plan) -> Result<(), Failure> {
        if plan.hooks.create_runtime.is_empty() {
            return Ok(());
        }
        let Self { request, pid, init, caller, .. } = *self;
        match await_message(init, caller, "init")? {
            Received::Message(Report::Hooks, _) => {}
            other => return Err(not_awaited(other, "init", "its hooks")),
        }
        leave_namespaces(if self.confined { 0 } else { plan.namespaces.builders() })?;
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
}

/// Who the container is, for an agent.
pub(super) fn known_as(request: &Create<'_>, plan: &Plan) -> Container {
    Container {
        id: request.id.to_owned(),
        bundle: request.bundle.to_owned(),
        annotations: plan.annotations.clone(),
    }
}

/// Goes back to the caller's namespaces, the runtime's, from those of the `changed` kinds that were made or joined for
/// init's sake.
fn leave_namespaces(changed: u64) -> Result<(), Failure> {
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
    tell_agent: impl Fn(&OwnedFd) -> Result<(), Failure>,
) -> Result<(Vec<String>, Option<OwnedFd>), Failure> {
    let mut received = await_message(from, caller, who)?;
    if let Received::Message(Report::Listener, descriptors) = &received {
        let missing = || Failure::because(format!("hear from {who}"), "the listener is missing");
        tell_agent(descriptors.first().ok_or_else(missing)?)?;
        received = await_message(from, caller, who)?;
    }
    match received {
        Received::Message(Report::Ready { notes }, descriptors) => {
            Ok((notes, descriptors.into_iter().next()))
        }
        other => Err(not_awaited(other, who, "its program")),
    }
}

/// The failure behind a message that was not the awaited one.
fn not_awaited(received: Received<Report>, who: &str, awaited: &str) -> Failure {
    let hear = format!("hear from {who}");
    match received {
        Received::Message(Report::Failed(failure), _) => failure,
        Received::Message(..) => Failure::because(hear, format!("it does not wait for {awaited}")),
        Received::Closed => Failure::because(hear, "it ended without a word"),
    }
}

fn await_message(from: &Channel, caller: &Channel, who: &str) -> Result<Received<Report>, Failure> {
    if !from.wait_for(caller).step(|| format!("wait for {who}"))? {
        return Err(given_up());
    }
    from.receive().step(|| format!("hear from {who}"))
}
