//! `process`: the program, its identity, limits and privileges.

use std::collections::HashSet;
use std::ffi::CString;
use std::path::PathBuf;

use cleat_sys::priority::Scheduler;
use oci_spec::runtime::{Capability, LinuxCapabilities, PosixRlimitType, Process};
use rustix::process::{Pid, Resource};
use rustix::thread::CapabilitySet;

use super::{CpuAffinity, IoPriority, SpecError, priority};

/// A process, the container's init or an exec'd one.
#[derive(Debug)]
pub(crate) struct ProcessPlan {
    /// Never empty.
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    /// Absolute.
    pub(crate) cwd: PathBuf,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
    /// Whether the user namespace lets nobody change groups, as one that a user has made without help.
    pub(crate) has_fixed_groups: bool,
    pub(crate) umask: Option<u32>,
    /// Without any in the specification: none.
    pub(crate) capabilities: Capabilities,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) io_priority: Option<IoPriority>,
    pub(crate) no_new_privileges: bool,
    pub(crate) apparmor_profile: Option<String>,
    pub(crate) selinux_label: Option<String>,
    pub(crate) terminal: bool,
    /// For exec'd processes only (config.md, "execCPUAffinity").
    pub(crate) exec_cpus: CpuAffinity,
}

/// The five capability sets (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) bounding: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    pub(crate) permitted: CapabilitySet,
    pub(crate) inheritable: CapabilitySet,
    pub(crate) ambient: CapabilitySet,
}

/// One resource limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rlimit {
    pub(crate) name: PosixRlimitType,
    pub(crate) resource: Resource,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

impl ProcessPlan {
    /// Decides about a process of the specification.
    pub(crate) fn new(process: &Process) -> Result<Self, SpecError> {
        let user = process.user();
        let cwd = process.cwd().clone();
        if !cwd.is_absolute() {
            return Err(SpecError::value("process.cwd", cwd.display()));
        }
        let arguments = strings("process.args", process.args().as_deref().unwrap_or_default())?;
        if arguments.first().is_none_or(|program| program.is_empty()) {
            return Err(SpecError::Missing("process.args"));
        }
        if let Some(adjustment) = process.oom_score_adj().filter(|value| !(-1000..=1000).contains(value)) {
            return Err(SpecError::value("process.oomScoreAdj", adjustment));
        }
        Ok(Self {
            arguments,
            environment: strings("process.env", process.env().as_deref().unwrap_or_default())?,
            cwd,
            uid: user.uid(),
            gid: user.gid(),
            additional_gids: user.additional_gids().clone().unwrap_or_default(),
            has_fixed_groups: false,
            umask: user.umask(),
            capabilities: Capabilities::new(process.capabilities().as_ref()),
            rlimits: rlimits(process)?,
            oom_score_adj: process.oom_score_adj(),
            scheduler: process.scheduler().as_ref().map(priority::scheduler).transpose()?,
            io_priority: process.io_priority().as_ref().map(priority::io_priority).transpose()?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            apparmor_profile: process.apparmor_profile().clone().filter(|profile| !profile.is_empty()),
            selinux_label: label("process.selinuxLabel", process.selinux_label().as_ref())?,
            terminal: process.terminal().unwrap_or(false),
            exec_cpus: CpuAffinity::new(process.exec_cpu_affinity().as_ref())?,
        })
    }

    /// The value of an environment variable, if it is set.
    pub(crate) fn variable(&self, name: &str) -> Option<&[u8]> {
        let value = |entry: &'_ CString| -> Option<usize> {
            let rest = entry.as_bytes().strip_prefix(name.as_bytes())?;
            rest.starts_with(b"=").then_some(name.len() + 1)
        };
        // The last one holds, as in a shell.
        self.environment.iter().rev().find_map(|entry| value(entry).map(|start| &entry.as_bytes()[start..]))
    }

    /// Tells the program, whose number is `own`, of so many sockets from descriptor 3 on (sd_listen_fds(3)).
    pub(crate) fn tell_of_sockets(&mut self, sockets: u32, own: Pid) {
        self.environment.retain(|entry| {
            !entry.as_bytes().starts_with(b"LISTEN_FDS=") && !entry.as_bytes().starts_with(b"LISTEN_PID=")
        });
        let variables = [format!("LISTEN_FDS={sockets}"), format!("LISTEN_PID={}", own.as_raw_nonzero())];
        let entry = |text| CString::new(text).expect("numbers have no zero byte");
        self.environment.extend(variables.map(entry));
    }
}

impl Capabilities {
    fn new(specified: Option<&LinuxCapabilities>) -> Self {
        let of = |choose: fn(&LinuxCapabilities) -> &Option<HashSet<Capability>>| {
            set(specified.and_then(|sets| choose(sets).as_ref()))
        };
        Self {
            bounding: of(LinuxCapabilities::bounding),
            effective: of(LinuxCapabilities::effective),
            permitted: of(LinuxCapabilities::permitted),
            inheritable: of(LinuxCapabilities::inheritable),
            ambient: of(LinuxCapabilities::ambient),
        }
    }
}

pub(super) fn strings(field: &str, list: &[String]) -> Result<Vec<CString>, SpecError> {
    let convert = |text: &String| CString::new(text.as_str()).map_err(|_| SpecError::value(field, text));
    list.iter().map(convert).collect()
}

/// An SELinux label; an empty one is none. A quote would end it in the options of mount(2).
pub(super) fn label(field: &str, specified: Option<&String>) -> Result<Option<String>, SpecError> {
    match specified.filter(|label| !label.is_empty()) {
        Some(label) if label.contains(['\0', '\n', '"']) => {
            Err(SpecError::value(field, label.escape_debug()))
        }
        label => Ok(label.cloned()),
    }
}

fn rlimits(process: &Process) -> Result<Vec<Rlimit>, SpecError> {
    let mut seen = HashSet::new();
    let plan = |specified: &oci_spec::runtime::PosixRlimit| {
        let name = specified.typ();
        if !seen.insert(name.to_string()) || specified.soft() > specified.hard() {
            return Err(SpecError::value("process.rlimits", name));
        }
        Ok(Rlimit { name, resource: resource(name), soft: specified.soft(), hard: specified.hard() })
    };
    process.rlimits().as_deref().unwrap_or_default().iter().map(plan).collect()
}

fn resource(name: PosixRlimitType) -> Resource {
    match name {
        PosixRlimitType::RlimitCpu => Resource::Cpu,
        PosixRlimitType::RlimitFsize => Resource::Fsize,
        PosixRlimitType::RlimitData => Resource::Data,
        PosixRlimitType::RlimitStack => Resource::Stack,
        PosixRlimitType::RlimitCore => Resource::Core,
        PosixRlimitType::RlimitRss => Resource::Rss,
        PosixRlimitType::RlimitNproc => Resource::Nproc,
        PosixRlimitType::RlimitNofile => Resource::Nofile,
        PosixRlimitType::RlimitMemlock => Resource::Memlock,
        PosixRlimitType::RlimitAs => Resource::As,
        PosixRlimitType::RlimitLocks => Resource::Locks,
        PosixRlimitType::RlimitSigpending => Resource::Sigpending,
        PosixRlimitType::RlimitMsgqueue => Resource::Msgqueue,
        PosixRlimitType::RlimitNice => Resource::Nice,
        PosixRlimitType::RlimitRtprio => Resource::Rtprio,
        PosixRlimitType::RlimitRttime => Resource::Rttime,
    }
}

fn set(names: Option<&HashSet<Capability>>) -> CapabilitySet {
    let bits = names.into_iter().flatten().map(|name| 1u64 << number(*name)).fold(0, |all, bit| all | bit);
    CapabilitySet::from_bits_retain(bits)
}

/// The kernel's numbers (linux/capability.h).
fn number(capability: Capability) -> u32 {
    match capability {
        Capability::Chown => 0,
        Capability::DacOverride => 1,
        Capability::DacReadSearch => 2,
        Capability::Fowner => 3,
        Capability::Fsetid => 4,
        Capability::Kill => 5,
        Capability::Setgid => 6,
        Capability::Setuid => 7,
        Capability::Setpcap => 8,
        Capability::LinuxImmutable => 9,
        Capability::NetBindService => 10,
        Capability::NetBroadcast => 11,
        Capability::NetAdmin => 12,
        Capability::NetRaw => 13,
        Capability::IpcLock => 14,
        Capability::IpcOwner => 15,
        Capability::SysModule => 16,
        Capability::SysRawio => 17,
        Capability::SysChroot => 18,
        Capability::SysPtrace => 19,
        Capability::SysPacct => 20,
        Capability::SysAdmin => 21,
        Capability::SysBoot => 22,
        Capability::SysNice => 23,
        Capability::SysResource => 24,
        Capability::SysTime => 25,
        Capability::SysTtyConfig => 26,
        Capability::Mknod => 27,
        Capability::Lease => 28,
        Capability::AuditWrite => 29,
        Capability::AuditControl => 30,
        Capability::Setfcap => 31,
        Capability::MacOverride => 32,
        Capability::MacAdmin => 33,
        Capability::Syslog => 34,
        Capability::WakeAlarm => 35,
        Capability::BlockSuspend => 36,
        Capability::AuditRead => 37,
        Capability::Perfmon => 38,
        Capability::Bpf => 39,
        Capability::CheckpointRestore => 40,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(json: &str) -> Result<ProcessPlan, SpecError> {
        ProcessPlan::new(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn sets_hold_what_they_name_and_nothing_else() {
        let plan = process(
            r#"{"cwd":"/","user":{"uid":1,"gid":2},"args":["a"],
                "capabilities":{"bounding":["CAP_CHOWN","CAP_CHECKPOINT_RESTORE"]}}"#,
        )
        .unwrap();
        let sets = plan.capabilities;
        assert_eq!(sets.bounding.bits(), 1 | 1 << 40);
        assert!(sets.inheritable.is_empty() && sets.ambient.is_empty() && sets.effective.is_empty());
    }

    #[test]
    fn the_last_variable_of_a_name_holds() {
        let plan = process(
            r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"],"env":["PATH=/a","PATHS=/b","PATH=/c"]}"#,
        )
        .unwrap();
        assert_eq!(plan.variable("PATH"), Some(&b"/c"[..]));
        assert_eq!(plan.variable("HOME"), None);
    }

    #[test]
    fn nonsense_is_refused_by_the_name_of_its_field() {
        for (json, field) in [
            (r#"{"cwd":"x","user":{"uid":0,"gid":0},"args":["a"]}"#, "process.cwd"),
            (r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":[]}"#, "process.args"),
            (r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a\u0000b"]}"#, "process.args"),
            (
                r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"],"oomScoreAdj":1001}"#,
                "process.oomScoreAdj",
            ),
            (
                r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"],
                    "rlimits":[{"type":"RLIMIT_NOFILE","soft":2,"hard":1}]}"#,
                "process.rlimits",
            ),
            (
                r#"{"cwd":"/","user":{"uid":0,"gid":0},"args":["a"],"selinuxLabel":"x\u0000"}"#,
                "process.selinuxLabel",
            ),
        ] {
            let error = process(json).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
