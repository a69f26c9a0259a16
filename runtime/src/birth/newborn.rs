//! The builder's part in what a newborn init goes through: limits, hooks, and the wait for its report.

use std::os::fd::OwnedFd;

use super::channel::{Channel, Received, Report};
use super::gate::GO;
use super::given_up;
use crate::agent::{self, Container};
use crate::failure::Step;
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
}

impl Newborn<'_> {
    /// Does what init cannot do itself, and waits until it is ready: notes and the master of its terminal.
    pub(super) fn raise(&self, plan: &Plan) -> Result<(Vec<String>, Option<OwnedFd>), Failure> {
        let mut notes = Vec::new();
        if self.confined {
            let procfs = Procfs::open().step(|| "open /proc")?;
            notes = process::limit(&plan.process, &procfs, rustix::process::Pid::from_raw(self.pid))?;
            self.init.send(&GO, &[]).step(|| "let init go on")?;
        }
        self.run_hooks(plan)?;
        let tell = |listener: &OwnedFd| self.tell_agent(plan, listener);
        let (more, console) = await_report(self.init, self.caller, "init", tell)?;
        notes.extend(more);
        Ok((notes, console))
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
        if !init.wait_for(caller).step(|| "wait for init")? {
            return Err(given_up());
        }
        match init.receive().step(|| "hear from init")? {
            Received::Message(Report::Hooks, _) => {}
            Received::Message(Report::Failed(failure), _) => return Err(failure),
            Received::Message(Report::Ready { .. } | Report::Listener, _) | Received::Closed => {
                return Err(Failure::because("hear from init", "it did not wait for its hooks"));
            }
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
        Received::Message(Report::Failed(failure), _) => Err(failure),
        Received::Message(Report::Hooks | Report::Listener, _) => {
            Err(Failure::because(format!("hear from {who}"), "it waits for what was not expected"))
        }
        Received::Closed => Err(Failure::because(format!("hear from {who}"), "it ended without a word")),
    }
}

fn await_message(from: &Channel, caller: &Channel, who: &str) -> Result<Received<Report>, Failure> {
    if !from.wait_for(caller).step(|| format!("wait for {who}"))? {
        return Err(given_up());
    }
    from.receive().step(|| format!("hear from {who}"))
}
