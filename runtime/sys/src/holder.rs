//! Processes that do nothing but live in new namespaces, so that somebody else can name those.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::checked;

/// A process that was born in new namespaces and waits there; killed and reaped when dropped.
#[derive(Debug)]
pub struct Holder {
    pid: i32,
    pidfd: OwnedFd,
}

impl Holder {
    /// Makes namespaces of `kinds` ([`crate::namespace`]; no pid namespace) and a process that holds them. With a user
    /// namespace among them, that owns the others. Unlike [`crate::process::clone3`] for callers of any number of
    /// threads, on a thread that lives as long as the holder.
    pub fn new(kinds: u64) -> io::Result<Self> {
        if kinds & crate::namespace::PID != 0 {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let old = block_signals()?;
        let born = clone(kinds);
        restore_signals(&old)?;
        let (pid, pidfd) = born?;
        Ok(Self { pid, pidfd })
    }

    /// The process's id, which is its own as long as this lives.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl AsFd for Holder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // ESRCH and ECHILD: somebody else has killed it, or a reaper of all children was quicker.
        crate::process::send_signal(&self.pidfd, libc::SIGKILL).ok();
        crate::process::reap(&self.pidfd).ok();
    }
}

fn clone(kinds: u64) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain data, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    // One descriptor table: a copy would keep others' pipes open.
    args.flags = kinds | libc::CLONE_PIDFD as u64 | libc::CLONE_FILES as u64;
    args.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: getpid(2) has no requirement.
    let parent = unsafe { libc::getpid() };
    // SAFETY: the child goes on with a copy of this memory. Other threads may have held locks when it was copied: the
    // child makes system calls only, allocates nothing and never returns.
    let pid = checked(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const args, std::mem::size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        wait_for_the_end(parent);
    }
    // SAFETY: with CLONE_PIDFD the kernel has put a new descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok((i32::try_from(pid).map_err(io::Error::other)?, pidfd))
}

/// The child: all signals but SIGKILL are blocked, so that no handler of the parent's runs here.
fn wait_for_the_end(parent: libc::pid_t) -> ! {
    // SAFETY: integers only. A parent that ended before it could be tied to is seen by its number.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) != 0 || libc::getppid() != parent {
            libc::_exit(1);
        }
        loop {
            libc::pause();
        }
    }
}

fn block_signals() -> io::Result<libc::sigset_t> {
    // SAFETY: both sets are plain data that the calls fill in.
    unsafe {
        let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        match libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old) {
            0 => Ok(old),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn restore_signals(old: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is one that the kernel gave; the present one is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn namespaces_live_as_long_as_their_holder() {
        // Needs no privileges where users may make them; the mapping is left out.
        let holder = match Holder::new(crate::namespace::USER | crate::namespace::UTS) {
            Err(error) => panic!("a user namespace: {error}"),
            Ok(holder) => holder,
        };
        let process = format!("/proc/{}", holder.pid());
        for kind in ["user", "uts"] {
            let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(fs::read_link(format!("{process}/ns/{kind}")).unwrap(), own, "{kind}");
        }
        drop(holder);
        assert!(fs::metadata(process).is_err(), "it is gone");
        assert_eq!(Holder::new(crate::namespace::PID).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
