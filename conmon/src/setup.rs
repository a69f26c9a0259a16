//! What the process makes of itself before it does anything for a container.

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{chdir, setpgid};
use rustix::thread::set_name;

use crate::complaint::best_effort;

/// Near the bottom of what the OOM killer takes, yet not out of its reach: children inherit the value until the runtime
/// sets theirs.
const OOM_SCORE_ADJ: &str = "-999";

/// A step without which the process cannot be a monitor.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("leave the process group")]
    Group(#[source] io::Error),
    #[error("become subreaper")]
    Subreaper(#[source] io::Error),
    #[error("mark inherited descriptors close-on-exec")]
    Descriptors(#[source] io::Error),
    #[error("leave the working directory")]
    Directory(#[source] io::Error),
}

/// Makes the process a monitor. SIGPIPE is ignored already, by the standard library.
pub(crate) fn become_monitor() -> Result<(), SetupError> {
    leave_group()?;
    cleat_sys::process::become_subreaper().map_err(SetupError::Subreaper)?;
    cleat_sys::descriptors::close_on_exec_from(3).map_err(SetupError::Descriptors)?;
    // No volume is kept busy by the folder the daemon happened to be in.
    chdir("/").map_err(|errno| SetupError::Directory(errno.into()))?;
    // Executed from a memfd, it would be known by the number of its descriptor.
    best_effort("set name", set_name(c"cleat-conmon"));
    protect_from_oom_killer();
    Ok(())
}

/// Signals to the daemon's process group are not for the monitor. A session of its own would say the same, but where
/// the kernel groups processes by session for scheduling (`sched_autogroup_enabled`, the default) making one takes
/// milliseconds on a busy host; what a session's end or its terminal would send is blocked anyway. Init makes its own.
fn leave_group() -> Result<(), SetupError> {
    match setpgid(None, None) {
        // EPERM: it leads a session, so the daemon saw to it.
        Ok(()) | Err(Errno::PERM) => Ok(()),
        Err(errno) => Err(SetupError::Group(errno.into())),
    }
}

/// Without CAP_SYS_RESOURCE the value may not be lowered; the daemon, which is in the same place, says so once for all.
fn protect_from_oom_killer() {
    match fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        other => drop(best_effort("set oom_score_adj", other)),
    }
}
