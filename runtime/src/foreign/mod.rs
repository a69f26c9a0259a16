//! Containers of another OCI runtime (runc, crun, youki), by the command line that all of them have. What comes of it is
//! the same as with this one: a process that waits at a gate, a [`Target`](crate::Target), children of the caller.
//!
//! ```text
//! caller      forked child                               gatekeeper
//!   │            │ mounts the overlay where the runtime will look for it, in a mount namespace of its own
//!   │            │ PROGRAM create
//!   │            │ ──fork───────────────────────────────▶ │
//!   │◀── Born ───┘ ends; init is the caller's child now   │
//!   │─── go ─────────────────────────────────────────────▶│ PROGRAM start
//!   │◀── Failed, or the end of the connection ────────────┘ ends
//! ```
//! The caller has to be a subreaper. User namespaces are beyond it: their overlays are made for them by this runtime.

mod invocation;

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::process::{Cloned, exit_now};
use oci_spec::runtime::Spec;

use crate::birth::{
    Answer, Answered, Channel, Go, Outcome, Received, abandon, end, in_child, read_json, shortened,
};
use crate::failure::Step;
use crate::spec::Plan;
use crate::systemd::Scope;
use crate::target::exec_cgroup;
use crate::{Create, Exec, Failure, PendingCreate, PendingExec, Rootfs, Target, rootfs};
use invocation::{ConsoleSocket, Invocation};

/// Another runtime, for one container.
#[derive(Clone, Debug)]
pub struct Foreign {
    /// Its program.
    pub program: PathBuf,
    /// A folder for what it remembers of the container, of this container alone; made when it is missing.
    pub state: PathBuf,
}

impl Foreign {
    /// As [`crate::spawn_create`]; [`Create::gate`] has to be the caller.
    pub fn spawn_create(&self, request: &Create<'_>) -> Result<PendingCreate, Failure> {
        PendingCreate::begin(|layout, caller| self.create(request, layout, caller))
    }

    /// As [`crate::spawn_exec`], in the container `id`.
    pub fn spawn_exec(&self, id: &str, target: &Target, exec: &Exec<'_>) -> Result<PendingExec, Failure> {
        in_child(|_| self.exec(id, target, exec)).map(PendingExec)
    }

    /// Has it forget the container `id`, after the container's end. Blocks until that is done.
    pub fn delete(&self, id: &str) -> Result<(), Failure> {
        self.invoke("delete").with(&["--force", id]).run()
    }

    fn invoke(&self, command: &'static str) -> Invocation {
        Invocation::new(&self.program, &self.state, command)
    }

    fn create(&self, request: &Create<'_>, layout: &Layout, caller: &Channel) -> Answered {
        self.make(request, layout, caller).map_err(|failure| {
            // What is told is why it failed; a container that was never made is not deleted either.
            self.delete(request.id).ok();
            (shortened(failure), None)
        })
    }

    fn make(
        &self,
        request: &Create<'_>,
        layout: &Layout,
        caller: &Channel,
    ) -> Result<(Answer, Vec<OwnedFd>), Failure> {
        begin()?;
        fs::create_dir_all(&self.state).step(|| format!("make folder {}", self.state.display()))?;
        let spec: Spec = read_json(&request.bundle.join("config.json"))?;
        let plan = Plan::new(request.id, request.bundle, &spec).step(|| "check the specification")?;
        mount_root(&plan, &request.rootfs)?;
        let console = ConsoleSocket::of(&request.stdio, &self.state)?;
        let mut invocation = self.invoke("create");
        if Scope::of_path(&plan.cgroup_path).is_some() {
            invocation = invocation.globally("--systemd-cgroup");
        }
        let bundle = request.bundle.to_string_lossy();
        let invocation = invocation.with(&["--bundle", &bundle]).at(console.as_ref()).on(&request.stdio)?;
        let (pid, pidfd) = invocation.run_for_process(request.id)?;
        let console = console.map(|socket| socket.take(&request.stdio)).transpose()?;
        let cgroup = Cgroup::open(layout, &plan.cgroup_path).step(|| "check linux.cgroupsPath")?;
        // Not every runtime uses the cgroup2 hierarchy beside v1 ones, in which processes are counted and killed.
        cgroup
            .complete()
            .and_then(|()| cgroup.adopt(pid))
            .step(|| format!("complete cgroup {}", cgroup.path()))?;
        self.keep_gate(request.id, caller, &pidfd)?;
        let answer = Answer::born(pid, cgroup.path(), console.is_some());
        Ok((answer, [Some(pidfd), console].into_iter().flatten().collect()))
    }

    /// Forks the process that starts the container when it is let go, and ends its init when it never is.
    fn keep_gate(&self, id: &str, caller: &Channel, init: &OwnedFd) -> Result<(), Failure> {
        let gate = caller.try_clone().step(|| "keep the gate")?;
        match cleat_sys::process::fork().step(|| "fork the gatekeeper")? {
            Cloned::Parent { .. } => Ok(()),
            Cloned::Child => {
                match gate.receive() {
                    Ok(Received::Message(Go, _)) => {
                        if let Err(failure) = self.invoke("start").with(&[id]).run() {
                            // A caller that is gone has nobody to tell.
                            gate.send(&Outcome(shortened(failure)), &[]).ok();
                        }
                    }
                    _ => end(init),
                }
                exit_now(0)
            }
        }
    }

    fn exec(&self, id: &str, target: &Target, request: &Exec<'_>) -> Answered {
        let early = |failure| (shortened(failure), None);
        let own = exec_cgroup(target.cgroup(), request.id).map_err(early)?;
        let console = begin().and_then(|()| ConsoleSocket::of(&request.stdio, &self.state)).map_err(early)?;
        let (pid, pidfd) = self.execute(id, request, console.as_ref()).map_err(early)?;
        // So that its whole tree can be killed; what it has started until now belongs to the container alone.
        let placed = own.create_for_kill().and_then(|()| own.adopt(pid));
        let placed = placed.step(|| format!("make cgroup {}", own.path()));
        match placed.and_then(|()| console.map(|socket| socket.take(&request.stdio)).transpose()) {
            Ok(console) => {
                let answer = Answer::born(pid, String::new(), console.is_some());
                Ok((answer, [Some(pidfd), console].into_iter().flatten().collect()))
            }
            Err(failure) => Err((shortened(abandon(&own, Some(&pidfd), failure)), Some(pidfd))),
        }
    }

    fn execute(
        &self,
        id: &str,
        request: &Exec<'_>,
        console: Option<&ConsoleSocket>,
    ) -> Result<(i32, OwnedFd), Failure> {
        let file = self.state.join(format!("process-{}.json", request.id));
        fs::write(&file, request.process_json).step(|| format!("write {}", file.display()))?;
        let path = file.to_string_lossy();
        let invocation = self.invoke("exec").with(&["--detach", "--process", &path]).at(console);
        let ran = invocation.on(&request.stdio).and_then(|invocation| invocation.run_for_process(id));
        fs::remove_file(&file).step(|| format!("remove {}", file.display()))?;
        ran
    }
}

/// What the forked child makes of itself: what the runtime leaves behind stays its child until it answers, and cannot be
/// reaped by the caller before its descriptor is there.
fn begin() -> Result<(), Failure> {
    cleat_sys::signal::reset().step(|| "reset signals")?;
    cleat_sys::process::become_subreaper().step(|| "become subreaper")
}

/// Mounts an overlay where the runtime looks for the root filesystem, out of sight of everybody else.
fn mount_root(plan: &Plan, from: &Rootfs) -> Result<(), Failure> {
    if *from == Rootfs::Ready {
        return Ok(());
    }
    if plan.namespaces.user.is_some() {
        return Err(Failure::because(
            "mount the overlay",
            "another runtime's containers have no user namespaces",
        ));
    }
    cleat_sys::namespace::unshare(cleat_sys::namespace::MOUNT).step(|| "make a mount namespace")?;
    rootfs::mount_overlay(plan, from)
}
