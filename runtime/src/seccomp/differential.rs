//! Compiled filters against libseccomp's: the same verdict for every number, but for the differences that are meant.

use std::collections::HashMap;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction as Action};
use serde::Deserialize;

use super::architecture::{ARM_PRIVATE_BASE, Architecture, Call};
use super::filter::Filter;
use super::machine::{Data, run};
use super::numbers::NUMBERS;
use super::{KILL_PROCESS, compile_for};

/// Made by hack/generate-seccomp-verdicts.py.
const VERDICTS: &str = include_str!("testdata/libseccomp.json");

const ENOSYS: u32 = 0x0005_0026;
const KILL_THREAD: u32 = 0;

#[derive(Deserialize)]
struct Golden {
    /// Numbers libseccomp has no name for, by the architecture's name.
    unknown: HashMap<String, Vec<u32>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    section: LinuxSeccomp,
    length: usize,
    arguments: Vec<[u64; 6]>,
    verdicts: Vec<Verdicts>,
}

#[derive(Deserialize)]
struct Verdicts {
    architecture: Arch,
    runs: Vec<(u32, u32, u32)>,
    differences: Vec<Vec<(u32, u32)>>,
}

impl Case {
    fn native(&self) -> Architecture {
        architecture(self.section.architectures().as_ref().unwrap()[0])
    }

    fn compile(&self) -> Filter {
        compile_for(&self.section, self.native()).unwrap()
    }

    /// The greatest number the section names on an architecture.
    fn newest(&self, architecture: Architecture) -> u32 {
        let rules = self.section.syscalls().iter().flatten();
        let numbers =
            rules.flat_map(|rule| rule.names()).filter_map(|name| Call::named(name).number(architecture));
        numbers
            .filter(|number| *number < ARM_PRIVATE_BASE || architecture != Architecture::Arm)
            .max()
            .unwrap()
    }
}

fn architecture(arch: Arch) -> Architecture {
    Architecture::from_oci(arch, Architecture::X86_64).unwrap()
}

fn golden() -> Golden {
    serde_json::from_str(VERDICTS).unwrap()
}

fn data(architecture: Architecture, number: u32, arguments: [u64; 6]) -> Data {
    Data { number, architecture: architecture.token(), arguments, ..Data::default() }
}

/// What libseccomp says, run by run and difference by difference.
fn expected(verdicts: &Verdicts, set: usize) -> Vec<u32> {
    let mut list = Vec::new();
    for &(first, last, verdict) in &verdicts.runs {
        list.extend((first..=last).map(|_| verdict));
    }
    for &(number, verdict) in &verdicts.differences[set] {
        list[number as usize] = verdict;
    }
    list
}

/// Compares all verdicts of one architecture; the number of those that could be compared.
fn compare(case: &Case, verdicts: &Verdicts, unknown: &[u32]) -> usize {
    let filter = case.compile();
    let architecture = architecture(verdicts.architecture);
    let newest = case.newest(architecture);
    let named = |number: u32| NUMBERS.iter().any(|(_, row)| u32::from(row[architecture as usize]) == number);
    let mut compared = 0;
    for (set, arguments) in case.arguments.iter().enumerate() {
        for (number, theirs) in (0..).zip(expected(verdicts, set)) {
            let whole = number | architecture.base();
            let ours = run(&filter.instructions, &data(architecture, whole, *arguments));
            let newer_than_the_profile = ours == ENOSYS && whole > newest;
            let newer_than_libseccomp = unknown.contains(&number) && named(number);
            if !newer_than_the_profile && !newer_than_libseccomp {
                let call = || format!("{}: {architecture:?} {number} with {arguments:?}", case.name);
                assert_eq!(ours, theirs, "{}: {ours:#x}, libseccomp {theirs:#x}", call());
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn every_number_has_libseccomps_verdict() {
    let golden = golden();
    let mut compared = 0;
    for case in &golden.cases {
        for verdicts in &case.verdicts {
            compared += compare(case, verdicts, &golden.unknown[&verdicts.architecture.to_string()]);
        }
    }
    assert!(compared > 300_000, "only {compared} verdicts were compared");
}

#[test]
fn the_default_profile_is_short() {
    for case in &golden().cases[..4] {
        let ours = case.compile().instructions.len();
        println!("{}: {ours} instructions, libseccomp {}", case.name, case.length);
        assert!(ours < 450 && ours < case.length, "{}: {ours} instructions", case.name);
    }
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    for case in &golden().cases[..4] {
        let filter = case.compile();
        for architecture in case.verdicts.iter().map(|verdicts| architecture(verdicts.architecture)) {
            let newest = case.newest(architecture);
            let verdict = |number| run(&filter.instructions, &data(architecture, number, [0; 6]));
            assert_eq!(verdict(newest), 0x7fff_0000, "{}", case.name);
            for number in [newest + 1, newest + 1000] {
                assert_eq!(verdict(number), ENOSYS, "{} {architecture:?}", case.name);
            }
        }
    }
}

#[test]
fn other_architectures_are_killed() {
    let default = case_of("default profile, SCMP_ARCH_X86_64, usual capabilities");
    let filter = default.compile();
    assert_eq!(run(&filter.instructions, &data(Architecture::Aarch64, 0, [0; 6])), KILL_PROCESS);

    let mut without_x32 = default.section.clone();
    without_x32.set_architectures(Some(vec![Arch::ScmpArchX86_64]));
    let filter = compile_for(&without_x32, Architecture::X86_64).unwrap();
    let verdict = |architecture, number| run(&filter.instructions, &data(architecture, number, [0; 6]));
    assert_eq!(verdict(Architecture::X86, 3), KILL_PROCESS);
    assert_eq!(verdict(Architecture::X32, 0x4000_0000), KILL_PROCESS);
    assert_eq!(verdict(Architecture::X32, u32::MAX - 1), KILL_PROCESS);
    assert_eq!(verdict(Architecture::X86_64, u32::MAX), 0x0005_0001);
    assert_eq!(verdict(Architecture::X86_64, 0), 0x7fff_0000);
}

#[test]
fn calls_libseccomp_does_not_know_are_allowed_by_name() {
    let filter = case_of("default profile, SCMP_ARCH_X86_64, usual capabilities").compile();
    for name in ["mseal", "listmount", "setxattrat", "uretprobe", "lsm_list_modules"] {
        let number = Call::named(name).number(Architecture::X86_64).unwrap();
        let verdict = run(&filter.instructions, &data(Architecture::X86_64, number, [0; 6]));
        let needs_admin = name == "lsm_list_modules";
        assert_eq!(verdict == 0x7fff_0000, !needs_admin, "{name}: {verdict:#x}");
    }
}

#[test]
fn an_int_has_no_upper_half_to_hide_behind() {
    let filter = case_of("default profile, SCMP_ARCH_X86_64, usual capabilities").compile();
    for architecture in [Architecture::X86_64, Architecture::X32] {
        let socket = Call::named("socket").number(architecture).unwrap();
        for (family, allowed) in [
            (2, true),
            (38, false),
            (39, true),
            (40, false),
            (0x1_0000_0026, false),
            (0xffff_ffff_0000_0028, false),
        ] {
            let verdict = run(&filter.instructions, &data(architecture, socket, [family, 0, 0, 0, 0, 0]));
            assert_eq!(verdict == 0x7fff_0000, allowed, "{architecture:?} {family:#x}");
        }
    }
}

fn case_of(name: &str) -> Case {
    golden().cases.into_iter().find(|case| case.name == name).unwrap()
}

fn section(json: &str) -> LinuxSeccomp {
    serde_json::from_str(json).unwrap()
}

fn verdict_of(section: &LinuxSeccomp, architecture: Architecture, name: &str, first: u64) -> u32 {
    let filter = compile_for(section, Architecture::X86_64).unwrap();
    let number = Call::named(name).number(architecture).unwrap();
    run(&filter.instructions, &data(architecture, number, [first, 0, 0, 0, 0, 0]))
}

#[test]
fn a_refusal_cannot_be_walked_around_through_a_multiplexer() {
    let refusing = section(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
            "syscalls": [{"names": ["bind", "shmat"], "action": "SCMP_ACT_ERRNO"},
                         {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 38, "op": "SCMP_CMP_EQ"}]}]}"#,
    );
    let verdict = |name, first| verdict_of(&refusing, Architecture::X86, name, first) == 0x0005_0001;
    for (name, first, refused) in [
        ("socketcall", 1, true),
        ("socketcall", 2, true),
        ("socketcall", 3, false),
        ("ipc", 21, true),
        ("ipc", 0x1_0015, true),
        ("ipc", 22, false),
        ("socket", 38, true),
        ("socket", 2, false),
    ] {
        assert_eq!(verdict(name, first), refused, "{name} {first:#x}");
    }
}

#[test]
fn rules_of_one_call_combine_as_in_libseccomp() {
    let rules = |rules: &str| {
        section(&format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{rules}]}}"#
        ))
    };
    let on = |value: u64, action: &str| {
        format!(
            r#"{{"names": ["prctl"], "action": "{action}", "args": [{{"index": 0, "value": {value}, "op": "SCMP_CMP_LE"}}]}}"#
        )
    };
    let always = |action: &str| format!(r#"{{"names": ["prctl", "no_such_call"], "action": "{action}"}}"#);
    let (log, trap, allow, default) = (0x7ffc_0000, 0x0003_0000, 0x7fff_0000, ENOSYS);
    for (text, first, expected) in [
        (vec![on(1, "SCMP_ACT_LOG"), on(5, "SCMP_ACT_TRAP")], 1, log),
        (vec![on(1, "SCMP_ACT_LOG"), on(5, "SCMP_ACT_TRAP")], 2, trap),
        (vec![on(1, "SCMP_ACT_LOG"), on(5, "SCMP_ACT_TRAP")], 6, default),
        (vec![on(1, "SCMP_ACT_LOG"), always("SCMP_ACT_ALLOW")], 1, allow),
        (vec![always("SCMP_ACT_ALLOW"), always("SCMP_ACT_TRAP")], 1, allow),
    ] {
        let section = rules(&text.join(","));
        assert_eq!(verdict_of(&section, Architecture::X86_64, "prctl", first), expected, "{text:?} {first}");
    }
    let alternatives = rules(
        r#"{"names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 0, "value": 3, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 9, "op": "SCMP_CMP_EQ"}]}"#,
    );
    for (first, expected) in [(3, allow), (9, allow), (4, default)] {
        assert_eq!(verdict_of(&alternatives, Architecture::X86_64, "prctl", first), expected);
    }
}

#[test]
fn an_allowing_profile_leaves_new_calls_alone() {
    let section = section(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}]}"#,
    );
    let filter = compile_for(&section, Architecture::X86_64).unwrap();
    let verdict = |number| run(&filter.instructions, &data(Architecture::X86_64, number, [0; 6]));
    assert_eq!((verdict(0), verdict(1), verdict(4000)), (0x7ffc_0000, 0x7fff_0000, 0x7fff_0000));
}

#[test]
fn foreign_numbers_of_a_killing_profile_are_not_killed_for_being_new() {
    let mut section = section(
        r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [{"names": ["write"], "action": "SCMP_ACT_ALLOW"}]}"#,
    );
    let filter = compile_for(&section, Architecture::X86_64).unwrap();
    let verdict = |number| run(&filter.instructions, &data(Architecture::X86_64, number, [0; 6]));
    assert_eq!((verdict(0), verdict(1), verdict(2)), (KILL_THREAD, 0x7fff_0000, ENOSYS));
    section.set_default_action(Action::ScmpActKillProcess);
    let filter = compile_for(&section, Architecture::X86_64).unwrap();
    assert_eq!(run(&filter.instructions, &data(Architecture::X86_64, 0, [0; 6])), KILL_PROCESS);
}
