//! How the kernel favours a thread: its scheduler (sched_setattr(2), Linux 3.14) and its disk priority
//! (ioprio_set(2)). Both are inherited and survive an execve.

use std::io;

use crate::checked;

/// `IOPRIO_WHO_PROCESS`: one thread.
const WHO_PROCESS: libc::c_int = 1;
/// Bits of a disk priority below its class.
const CLASS_SHIFT: u32 = 13;

/// `struct sched_attr`, without what later kernels added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Scheduler {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// -20 (the most favoured) to 19, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// 1 to 99 for SCHED_FIFO and SCHED_RR, else 0.
    pub priority: u32,
    /// For SCHED_DEADLINE: the time it gets in each period, nanoseconds.
    pub runtime_ns: u64,
    /// By when after a period's begin, nanoseconds.
    pub deadline_ns: u64,
    /// Nanoseconds.
    pub period_ns: u64,
}

/// Sets the scheduler of thread `of`, 0 for the caller.
pub fn set_scheduler(of: i32, scheduler: &Scheduler) -> io::Result<()> {
    let size = u32::try_from(std::mem::size_of::<Scheduler>()).map_err(io::Error::other)?;
    let mut request = Scheduler { size, ..*scheduler };
    // SAFETY: `request` has the layout of struct sched_attr, says its own size and outlives the call; the kernel writes
    // to its field `size` at most, which is why it is a copy.
    checked(unsafe { libc::syscall(libc::SYS_sched_setattr, of, &raw mut request, 0) }).map(|_| ())
}

/// Sets the disk priority of thread `of`, 0 for the caller: class 1 (real time), 2 (best effort) or 3 (idle), level 0 (the highest) to 7.
pub fn set_io_priority(of: i32, class: u16, level: u16) -> io::Result<()> {
    let value = libc::c_int::from(class) << CLASS_SHIFT | libc::c_int::from(level);
    // SAFETY: integers only.
    checked(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, of, value) }).map(|_| ())
}
