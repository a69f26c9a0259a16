//! Seccomp: an OCI `linux.seccomp` section becomes a classic BPF program, without a library and without a cache.
//!
//! ```text
//! rules      names to numbers, actions to return values, one list of clauses per call and architecture
//! multiplex  the same for calls that i386 programs can also make through socketcall(2) and ipc(2)
//! tree       numbers with the same outcome merged into ranges, ranges into a balanced tree of comparisons
//! condition  clauses into comparisons of the halves of 64-bit arguments
//! assembler  all of it into instructions, from the last to the first, so that every target is known when it is needed
//! ```
//!
//! The program first looks at the architecture the call is made for, then at the number: some ten comparisons lead to
//! the verdict of any call that is not judged by its arguments. Loading it is cheap for the same reason: the kernel
//! runs a filter once for every number to learn which calls it always allows.
//!
//! What rules mean follows libseccomp and runc, whose users' profiles these are:
//! - a name that an architecture does not have is skipped;
//! - a rule whose action is the default one is skipped;
//! - among the rules of one call, the first without conditions counts and none with; without such a one, the first
//!   whose conditions all hold;
//! - several conditions on the same argument in one rule are alternatives, each a rule of its own;
//! - a call newer than every call a restrictive profile names fails with ENOSYS, so that a C library falls back to the
//!   older call it knows, instead of giving up on EPERM;
//! - a program of an architecture that is not listed is killed.
//!
//! In three things it is stricter: a comparison looks at no more of an argument than the kernel does (an `int` has no
//! upper half that could make it look greater), a program of a foreign architecture is killed as a process, not by the
//! thread, and a rule that permits a call under conditions does not open i386's detours to it (see `multiplex`).

mod architecture;
mod assembler;
mod condition;
mod filter;
mod multiplex;
mod numbers;
mod rules;
mod tree;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod machine;

use oci_spec::runtime::LinuxSeccomp;

use architecture::Architecture;
use assembler::{Assembler, Target};
use condition::Judgements;
pub use filter::{Filter, FormatError, Instruction, MAX_INSTRUCTIONS};
pub use rules::CompileError;
use rules::Policy;

/// `SECCOMP_RET_KILL_PROCESS`.
const KILL_PROCESS: u32 = 0x8000_0000;

/// Offset of the call's number in `struct seccomp_data`, bytes.
const DATA_NUMBER: u32 = 0;

/// Offset of the architecture in `struct seccomp_data`, bytes.
const DATA_ARCHITECTURE: u32 = 4;

/// Compiles a filter for the architecture this program runs on.
///
/// # Errors
/// When this architecture has no table of calls here, a rule is malformed, or the program would be longer than the
/// kernel takes.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Filter, CompileError> {
    let native = Architecture::native().ok_or(CompileError::UnsupportedMachine(std::env::consts::ARCH))?;
    compile_for(seccomp, native)
}

/// Compiles a filter for a machine of architecture `native`.
fn compile_for(seccomp: &LinuxSeccomp, native: Architecture) -> Result<Filter, CompileError> {
    let policy = Policy::new(seccomp, native)?;
    let (mut assembler, mut judgements) = (Assembler::default(), Judgements::default());
    let mut next = Target::Verdict(KILL_PROCESS);
    for token in policy.tokens() {
        let tree = tree::emit(&mut assembler, &mut judgements, &policy.ranges(token));
        let body = assembler.load(DATA_NUMBER, tree);
        next = assembler.if_equal(token, body, next);
    }
    assembler.load(DATA_ARCHITECTURE, next);
    let instructions = assembler.finish();
    if instructions.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong(instructions.len()));
    }
    Ok(policy.filter(instructions))
}
