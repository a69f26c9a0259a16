//! The builder's part in what a newborn init goes through: limits, hooks, and the wait for its report.

use std::os::fd::OwnedFd;

use super::channel::{Channel, Received, Report};
use super::gate::GO;
use super::given_up;
use crate::failure::Step;
use crate::procfs::Procfs;
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
        let (more, console) = await_report(self.init, self.caller, "init")?;
        notes.extend(more);
        Ok((notes, console))
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
            Received::Message(Report::Ready { .. }, _) | Received::Closed => {
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
