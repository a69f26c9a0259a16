//! `process.scheduler` and `process.ioPriority`.

use cleat_sys::priority::Scheduler;
use oci_spec::runtime as oci;
use oci_spec::runtime::{
    IOPriorityClass as Class, LinuxSchedulerFlag as Flag, LinuxSchedulerPolicy as Policy,
};

use super::SpecError;

/// Levels of a disk priority.
const LEVELS: std::ops::RangeInclusive<i64> = 0..=7;

/// A disk priority as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IoPriority {
    pub(crate) class: u16,
    pub(crate) level: u16,
}

pub(super) fn io_priority(specified: &oci::LinuxIOPriority) -> Result<IoPriority, SpecError> {
    let class = match specified.class() {
        Class::IoprioClassRt => 1,
        Class::IoprioClassBe => 2,
        Class::IoprioClassIdle => 3,
    };
    let level = specified.priority();
    match u16::try_from(level) {
        Ok(number) if LEVELS.contains(&level) => Ok(IoPriority { class, level: number }),
        _ => Err(SpecError::value("process.ioPriority.priority", level)),
    }
}

pub(super) fn scheduler(specified: &oci::Scheduler) -> Result<Scheduler, SpecError> {
    let priority = specified.priority().unwrap_or(0);
    let mut planned = Scheduler::default();
    planned.policy = policy(*specified.policy())?;
    planned.flags = specified.flags().iter().flatten().try_fold(0, |all, flag| Ok(all | bit(*flag)?))?;
    planned.nice = specified.nice().unwrap_or(0);
    planned.priority =
        priority.try_into().map_err(|_| SpecError::value("process.scheduler.priority", priority))?;
    planned.runtime_ns = specified.runtime().unwrap_or(0);
    planned.deadline_ns = specified.deadline().unwrap_or(0);
    planned.period_ns = specified.period().unwrap_or(0);
    Ok(planned)
}

/// The kernel's numbers (linux/sched.h).
fn policy(policy: Policy) -> Result<u32, SpecError> {
    Ok(match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
        // Reserved, and never made.
        Policy::SchedIso => return Err(SpecError::value("process.scheduler.policy", "SCHED_ISO")),
    })
}

fn bit(flag: Flag) -> Result<u64, SpecError> {
    Ok(match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        // The specification has no field for the values they announce.
        Flag::SchedFlagUtilClampMin | Flag::SchedFlagUtilClampMax => {
            return Err(SpecError::value("process.scheduler.flags", flag));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheduler_has_the_kernels_numbers() {
        let json = r#"{"policy":"SCHED_DEADLINE","flags":["SCHED_RESET_ON_FORK"],"runtime":1,"deadline":2,"period":3}"#;
        let planned = scheduler(&serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!((planned.policy, planned.flags), (6, 1));
        assert_eq!((planned.runtime_ns, planned.deadline_ns, planned.period_ns), (1, 2, 3));
    }

    #[test]
    fn what_the_kernel_does_not_have_is_refused() {
        for json in [
            r#"{"policy":"SCHED_ISO"}"#,
            r#"{"policy":"SCHED_FIFO","priority":-1}"#,
            r#"{"policy":"SCHED_OTHER","flags":["SCHED_FLAG_UTIL_CLAMP_MIN"]}"#,
        ] {
            assert!(scheduler(&serde_json::from_str(json).unwrap()).is_err(), "{json}");
        }
    }

    #[test]
    fn a_disk_priority_has_eight_levels() {
        for (level, expected) in [(0, true), (7, true), (8, false), (-1, false)] {
            let json = format!(r#"{{"class":"IOPRIO_CLASS_IDLE","priority":{level}}}"#);
            let planned = io_priority(&serde_json::from_str(&json).unwrap());
            assert_eq!(planned.is_ok_and(|priority| priority.class == 3), expected, "{level}");
        }
    }
}
