//! Device rules as a program of cgroup v2 (`BPF_PROG_TYPE_CGROUP_DEVICE`).
//!
//! The kernel runs it at every open and mknod of a device, with `struct bpf_cgroup_dev_ctx` in r1: `access_type` (kind
//! in the low 16 bits, access in the high ones), `major`, `minor`. It allows by returning 1. The last rule that
//! matches decides, so rules are tested from the last to the first.

use std::io;

use cleat_sys::bpf;
use cleat_sys::cgroup::Cgroup;

use super::ResourceError;
use super::devices::{DeviceKind, DeviceRule};

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`.
const KIND_BLOCK: i32 = 1;
const KIND_CHARACTER: i32 = 2;
/// `BPF_DEVCG_ACC_*`.
const ACCESS: [(char, i32); 3] = [('m', 1), ('r', 2), ('w', 4)];
const ACCESS_ALL: i32 = 7;

// Operation codes (linux/bpf_common.h, linux/bpf.h).
const LOAD_WORD: u8 = 0x61; // LDX | MEM | W
const MOVE_IMMEDIATE: u8 = 0xb7; // ALU64 | MOV | K
const MOVE32_REGISTER: u8 = 0xbc; // ALU | MOV | X
const AND32_IMMEDIATE: u8 = 0x54; // ALU | AND | K
const SHIFT32_RIGHT: u8 = 0x74; // ALU | RSH | K
const JUMP_NOT_EQUAL: u8 = 0x55; // JMP | JNE | K
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5d; // JMP | JNE | X
const EXIT: u8 = 0x95;

// Registers as the program uses them.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const WANTED: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

/// Compiles the rules and attaches the program to the container's cgroup2 folder.
pub(super) fn attach(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<(), ResourceError> {
    let folder = cgroup.v2_dir_fd().map_err(ResourceError::Cgroup)?;
    let folder = folder.ok_or(ResourceError::Unsupported("devices"))?;
    let bytes: Vec<u8> = compile(rules).iter().flat_map(Instruction::bytes).collect();
    let failed = |what| move |source: io::Error| ResourceError::DeviceProgram(what, source);
    let program = bpf::load_device_program(&bytes).map_err(failed("load"))?;
    bpf::attach_device_program(&folder, &program).map_err(failed("attach"))
}

/// `struct bpf_insn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    destination: u8,
    source: u8,
    offset: i16,
    immediate: i32,
}

impl Instruction {
    const fn new(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Self {
        Self { code, destination, source, offset, immediate }
    }

    fn bytes(&self) -> [u8; 8] {
        // The two registers share a byte; which half is which depends on the byte order.
        let registers = if cfg!(target_endian = "little") {
            self.source << 4 | self.destination
        } else {
            self.destination << 4 | self.source
        };
        let [a, b] = self.offset.to_ne_bytes();
        let [c, d, e, f] = self.immediate.to_ne_bytes();
        [self.code, registers, a, b, c, d, e, f]
    }
}

fn compile(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        Instruction::new(LOAD_WORD, KIND, CONTEXT, 0, 0),
        Instruction::new(MOVE32_REGISTER, WANTED, KIND, 0, 0),
        Instruction::new(AND32_IMMEDIATE, KIND, 0, 0, 0xffff),
        Instruction::new(SHIFT32_RIGHT, WANTED, 0, 0, 16),
        Instruction::new(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        Instruction::new(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(rule_block(rule));
        if rule.is_everything() {
            // It has decided; the verifier refuses code that cannot be reached.
            return program;
        }
    }
    // No rule: what a cgroup without a program would do.
    program.extend(verdict(true));
    program
}

/// The tests of one rule, each of which jumps behind the block when it fails, and its verdict.
///
/// Access wanted has to be a part of what the rule names: a denial of reading alone does not deny what also writes as
/// long as a rule before it decides otherwise.
fn rule_block(rule: &DeviceRule) -> Vec<Instruction> {
    let mut tests: Vec<Vec<Instruction>> = Vec::new();
    let unequal =
        |register, value: u32| vec![Instruction::new(JUMP_NOT_EQUAL, register, 0, 0, value.cast_signed())];
    match rule.kind {
        DeviceKind::Any => {}
        DeviceKind::Block => tests.push(unequal(KIND, KIND_BLOCK.cast_unsigned())),
        DeviceKind::Character => tests.push(unequal(KIND, KIND_CHARACTER.cast_unsigned())),
    }
    let access =
        ACCESS.iter().filter(|(letter, _)| rule.access.contains(*letter)).fold(0, |all, (_, bit)| all | bit);
    if access != ACCESS_ALL {
        tests.push(vec![
            Instruction::new(MOVE32_REGISTER, SCRATCH, WANTED, 0, 0),
            Instruction::new(AND32_IMMEDIATE, SCRATCH, 0, 0, access),
            Instruction::new(JUMP_NOT_EQUAL_REGISTER, SCRATCH, WANTED, 0, 0),
        ]);
    }
    tests.extend(rule.major.map(|major| unequal(MAJOR, major)));
    tests.extend(rule.minor.map(|minor| unequal(MINOR, minor)));
    let mut block: Vec<Instruction> = tests.concat();
    block.extend(verdict(rule.allow));
    let length = block.len();
    for (index, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER) {
            instruction.offset =
                i16::try_from(length - index - 1).expect("a block has at most nine instructions");
        }
    }
    block
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [Instruction::new(MOVE_IMMEDIATE, RESULT, 0, 0, allow.into()), Instruction::new(EXIT, 0, 0, 0, 0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a compiled program as the kernel would.
    fn allows(program: &[Instruction], kind: i32, wanted: i32, major: u32, minor: u32) -> bool {
        let context = [(wanted << 16 | kind).cast_unsigned(), major, minor];
        let mut registers = [0u64; 7];
        let mut next = 0;
        loop {
            let Instruction { code, destination, source, offset, immediate } = program[next];
            let (to, from) = (usize::from(destination), usize::from(source));
            let jump = usize::try_from(offset).unwrap();
            next += 1;
            match code {
                LOAD_WORD => registers[to] = u64::from(context[jump / 4]),
                MOVE_IMMEDIATE => registers[to] = u64::from(immediate.cast_unsigned()),
                MOVE32_REGISTER => registers[to] = registers[from] & 0xffff_ffff,
                AND32_IMMEDIATE => registers[to] &= u64::from(immediate.cast_unsigned()),
                SHIFT32_RIGHT => registers[to] = (registers[to] & 0xffff_ffff) >> immediate,
                JUMP_NOT_EQUAL if registers[to] != u64::from(immediate.cast_unsigned()) => next += jump,
                JUMP_NOT_EQUAL_REGISTER if registers[to] != registers[from] => next += jump,
                JUMP_NOT_EQUAL | JUMP_NOT_EQUAL_REGISTER => {}
                EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    fn rule(
        allow: bool,
        kind: DeviceKind,
        major: Option<u32>,
        minor: Option<u32>,
        access: &str,
    ) -> DeviceRule {
        DeviceRule { allow, kind, major, minor, access: access.into() }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let program = compile(&[
            rule(false, DeviceKind::Any, None, None, "rwm"),
            rule(true, DeviceKind::Character, Some(1), Some(3), "rw"),
            rule(true, DeviceKind::Character, Some(136), None, "rwm"),
            rule(false, DeviceKind::Character, Some(136), Some(7), "rwm"),
        ]);
        for (kind, wanted, major, minor, expected) in [
            (KIND_CHARACTER, 2, 1, 3, true),
            (KIND_CHARACTER, 6, 1, 3, true),
            (KIND_CHARACTER, 1, 1, 3, false),
            (KIND_BLOCK, 2, 1, 3, false),
            (KIND_CHARACTER, 7, 136, 9, true),
            (KIND_CHARACTER, 2, 136, 7, false),
            (KIND_BLOCK, 2, 8, 0, false),
        ] {
            assert_eq!(
                allows(&program, kind, wanted, major, minor),
                expected,
                "{kind} {wanted} {major}:{minor}"
            );
        }
    }

    #[test]
    fn without_a_rule_everything_is_allowed() {
        assert!(allows(&compile(&[]), KIND_BLOCK, 7, 8, 0));
    }

    /// The kernel's verifier is the judge; nothing is attached.
    #[test]
    fn privileged_the_kernel_accepts_the_program() {
        let rules: Vec<_> = (0..60)
            .map(|minor| rule(minor % 2 == 0, DeviceKind::Character, Some(1), Some(minor), "rw"))
            .chain([
                rule(false, DeviceKind::Any, None, None, "rwm"),
                rule(true, DeviceKind::Block, None, None, "m"),
            ])
            .collect();
        let bytes: Vec<u8> = compile(&rules).iter().flat_map(Instruction::bytes).collect();
        bpf::load_device_program(&bytes).unwrap();
    }
}
