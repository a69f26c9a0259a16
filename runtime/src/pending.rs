//! The caller's side of a fork: what is under way, and what came of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cleat_sys::cgroup::Layout;

use crate::agent::Container;
use crate::birth::{Answer, Answered, Channel, GO, Outcome, Received, Worker, in_child};
use crate::failure::Step;
use crate::resctrl::ResctrlGroups;
use crate::rootfs::SharedRoot;
use crate::{Failure, Target};

/// A container that a forked child is creating. Readable when [`PendingCreate::finish`] would not block. Dropped, all
/// of it is undone.
#[derive(Debug)]
pub struct PendingCreate {
    worker: Worker,
    layout: Layout,
}

/// A process that a forked child is starting in a container. Readable when [`PendingExec::finish`] would not block. Dropped, all
/// of it is undone.
#[derive(Debug)]
pub struct PendingExec(pub(crate) Worker);

/// New limits that a forked child is writing, a checkpoint that it is taking, or hooks that it runs. Readable when [`PendingUpdate::finish`] would not block.
#[derive(Debug)]
pub struct PendingUpdate(pub(crate) Worker);

/// A container whose init waits at its gate.
#[derive(Debug)]
pub struct Created {
    /// Init's process id in the caller's pid namespace. Init is a child of the caller, who has to reap it.
    pub pid: i32,
    /// Readable when init has ended.
    pub pidfd: OwnedFd,
    /// The master side of init's terminal.
    pub console: Option<OwnedFd>,
    /// Lets init execute its program (of no use with [`crate::Gate::Fifo`]). Dropped, it ends init.
    pub start: StartGate,
    /// What later requests on this container need.
    pub target: Target,
    /// What is mounted for it where others live, and stays after its end.
    pub shared_root: Option<SharedRoot>,
    /// Whether there are hooks for after its start or after its end, which are the caller's to run
    /// ([`crate::spawn_hooks`]). Never with another runtime, which runs them itself.
    pub later_hooks: bool,
    /// What could not be set as asked (limits that need CAP_SYS_RESOURCE) and is clamped, for the log.
    pub notes: Vec<String>,
}

/// A process that has executed its program.
#[derive(Debug)]
pub struct Executed {
    /// Its process id in the caller's pid namespace. It is a child of the caller, who has to reap it: until then the
    /// end of a container with a pid namespace of its own is held up (the kernel waits for all of its processes).
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
}

/// Keeps a created container's init from executing its program.
#[derive(Debug)]
pub struct StartGate(Channel);

/// An init on its way to its program. Readable when [`PendingStart::finish`] would not block.
#[derive(Debug)]
pub struct PendingStart(Channel);

impl PendingCreate {
    /// Has a forked child create a container. Both of them have to know the host's cgroups, which are looked at once.
    pub(crate) fn begin(work: impl FnOnce(&Layout, &Channel) -> Answered) -> Result<Self, Failure> {
        let layout = Layout::detect().step(|| "look at the host's cgroups")?;
        let worker = in_child(|caller| work(&layout, caller))?;
        Ok(Self { worker, layout })
    }

    /// What came of it. On failure nothing is left behind: no process, no cgroup, no mount.
    pub fn finish(mut self) -> Result<Created, Failure> {
        let born = await_birth(&mut self.worker)?;
        let none = Layout::none();
        let mut target = Target::new(
            &born.pidfd,
            if born.has_cgroup { &self.layout } else { &none },
            &born.cgroup,
            born.filter,
        )?;
        target.known_as = born.known_as;
        target.groups = born.groups;
        target.shares_mounts = born.shared_root.is_some();
        let start = StartGate(self.worker.channel().step(|| "keep the gate")?);
        Ok(Created {
            pid: born.pid,
            pidfd: born.pidfd,
            console: born.console,
            start,
            target,
            shared_root: born.shared_root,
            later_hooks: born.later_hooks,
            notes: born.notes,
        })
    }
}

impl PendingExec {
    /// What came of it. On failure nothing is left behind.
    pub fn finish(mut self) -> Result<Executed, Failure> {
        let born = await_birth(&mut self.0)?;
        Ok(Executed { pid: born.pid, pidfd: born.pidfd, console: born.console })
    }
}

impl PendingUpdate {
    /// What came of it. On failure the old limits are back in place; a container that was to be checkpointed goes on; of
    /// several hooks the failures are told together.
    pub fn finish(mut self) -> Result<(), Failure> {
        match self.0.await_answer()? {
            (Answer::Done, _) => Ok(()),
            (Answer::Failed(failure), _) => Err(failure),
            (Answer::Born { .. }, _) => Err(unexpected()),
        }
    }
}

impl StartGate {
    /// Lets init go on.
    pub fn release(self) -> Result<PendingStart, Failure> {
        self.0.send(&GO, &[]).step(|| "let init go on")?;
        Ok(PendingStart(self.0))
    }
}

impl PendingStart {
    /// Success once the program was executed; else why not, with `errno` (`ENOENT`, `EACCES`, `ENOEXEC`).
    pub fn finish(self) -> Result<(), Failure> {
        match self.0.receive().step(|| "hear from init")? {
            Received::Closed => Ok(()),
            Received::Message(Outcome(failure), _) => Err(failure),
        }
    }
}

/// A new process as the forked child describes it.
struct Born {
    pid: i32,
    pidfd: OwnedFd,
    cgroup: String,
    has_cgroup: bool,
    console: Option<OwnedFd>,
    filter: Option<OwnedFd>,
    notes: Vec<String>,
    known_as: Option<Container>,
    shared_root: Option<SharedRoot>,
    later_hooks: bool,
    groups: ResctrlGroups,
}

fn await_birth(worker: &mut Worker) -> Result<Born, Failure> {
    let (answer, descriptors) = worker.await_answer()?;
    let mut descriptors = descriptors.into_iter();
    match answer {
        Answer::Born {
            pid,
            cgroup,
            has_cgroup,
            console,
            filter,
            notes,
            known_as,
            shared_root,
            later_hooks,
            groups,
        } => {
            let pidfd = descriptors.next().ok_or_else(unexpected)?;
            let mut announced = |is: bool| if is { descriptors.next() } else { None };
            let (console, filter) = (announced(console), announced(filter));
            Ok(Born {
                pid,
                pidfd,
                cgroup,
                has_cgroup,
                console,
                filter,
                notes,
                known_as,
                shared_root,
                later_hooks,
                groups,
            })
        }
        Answer::Failed(failure) => {
            // The process that failed is our child; ECHILD when a reaper of all children was quicker.
            descriptors.for_each(|orphan| drop(cleat_sys::process::reap(&orphan)));
            Err(failure)
        }
        Answer::Done => Err(unexpected()),
    }
}

fn unexpected() -> Failure {
    Failure::because("hear from the runtime's child", "its answer does not fit the request")
}

impl AsFd for PendingCreate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.worker.as_fd()
    }
}

macro_rules! as_fd {
    ($($name:ident),*) => {$(
        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    )*};
}
as_fd!(PendingExec, PendingUpdate, PendingStart);
