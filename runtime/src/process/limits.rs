//! Limits of the process. Without CAP_SYS_RESOURCE some can only be made stricter: then the nearest value that may be
//! set is, and a note says so.

use std::io;
use std::path::Path;

use rustix::process::{Pid, Rlimit, getrlimit, prlimit};

use crate::Failure;
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::spec::{self, IoPriority, ProcessPlan};

pub(super) fn adjust_oom_score(
    plan: &ProcessPlan,
    procfs: &Procfs,
    of: Option<Pid>,
    notes: &mut Vec<String>,
) -> Result<(), Failure> {
    let Some(wanted) = plan.oom_score_adj else { return Ok(()) };
    let step = || format!("set oom_score_adj to {wanted}");
    let process = of.map_or("self".to_owned(), |pid| pid.as_raw_nonzero().to_string());
    let path = format!("{process}/oom_score_adj");
    match procfs.write(Path::new(&path), &wanted.to_string()) {
        Err(error) if is_refusal(&error) => {
            let current = procfs.read(&path).step(step)?;
            notes.push(format!("oom_score_adj stays {}: {wanted} needs CAP_SYS_RESOURCE", current.trim()));
            Ok(())
        }
        other => other.step(step),
    }
}

/// The scheduler and the disk priority. What needs privileges that we lack is an error: a process that counts on its
/// turn must not run without it.
pub(super) fn set_priorities(plan: &ProcessPlan, of: Option<Pid>) -> Result<(), Failure> {
    let number = of.map_or(0, |pid| pid.as_raw_nonzero().get());
    if let Some(scheduler) = &plan.scheduler {
        cleat_sys::priority::set_scheduler(number, scheduler).step(|| "set process.scheduler")?;
    }
    if let Some(IoPriority { class, level }) = plan.io_priority {
        cleat_sys::priority::set_io_priority(number, class, level).step(|| "set process.ioPriority")?;
    }
    Ok(())
}

pub(super) fn set_rlimits(
    plan: &ProcessPlan,
    of: Option<Pid>,
    notes: &mut Vec<String>,
) -> Result<(), Failure> {
    plan.rlimits.iter().try_for_each(|limit| set_rlimit(limit, of, notes))
}

fn set_rlimit(limit: &spec::Rlimit, of: Option<Pid>, notes: &mut Vec<String>) -> Result<(), Failure> {
    let step = || format!("set {}", limit.name);
    let wanted = Rlimit { current: finite(limit.soft), maximum: finite(limit.hard) };
    match prlimit(of, limit.resource, wanted).map(drop) {
        Err(rustix::io::Errno::PERM) => {
            // A process just born has our limits.
            let clamped = clamp(wanted, getrlimit(limit.resource).maximum);
            let shown = |value: Option<u64>| value.map_or("unlimited".into(), |value| value.to_string());
            notes.push(format!(
                "{} is {}:{}: {}:{} needs CAP_SYS_RESOURCE",
                limit.name,
                shown(clamped.current),
                shown(clamped.maximum),
                shown(finite(limit.soft)),
                shown(finite(limit.hard)),
            ));
            prlimit(of, limit.resource, clamped).map(drop).step(step)
        }
        other => other.step(step),
    }
}

/// The kernel's RLIM_INFINITY is none.
fn finite(value: u64) -> Option<u64> {
    (value != u64::MAX).then_some(value)
}

/// `wanted` within the hard limit `ceiling`.
fn clamp(wanted: Rlimit, ceiling: Option<u64>) -> Rlimit {
    let lower = |value: Option<u64>| match (value, ceiling) {
        (Some(value), Some(ceiling)) => Some(value.min(ceiling)),
        (value, ceiling) => value.or(ceiling),
    };
    Rlimit { current: lower(wanted.current), maximum: lower(wanted.maximum) }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_lowered_to_what_may_be_set() {
        for (wanted, ceiling, expected) in [
            ((Some(10), Some(20)), Some(15), (Some(10), Some(15))),
            ((None, None), Some(15), (Some(15), Some(15))),
            ((Some(10), None), None, (Some(10), None)),
        ] {
            let clamped = clamp(Rlimit { current: wanted.0, maximum: wanted.1 }, ceiling);
            assert_eq!((clamped.current, clamped.maximum), expected);
        }
    }
}
