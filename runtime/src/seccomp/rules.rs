//! From the rules of a specification to outcomes by number.

use std::path::PathBuf;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompFilterFlag as Flag, LinuxSyscall,
};

use super::KILL_PROCESS;
use super::architecture::{ARM_PRIVATE_BASE, Architecture, Call, X32_BIT};
use super::condition::{Clause, Condition, Judgement};
use super::filter::{Filter, Instruction, MAX_INSTRUCTIONS};
use super::multiplex;
use super::tree::{Outcome, Range, overlay};

/// `SECCOMP_RET_ERRNO`.
const ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_USER_NOTIF`.
const NOTIFY: u32 = 0x7fc0_0000;
/// `SECCOMP_RET_ACTION_FULL`: the action in a return value; the rest is its data.
const ACTION: u32 = 0xffff_0000;

/// What a call newer than the profile fails with.
const ENOSYS: u32 = 38;
/// The largest error number the kernel returns (`MAX_ERRNO`); a larger one would come out as this.
const MAX_ERRNO: u32 = 4095;
/// Largest data of an action.
const MAX_DATA: u32 = 0xffff;

/// Filter flags (`linux/seccomp.h`).
const FLAG_TSYNC: u32 = 1 << 0;
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_NEW_LISTENER: u32 = 1 << 3;
const FLAG_TSYNC_ESRCH: u32 = 1 << 4;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Arguments of which the kernel takes an `int`: a greater value than that has no meaning but to slip through a
/// comparison (`socket(0x1_0000_0026)` makes an AF_ALG socket, though it is greater than any family).
const INT_ARGUMENTS: [(&str, &[u8]); 3] =
    [("personality", &[0]), ("socket", &[0, 1, 2]), ("socketpair", &[0, 1, 2])];

/// A section that cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// This machine's architecture.
    #[error("seccomp filters cannot be compiled for {0}: its system calls are not known here")]
    UnsupportedMachine(&'static str),
    /// An error number or trace datum that does not fit.
    #[error("seccomp rule returns {0}: error numbers go up to 4095, data of a tracer up to 65535")]
    ReturnValue(u32),
    /// A condition on an argument that does not exist.
    #[error("seccomp rule on {call} looks at argument {index}: arguments are numbered from 0 to 5")]
    ArgumentIndex {
        /// The first call the rule names.
        call: String,
        /// The number.
        index: usize,
    },
    /// Every call notified, those of the agent's connection included.
    #[error("seccomp default action SCMP_ACT_NOTIFY would stop the container before it starts")]
    NotifyByDefault,
    /// Nobody to notify.
    #[error("seccomp rules notify an agent, but no listenerPath says where it is")]
    NoListener,
    /// The kernel would not take it.
    #[error("seccomp filter of {0} instructions, the kernel takes {MAX_INSTRUCTIONS}")]
    TooLong(usize),
}

/// Everything a section says, by architecture and number.
#[derive(Debug)]
pub(super) struct Policy {
    default: u32,
    tables: Vec<Table>,
    flags: u32,
    listener_path: Option<PathBuf>,
    listener_metadata: Option<String>,
}

/// The clauses of one architecture.
#[derive(Debug)]
struct Table {
    architecture: Architecture,
    /// Sorted by number; those of one number in the order of the rules.
    clauses: Vec<(u32, Clause)>,
    /// The greatest number any rule names.
    newest: Option<u32>,
}

impl Policy {
    /// Reads a section for a machine of architecture `native`.
    pub(super) fn new(seccomp: &LinuxSeccomp, native: Architecture) -> Result<Self, CompileError> {
        let default = verdict(seccomp.default_action(), seccomp.default_errno_ret())?;
        if default == NOTIFY {
            return Err(CompileError::NotifyByDefault);
        }
        let mut tables = tables(seccomp, native);
        let mut notify = false;
        for rule in seccomp.syscalls().iter().flatten() {
            let verdict = verdict(rule.action(), rule.errno_ret())?;
            notify |= verdict == NOTIFY;
            let clauses = clauses(rule, verdict)?;
            for call in rule.names().iter().map(|name| Call::named(name)) {
                tables.iter_mut().for_each(|table| table.add(call, &clauses, default));
            }
        }
        if notify && seccomp.listener_path().is_none() {
            return Err(CompileError::NoListener);
        }
        // Stable: the order of the rules counts among the clauses of one call.
        tables.iter_mut().for_each(|table| table.clauses.sort_by_key(|(number, _)| *number));
        Ok(Self {
            default,
            tables,
            flags: flags(seccomp.flags().as_deref(), notify),
            listener_path: seccomp.listener_path().clone().filter(|_| notify),
            listener_metadata: seccomp.listener_metadata().clone().filter(|_| notify),
        })
    }

    /// The architectures as the kernel tells them, each once, the machine's own last: what is compiled last is looked
    /// at first.
    pub(super) fn tokens(&self) -> Vec<u32> {
        let mut tokens = Vec::new();
        for token in self.tables.iter().map(|table| table.architecture.token()) {
            if !tokens.contains(&token) {
                tokens.push(token);
            }
        }
        tokens.reverse();
        tokens
    }

    /// The outcomes of all numbers of an architecture that the kernel tells by this value.
    pub(super) fn ranges(&self, token: u32) -> Vec<Range> {
        let mut tables: Vec<_> =
            self.tables.iter().filter(|table| table.architecture.token() == token).collect();
        tables.sort_by_key(|table| table.architecture.base());
        let mut background = Vec::new();
        let mut points = Vec::new();
        for table in &tables {
            background.extend(self.background(table));
            points.extend(table.outcomes(self.default));
        }
        let knows_x32 = tables.iter().any(|table| table.architecture == Architecture::X32);
        if token == Architecture::X32.token() && !knows_x32 {
            background.push((X32_BIT, KILL_PROCESS));
        }
        if token == Architecture::X32.token() {
            // Programs ask for call -1 to see whether calls fail as they should; it is nobody's.
            background.push((u32::MAX, self.default));
        }
        overlay(&background, points)
    }

    /// The filter around a compiled program.
    pub(super) fn filter(self, instructions: Vec<Instruction>) -> Filter {
        let Self { flags, listener_path, listener_metadata, .. } = self;
        Filter { instructions, flags, listener_path, listener_metadata }
    }

    /// What happens to calls without a rule: the default, and ENOSYS for those newer than the profile where it is
    /// restrictive. A tracer or an agent decides about new calls itself.
    fn background(&self, table: &Table) -> Vec<(u32, u32)> {
        let mut parts = vec![(table.architecture.base(), self.default)];
        let restrictive = self.default & ACTION <= ERRNO || self.default == KILL_PROCESS;
        if let Some(newest) = table.newest.filter(|_| restrictive) {
            parts.push((newest + 1, ERRNO | ENOSYS));
            if table.architecture == Architecture::Arm {
                parts.push((ARM_PRIVATE_BASE, self.default));
            }
        }
        parts
    }
}

impl Table {
    fn add(&mut self, call: Call<'_>, clauses: &[Clause], default: u32) {
        let Some(number) = call.number(self.architecture) else {
            return self.add_detours(call, clauses, default);
        };
        if number < ARM_PRIVATE_BASE || self.architecture != Architecture::Arm {
            self.newest = self.newest.max(Some(number));
        }
        for clause in clauses.iter().filter(|clause| clause.verdict != default) {
            self.clauses.push((number, self.narrowed(call, clause)));
        }
        self.add_detours(call, clauses, default);
    }

    fn add_detours(&mut self, call: Call<'_>, clauses: &[Clause], default: u32) {
        for clause in clauses.iter().filter(|clause| clause.verdict != default) {
            let permits = strictness(clause.verdict) < strictness(default);
            self.clauses.extend(multiplex::detour(self.architecture, call, clause, permits));
        }
    }

    /// The clause with conditions that look at no more than the kernel does.
    fn narrowed(&self, call: Call<'_>, clause: &Clause) -> Clause {
        if clause.conditions.is_empty() {
            return clause.clone();
        }
        let ints =
            INT_ARGUMENTS.iter().find(|(name, _)| *name == call.name).map_or(&[][..], |(_, list)| list);
        let narrow = |condition: &Condition| {
            let is_narrow = self.architecture.is_32_bit() || ints.contains(&condition.argument);
            if is_narrow { condition.narrowed() } else { *condition }
        };
        Clause { conditions: clause.conditions.iter().map(narrow).collect(), verdict: clause.verdict }
    }

    /// The outcome of each number that has clauses, sorted.
    fn outcomes(&self, default: u32) -> impl Iterator<Item = (u32, Outcome)> {
        self.clauses.chunk_by(|one, other| one.0 == other.0).map(move |of_call| {
            let unconditional = of_call.iter().find(|(_, clause)| clause.conditions.is_empty());
            let outcome = match unconditional {
                Some((_, clause)) => Outcome::Verdict(clause.verdict),
                None => {
                    let clauses = of_call.iter().map(|(_, clause)| clause.clone()).collect();
                    Outcome::Judged(Judgement { clauses, otherwise: default })
                }
            };
            (of_call[0].0, outcome)
        })
    }
}

/// Empty tables of the machine's architecture and those listed. One without numbers here is left out: this machine
/// cannot run its programs, and they would be killed.
fn tables(seccomp: &LinuxSeccomp, native: Architecture) -> Vec<Table> {
    let listed = seccomp.architectures().iter().flatten();
    let mut architectures = vec![native];
    for architecture in listed.filter_map(|arch| Architecture::from_oci(*arch, native)) {
        if !architectures.contains(&architecture) {
            architectures.push(architecture);
        }
    }
    architectures
        .into_iter()
        .map(|architecture| Table { architecture, clauses: Vec::new(), newest: None })
        .collect()
}

/// The clauses of a rule: one with all conditions, or one for each where two look at the same argument.
fn clauses(rule: &LinuxSyscall, verdict: u32) -> Result<Vec<Clause>, CompileError> {
    let mut conditions = Vec::new();
    for arg in rule.args().iter().flatten() {
        let condition = Condition::from_oci(arg).ok_or_else(|| CompileError::ArgumentIndex {
            call: rule.names().first().cloned().unwrap_or_default(),
            index: arg.index(),
        })?;
        conditions.push(condition);
    }
    let mut seen = [false; 6];
    let repeated = conditions
        .iter()
        .any(|condition| std::mem::replace(&mut seen[usize::from(condition.argument)], true));
    if repeated {
        return Ok(conditions.into_iter().map(|one| Clause { conditions: vec![one], verdict }).collect());
    }
    Ok(vec![Clause { conditions, verdict }])
}

/// The return value of an action. Without a number, an error is EPERM.
fn verdict(action: Action, errno_ret: Option<u32>) -> Result<u32, CompileError> {
    let limit = match action {
        Action::ScmpActErrno => MAX_ERRNO,
        Action::ScmpActTrace => MAX_DATA,
        _ => return Ok(action.as_u32(None)),
    };
    match errno_ret {
        Some(value) if value > limit => Err(CompileError::ReturnValue(value)),
        value => Ok(action.as_u32(value)),
    }
}

/// The kernel's own order of actions: as signed numbers, the smallest wins among several filters.
fn strictness(verdict: u32) -> std::cmp::Reverse<i32> {
    std::cmp::Reverse((verdict & ACTION).cast_signed())
}

/// The flags for the kernel. A section without a list gets what runc gives it: no mitigation of speculative store
/// bypass, which costs much and which a program can ask for itself.
fn flags(listed: Option<&[Flag]>, notify: bool) -> u32 {
    let mut flags = match listed {
        None => FLAG_SPEC_ALLOW,
        Some(list) => list.iter().fold(0, |flags, flag| {
            flags
                | match flag {
                    Flag::SeccompFilterFlagLog => FLAG_LOG,
                    Flag::SeccompFilterFlagTsync => FLAG_TSYNC,
                    Flag::SeccompFilterFlagSpecAllow => FLAG_SPEC_ALLOW,
                    Flag::SeccompFilterFlagWaitKillableRecv => FLAG_WAIT_KILLABLE_RECV,
                }
        }),
    };
    if notify {
        flags |= FLAG_NEW_LISTENER;
        // The kernel refuses both together unless a failure to synchronise is an error number (Linux 5.7).
        flags |= if flags & FLAG_TSYNC != 0 { FLAG_TSYNC_ESRCH } else { 0 };
    } else {
        // The kernel refuses it without a listener.
        flags &= !FLAG_WAIT_KILLABLE_RECV;
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::super::compile_for;
    use super::*;

    fn compile(json: &str) -> Result<Filter, CompileError> {
        compile_for(&serde_json::from_str(json).unwrap(), Architecture::X86_64)
    }

    fn with_rule(default: &str, rule: &str) -> Result<Filter, CompileError> {
        compile(&format!(r#"{{"defaultAction": "{default}", "listenerPath": "/a", "syscalls": [{rule}]}}"#))
    }

    #[test]
    fn actions_are_the_kernels() {
        for (action, errno, expected) in [
            (Action::ScmpActKill, None, 0),
            (Action::ScmpActKillThread, None, 0),
            (Action::ScmpActKillProcess, None, 0x8000_0000),
            (Action::ScmpActTrap, Some(9), 0x0003_0000),
            (Action::ScmpActErrno, None, 0x0005_0001),
            (Action::ScmpActErrno, Some(0), 0x0005_0000),
            (Action::ScmpActErrno, Some(4095), 0x0005_0fff),
            (Action::ScmpActNotify, None, 0x7fc0_0000),
            (Action::ScmpActTrace, None, 0x7ff0_0001),
            (Action::ScmpActTrace, Some(0xffff), 0x7ff0_ffff),
            (Action::ScmpActLog, None, 0x7ffc_0000),
            (Action::ScmpActAllow, Some(1 << 20), 0x7fff_0000),
        ] {
            assert_eq!(verdict(action, errno), Ok(expected), "{action} {errno:?}");
        }
    }

    #[test]
    fn data_that_would_become_another_action_are_refused() {
        for (action, errno) in
            [(Action::ScmpActErrno, 4096), (Action::ScmpActErrno, 1 << 31), (Action::ScmpActTrace, 1 << 16)]
        {
            assert_eq!(verdict(action, Some(errno)), Err(CompileError::ReturnValue(errno)));
        }
        let rule = r#"{"names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 65536}"#;
        assert_eq!(with_rule("SCMP_ACT_ALLOW", rule), Err(CompileError::ReturnValue(65536)));
    }

    #[test]
    fn arguments_are_numbered_from_0_to_5() {
        let rule = |index: u32| {
            format!(
                r#"{{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{{"index": {index}, "value": 1, "op": "SCMP_CMP_EQ"}}]}}"#
            )
        };
        assert!(with_rule("SCMP_ACT_ALLOW", &rule(5)).is_ok());
        for index in [6, 300] {
            let expected = CompileError::ArgumentIndex { call: "read".into(), index: index as usize };
            assert_eq!(with_rule("SCMP_ACT_ALLOW", &rule(index)), Err(expected));
        }
    }

    #[test]
    fn a_listener_is_there_exactly_if_something_is_notified() {
        let rule = |action: &str| format!(r#"{{"names": ["mkdir"], "action": "{action}"}}"#);
        let notifying = with_rule("SCMP_ACT_ALLOW", &rule("SCMP_ACT_NOTIFY")).unwrap();
        assert!(notifying.notify());
        assert_eq!(notifying.listener_path, Some("/a".into()));
        let other = with_rule("SCMP_ACT_ALLOW", &rule("SCMP_ACT_LOG")).unwrap();
        assert_eq!((other.notify(), other.listener_path), (false, None));
        let nobody =
            format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#, rule("SCMP_ACT_NOTIFY"));
        assert_eq!(compile(&nobody), Err(CompileError::NoListener));
        assert_eq!(with_rule("SCMP_ACT_NOTIFY", &rule("SCMP_ACT_LOG")), Err(CompileError::NotifyByDefault));
    }

    #[test]
    fn flags_are_combined_as_the_kernel_takes_them() {
        use Flag::{
            SeccompFilterFlagLog as Log, SeccompFilterFlagSpecAllow as SpecAllow,
            SeccompFilterFlagTsync as Tsync, SeccompFilterFlagWaitKillableRecv as WaitKillable,
        };
        for (listed, notify, expected) in [
            (None, false, FLAG_SPEC_ALLOW),
            (Some(&[][..]), false, 0),
            (Some(&[Log, Tsync, SpecAllow]), false, FLAG_LOG | FLAG_TSYNC | FLAG_SPEC_ALLOW),
            (Some(&[WaitKillable]), false, 0),
            (Some(&[WaitKillable]), true, FLAG_WAIT_KILLABLE_RECV | FLAG_NEW_LISTENER),
            (Some(&[Tsync]), true, FLAG_TSYNC | FLAG_NEW_LISTENER | FLAG_TSYNC_ESRCH),
        ] {
            assert_eq!(flags(listed, notify), expected, "{listed:?} {notify}");
        }
    }

    #[test]
    fn a_program_the_kernel_would_not_take_is_refused() {
        let args = |seed: usize| {
            let arg = |index: usize| {
                format!(r#"{{"index": {index}, "value": {}, "op": "SCMP_CMP_EQ"}}"#, seed * 10 + index)
            };
            (0..6).map(arg).collect::<Vec<_>>().join(",")
        };
        let rule = |seed: usize| {
            format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{}]}}"#, args(seed))
        };
        let rules = |count: usize| (0..count).map(rule).collect::<Vec<_>>().join(",");
        assert!(with_rule("SCMP_ACT_ERRNO", &rules(50)).is_ok());
        assert!(matches!(with_rule("SCMP_ACT_ERRNO", &rules(200)), Err(CompileError::TooLong(_))));
    }

    #[test]
    fn strictness_is_the_kernels_order() {
        let order =
            [0x8000_0000, 0, 0x0003_0000, 0x0005_0001, 0x7fc0_0000, 0x7ff0_0000, 0x7ffc_0000, 0x7fff_0000];
        assert!(order.is_sorted_by(|stricter, laxer| strictness(*stricter) > strictness(*laxer)));
    }
}
