//! systemd as the maker of a container's cgroup: a transient scope, asked for over D-Bus, with the cgroup delegated.
//!
//! ```text
//! builder ──fork──▶ placeholder          a scope is born around a process, and dies when it has none
//!    ├─ StartTransientUnit(scope, PIDs = placeholder, limits) ──▶ systemd makes the cgroup, moves the placeholder
//!    │◀─ JobRemoved(done) ──────────────────────────────────────────┘
//!    ├─ limits, device rules, init: by the cgroup's files, as with any other cgroup
//!    └─ ends the placeholder: init keeps the scope alive
//! ```
//! Slices that nobody has made are made with the scope, for as long as there are scopes in them: the others belong to a
//! kubelet or to a unit file, and stay.
//!
//! Which containers are systemd's shows in the path of their cgroup alone ([`Scope::of_path`]), so that nothing has to be
//! remembered: slices all the way, then a scope. systemd is told of limits so that a reload of its own does not put
//! others in their place; the files are written in any case, because systemd does not know all of them.

mod annotations;
mod bus;
mod message;
mod names;
mod wire;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cleat_sys::cgroup::Layout;
use cleat_sys::process::{Cloned, exit_now, fork, reap, send_signal};
use rustix::event::{PollFd, PollFlags, poll};

use crate::Failure;
use crate::failure::Step;

pub(crate) use annotations::properties as annotated;
pub(crate) use names::Scope;
pub(crate) use wire::Value;

use bus::{Bus, BusError, Signal};

/// A property of a unit: its name and its value.
pub(crate) type Property = (String, Value);

/// How long a job may take: systemd moves one process and writes a few files, behind what it has to do already.
const JOB_LIMIT: Duration = Duration::from_secs(30);

/// The mode of a job that takes the place of one that is waiting for the same unit (systemctl(1), --job-mode).
const JOB_MODE: &str = "replace";

/// A process that keeps a new scope alive until init is in it. Dropped, it ends.
#[derive(Debug)]
pub(crate) struct Placeholder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Placeholder {
    fn new() -> Result<Self, Failure> {
        match fork().step(|| "fork a process to hold the scope")? {
            Cloned::Parent { pid, pidfd } => Ok(Self { pid, pidfd }),
            Cloned::Child => {
                // A builder that has ended meanwhile has no use for it either.
                if cleat_sys::process::die_with_parent().is_ok() {
                    while poll(&mut [], None).is_ok() {}
                }
                exit_now(0)
            }
        }
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        // It is our own child and not reaped yet: neither can fail.
        send_signal(&self.pidfd, rustix::process::Signal::KILL.as_raw()).ok();
        reap(&self.pidfd).ok();
    }
}

/// Starts a scope with these properties; its cgroup exists when this succeeds, with the placeholder in it.
pub(crate) fn start(
    layout: &Layout,
    scope: &Scope,
    properties: Vec<Property>,
) -> Result<Placeholder, Failure> {
    let step = || format!("start unit {}", scope.unit());
    let mut bus = Bus::connect().step(|| "connect to systemd")?;
    let placeholder = Placeholder::new()?;
    let pid = u32::try_from(placeholder.pid).step(step)?;
    let mut all = scope.properties(pid);
    all.extend(properties);
    let mut arguments = [
        Value::Text(scope.unit().to_owned()),
        Value::Text(JOB_MODE.to_owned()),
        wire::properties(all),
        new_slices(layout, scope),
    ];
    match run_job(&mut bus, "StartTransientUnit", &arguments) {
        Err(BusError::Refused { name, .. }) if name == "org.freedesktop.systemd1.UnitExists" => {
            // What a container of the same name has left behind: it has no process, that was checked. Or a slice that
            // was made meanwhile.
            clear(&mut bus, scope.unit()).step(step)?;
            arguments[3] = wire::units([]);
            run_job(&mut bus, "StartTransientUnit", &arguments).step(step)?;
        }
        other => other.step(step)?,
    }
    Ok(placeholder)
}

/// The slices that are not there yet. systemd would make them by itself, but then never end them.
fn new_slices(layout: &Layout, scope: &Scope) -> Value {
    let named = layout.v1().iter().find(|hierarchy| hierarchy.name.as_deref() == Some("systemd"));
    let Some(root) = named.map(|hierarchy| hierarchy.dir.as_path()).or_else(|| layout.unified()) else {
        return wire::units([]);
    };
    let absent =
        scope.slices().into_iter().filter(|(_, path)| !root.join(path.trim_start_matches('/')).exists());
    let for_scopes_alone = || vec![("StopWhenUnneeded".to_owned(), Value::Bool(true))];
    wire::units(absent.map(|(unit, _)| (unit.to_owned(), for_scopes_alone())))
}

/// Ends a scope whose cgroup is empty, and forgets it; absent is fine.
pub(crate) fn stop(scope: &Scope) -> Result<(), Failure> {
    let mut bus = Bus::connect().step(|| "connect to systemd")?;
    clear(&mut bus, scope.unit()).step(|| format!("stop unit {}", scope.unit()))
}

/// A connection over which limits of a scope can be changed: made before the first effect of a change.
#[derive(Debug)]
pub(crate) struct Limits(Bus);

impl Limits {
    pub(crate) fn open() -> Result<Self, Failure> {
        Bus::connect().map(Self).step(|| "connect to systemd")
    }

    /// Changes properties of a scope until it ends. A scope that systemd does not know (any more) has none.
    pub(crate) fn set(&mut self, scope: &Scope, properties: Vec<Property>) -> Result<(), Failure> {
        let for_its_life = Value::Bool(true);
        let arguments = [Value::Text(scope.unit().to_owned()), for_its_life, wire::properties(properties)];
        absent_is_fine(self.0.call("SetUnitProperties", &arguments).map(drop))
            .step(|| format!("change the properties of unit {}", scope.unit()))
    }
}

fn clear(bus: &mut Bus, unit: &str) -> Result<(), BusError> {
    let unit = || Value::Text(unit.to_owned());
    absent_is_fine(run_job(bus, "StopUnit", &[unit(), Value::Text(JOB_MODE.to_owned())]))?;
    // A scope whose process ran out of memory has failed, and would stay.
    absent_is_fine(bus.call("ResetFailedUnit", &[unit()]).map(drop))
}

fn absent_is_fine(result: Result<(), BusError>) -> Result<(), BusError> {
    match result {
        Err(BusError::Refused { name, .. }) if name == "org.freedesktop.systemd1.NoSuchUnit" => Ok(()),
        other => other,
    }
}

/// Calls a method that answers with a job, and waits until that is done.
fn run_job(bus: &mut Bus, method: &'static str, arguments: &[Value]) -> Result<(), BusError> {
    let deadline = Instant::now() + JOB_LIMIT;
    let job = bus.call(method, arguments)?;
    loop {
        let Signal { job: ended, result } = bus.next_ended_job(deadline)?;
        if ended == job {
            return if result == "done" { Ok(()) } else { Err(BusError::Job { method, result }) };
        }
    }
}

/// Waits until a descriptor is readable; false when the deadline passes before.
fn wait_readable(descriptor: &impl AsFd, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec::try_from(left).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(descriptor, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other? > 0),
        }
    }
}
