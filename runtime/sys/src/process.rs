//! Making processes: clone3(2) with the flags a container needs, and fork for single-threaded callers.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus};

use crate::checked;

/// Birth in a given cgroup (linux/sched.h); the constant of `libc` is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// How a new process is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clone<'a> {
    /// Namespaces that are made anew: `CLONE_NEWPID` and its kin, from [`crate::namespace`].
    pub namespaces: u64,
    /// The new process becomes a child of the caller's parent (`CLONE_PARENT`), with the caller's exit signal.
    pub sibling: bool,
    /// A folder of a cgroup2 filesystem in which the process is born (`CLONE_INTO_CGROUP`, Linux 5.7).
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// Which side of a clone the caller finds itself on.
#[derive(Debug)]
pub enum Cloned {
    /// The new process.
    Child,
    /// The caller.
    Parent {
        /// The new process's id in the caller's pid namespace.
        pid: i32,
        /// A descriptor of it, readable once it has ended.
        pidfd: OwnedFd,
    },
}

/// Makes a process as `how` says, with a copy of the caller's memory.
///
/// Fails with `EBUSY` when the caller has more than one thread: the child would hold the locks of threads that it does
/// not have. Its exit signal is SIGCHLD.
pub fn clone3(how: &Clone<'_>) -> io::Result<Cloned> {
    require_single_thread()?;
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = how.namespaces | libc::CLONE_PIDFD as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    if how.sibling {
        args.flags |= libc::CLONE_PARENT as u64;
    } else {
        args.exit_signal = libc::SIGCHLD as u64;
    }
    if let Some(cgroup) = how.cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).map_err(io::Error::other)?;
    }
    // SAFETY: without CLONE_VM, CLONE_THREAD and a stack of its own the child goes on with a copy of this memory, as
    // after fork(2); the caller has one thread, so no lock is held by a thread that the child lacks. `args` and `pidfd`
    // outlive the call.
    let pid = checked(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: with CLONE_PIDFD the kernel has put a new descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: i32::try_from(pid).map_err(io::Error::other)?, pidfd })
}

/// fork(2) for a single-threaded caller, with a pidfd. Filters that cannot look into clone3's arguments answer ENOSYS:
/// then the old call does it.
pub fn fork() -> io::Result<Cloned> {
    match clone3(&Clone::default()) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => plain_fork(),
        other => other,
    }
}

fn plain_fork() -> io::Result<Cloned> {
    require_single_thread()?;
    // SAFETY: the caller has one thread, so no lock is held by a thread that the child lacks.
    match checked(unsafe { libc::fork() }.into())? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // It is our child and not reaped yet: the number is still its own.
            Ok(Cloned::Parent { pid, pidfd: open_pidfd(pid)? })
        }
    }
}

/// Fails with `EBUSY` unless the calling process has exactly one thread.
pub(crate) fn require_single_thread() -> io::Result<()> {
    // unshare(CLONE_THREAD) changes nothing; the kernel refuses it (EINVAL) when there is a second thread.
    // SAFETY: no pointer is passed, and with this flag alone no state changes.
    checked(unsafe { libc::unshare(libc::CLONE_THREAD) }.into())
        .map(|_| ())
        .map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))
}

/// Executes the program that `program` is, by its descriptor (Linux 3.19). Returns on failure only.
pub fn execute_descriptor(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> io::Error {
    match nix::unistd::execveat(program, c"", arguments, environment, nix::fcntl::AtFlags::AT_EMPTY_PATH) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Executes the program at `path`, as it is, without a search in PATH. Returns on failure only.
pub fn execute(path: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(path, arguments, environment) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Ends the process at once: no destructor, no exit handler, no flush. For forked children.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit(2) has no requirement.
    unsafe { libc::_exit(code) }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
}

/// Waits until the child behind `pidfd` has ended, and reaps it. `ECHILD` when somebody has reaped it already.
pub fn reap(pidfd: &impl AsFd) -> io::Result<Ended> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(ended(&status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Reaps the child behind `pidfd` if it has ended; none when it still runs.
pub fn try_reap(pidfd: &impl AsFd) -> io::Result<Option<Ended>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let status = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), options)?;
    Ok(status.map(|status| ended(&status)))
}

/// Reaps any child that has ended; none when no child has, or there is none. For a subreaper's orphans.
pub fn try_reap_any() -> io::Result<Option<(i32, Ended)>> {
    match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            let ended = status.exit_status().map_or_else(
                || Ended::Signaled(status.terminating_signal().unwrap_or(libc::SIGKILL)),
                Ended::Exited,
            );
            Ok(Some((pid.as_raw_nonzero().get(), ended)))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

fn ended(status: &WaitIdStatus) -> Ended {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ended::Exited(code),
        (None, Some(signal)) => Ended::Signaled(signal),
        // waitid with WEXITED alone reports nothing else.
        (None, None) => Ended::Signaled(libc::SIGKILL),
    }
}

/// A descriptor of the process `pid` (Linux 5.3).
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}

/// Sends signal number `signal` (real-time signals included, 0 to probe) to the process behind `pidfd`.
pub fn send_signal(pidfd: &impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed for the call; a null siginfo asks for the one kill(2) would send.
    checked(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(|_| ())
}

/// Makes the caller the foster parent of orphaned descendants.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: prctl with integers only.
    checked(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(|_| ())
}

/// Has the kernel kill the caller when its parent ends. A change of user or a gain of privileges undoes it
/// (PR_SET_PDEATHSIG(2const)). A parent that has ended already is not noticed.
pub fn die_with_parent() -> io::Result<()> {
    // SAFETY: prctl with integers only.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) }.into()).map(|_| ())
}

/// Undoes [`die_with_parent`], which would hold on in an executed program.
pub fn outlive_parent() -> io::Result<()> {
    // SAFETY: prctl with integers only.
    checked(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) }.into()).map(|_| ())
}

/// Hides the caller's memory and `/proc/<pid>` from processes with fewer privileges, until it executes a program.
pub fn become_undumpable() -> io::Result<()> {
    // SAFETY: prctl with integers only.
    checked(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }.into()).map(|_| ())
}
