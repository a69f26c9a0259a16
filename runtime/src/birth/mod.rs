//! How processes of a container come into being.
//!
//! ```text
//! caller            builder (forked)                       init | exec'd process (born by the builder, child of the caller)
//!   │ fork ─────────▶ read, plan, make cgroups
//!   │                 clone3 ─────────────────────────────▶ join v1 cgroups, build the root, limits, identity
//!   │                    ◀──────────── Ready | Failed ────── (exec: end of file, the program was executed)
//!   ◀──── Done | Failed ─┘ ends                              waits at the gate
//!   │ go ──────────────────────────────────────────────────▶ execve: end of file | Failed
//! ```
//! The builder holds everything that is made until the new process is ready, and undoes it when it is not. Every socket
//! keeps message boundaries, and every end of one is the end of the process that held the other side.
//!
//! Builder and new process end with their caller until the new process is ready (then the gate ties it), and a caller
//! that gives up has everything undone.

mod builder;
mod channel;
mod exec;
mod gate;
mod init;
mod mapping;
mod midwife;
mod newborn;
mod place;
mod rootless;
mod worker;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cleat_sys::process::{Cloned, exit_now};
use oci_spec::runtime::LinuxSeccomp;
use rustix::fs::{FileType, MemfdFlags, Uid};

pub(crate) use builder::{abandon, cgroup_of, create, end, make_cgroup, read_plan};
pub(crate) use channel::{Answer, Channel, Received, shortened};
pub(crate) use exec::exec;
pub(crate) use gate::{GO, Go, Outcome};
pub(crate) use worker::Worker;

use mapping::Owner;

use crate::failure::Step;
use crate::rootfs::Tree;
use crate::seccomp::Filter;
use crate::spec::ProcessPlan;
use crate::{Failure, Stdio, agent, seccomp};

/// The longest specification that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 16 << 20;

/// Runs `work` in a forked child that answers on a channel. The caller has to be single-threaded.
pub(crate) fn in_child(work: impl FnOnce(&Channel) -> Answered) -> Result<Worker, Failure> {
    let (ours, theirs) = Channel::pair().step(|| "connect with the runtime's child")?;
    match cleat_sys::process::fork().step(|| "fork the runtime's child")? {
        Cloned::Parent { pidfd, .. } => Ok(Worker::new(ours, pidfd)),
        Cloned::Child => {
            drop(ours);
            let (answer, descriptors) = tie_to_caller(&theirs)
                .map_err(|failure| (failure, None))
                .and_then(|()| work(&theirs))
                .unwrap_or_else(|(failure, orphan)| (Answer::Failed(failure), orphan.into_iter().collect()));
            let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            // A caller that is gone has nobody to tell.
            exit_now(theirs.send(&answer, &descriptors).is_err().into())
        }
    }
}

/// Has the calling process end with its parent, the caller: a step that hangs (a file server that does not answer) must
/// not outlive who waits for it.
fn tie_to_caller(caller: &Channel) -> Result<(), Failure> {
    let step = || "tie the process to its caller";
    cleat_sys::process::die_with_parent().step(step)?;
    // A caller that ended before that has nobody left to be told by the kernel.
    if caller.is_given_up().step(step)? { Err(given_up()) } else { Ok(()) }
}

fn given_up() -> Failure {
    Failure::because("wait for the caller", "it gave up")
}

/// A child's answer with its descriptors; or the failure, with a descriptor of a process that the caller has to reap.
pub(crate) type Answered = Result<(Answer, Vec<OwnedFd>), (Failure, Option<OwnedFd>)>;

/// Reads a specification, of bounded size.
pub(crate) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    let step = || format!("read {}", path.display());
    let mut bytes = Vec::new();
    let length = File::open(path)
        .and_then(|file| file.take(MAX_CONFIG_BYTES + 1).read_to_end(&mut bytes))
        .step(step)?;
    if length as u64 > MAX_CONFIG_BYTES {
        return Err(Failure::because(step(), format!("it is longer than {MAX_CONFIG_BYTES} bytes")));
    }
    serde_json::from_slice(&bytes).step(step)
}

/// Compiles a profile.
pub(crate) fn compile_filter(seccomp: &LinuxSeccomp) -> Result<Filter, Failure> {
    agent::check(seccomp)?;
    seccomp::compile(seccomp).step(|| "compile the seccomp filter")
}

/// Puts a compiled filter where every later exec finds it without the caller keeping it in its own memory.
pub(crate) fn keep_filter(filter: &Filter) -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("seccomp", MemfdFlags::CLOEXEC)?;
    File::from(file.try_clone()?).write_all(&filter.encode())?;
    Ok(file)
}

/// What [`keep_filter`] kept.
pub(crate) fn kept_filter(file: &OwnedFd) -> io::Result<Filter> {
    let length = usize::try_from(rustix::fs::fstat(file)?.st_size).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    let read = rustix::io::pread(file, &mut bytes[..], 0)?;
    bytes.truncate(read);
    Filter::decode(&bytes).map_err(io::Error::other)
}

/// The window size of a wanted terminal.
fn terminal_size(stdio: &Stdio<'_>) -> Option<(u16, u16)> {
    match *stdio {
        Stdio::Terminal { height, width } => Some((height, width)),
        Stdio::Descriptors(_) => None,
    }
}

/// A process asks for a terminal exactly when its caller expects one.
fn check_terminal(stdio: &Stdio<'_>, terminal: bool) -> Result<(), Failure> {
    if terminal == terminal_size(stdio).is_some() {
        return Ok(());
    }
    let reason = if terminal {
        "it asks for a terminal, none is offered"
    } else {
        "a terminal is offered, it asks for none"
    };
    Err(Failure::because("read process.terminal", reason))
}

/// The standard streams: the caller's descriptors, above those they will replace and the `inherited` ones, or the
/// terminal three times. In place of the host's null device it is the one of `tree`, the container's: a descriptor that
/// leads to the host's `/dev` is of no use to a container, and no checkpoint could take it along.
fn streams(
    stdio: &Stdio<'_>,
    console: Option<&crate::rootfs::Console>,
    tree: &Tree,
    inherited: u32,
) -> Result<[OwnedFd; 3], Failure> {
    let lowest = i32::try_from(inherited).unwrap_or(i32::MAX).saturating_add(3);
    let copy = |fd: std::os::fd::BorrowedFd<'_>| {
        rustix::io::fcntl_dupfd_cloexec(fd, lowest).step(|| "copy a standard stream")
    };
    let own = |fd: std::os::fd::BorrowedFd<'_>| match tree.null_like(fd).step(|| "open /dev/null")? {
        Some(null) => copy(null.as_fd()),
        None => copy(fd),
    };
    match (stdio, console) {
        (Stdio::Descriptors([stdin, stdout, stderr]), _) => Ok([own(*stdin)?, own(*stdout)?, own(*stderr)?]),
        (Stdio::Terminal { .. }, Some(console)) => {
            let terminal = console.terminal.as_fd();
            Ok([copy(terminal)?, copy(terminal)?, copy(terminal)?])
        }
        (Stdio::Terminal { .. }, None) => Err(Failure::because("set up streams", "there is no terminal")),
    }
}

/// Gives the pipes among the standard streams to the process's user, who could not open `/dev/stdout` otherwise. What
/// else a caller passes (a file, a terminal) keeps its owner.
fn give_pipes(stdio: &Stdio<'_>, plan: &ProcessPlan, owner: Option<&Owner>) -> Result<(), Failure> {
    let Stdio::Descriptors(descriptors) = stdio else { return Ok(()) };
    let step = || format!("give the standard streams to user {}", plan.uid);
    let user = owner.map_or(Some(plan.uid), |owner| owner.maps.users.outside(plan.uid));
    let user = user.ok_or_else(|| Failure::because(step(), "it is not mapped into the user namespace"))?;
    descriptors.iter().try_for_each(|descriptor| {
        let found = rustix::fs::fstat(descriptor).step(step)?;
        let is_pipe = FileType::from_raw_mode(found.st_mode) == FileType::Fifo;
        if !is_pipe || found.st_uid == user {
            return Ok(());
        }
        match rustix::fs::fchown(descriptor, Some(Uid::from_raw(user)), None) {
            // A pipe that is somebody else's own affair, for a runtime without CAP_CHOWN.
            Err(rustix::io::Errno::PERM) => Ok(()),
            other => other.step(step),
        }
    })
}

/// A session of the process's own, with its terminal.
fn start_session(stdio: &Stdio<'_>, console: Option<&crate::rootfs::Console>) -> Result<(), Failure> {
    rustix::process::setsid().step(|| "start a session")?;
    if let (Some((height, width)), Some(console)) = (terminal_size(stdio), console) {
        cleat_sys::pty::set_size(&console.terminal, height, width).step(|| "size the terminal")?;
        cleat_sys::pty::make_controlling(&console.terminal).step(|| "take control of the terminal")?;
    }
    Ok(())
}
