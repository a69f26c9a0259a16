//! Instructions, written from the last to the first.
//!
//! Classic BPF jumps forward only, and a comparison no further than 255 instructions. Writing backwards, every target
//! is known when a jump to it is written; one that is out of reach gets a stepping stone: a verdict is simply written
//! again, anything else is reached through an unconditional jump, whose distance has 32 bits.

use super::filter::Instruction;

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The furthest a comparison jumps, instructions skipped.
const REACH: usize = u8::MAX as usize;

/// Where execution goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// The filter ends with this return value.
    Verdict(u32),
    /// At an instruction that has been written: its position counted from the program's end.
    At(usize),
}

/// A program that grows at its front.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The foremost return with each value; there are a handful of values.
    verdicts: Vec<(u32, usize)>,
}

impl Assembler {
    /// Loads the word at `offset` of `struct seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.fall_through(next);
        self.push(LOAD_WORD, 0, 0, offset)
    }

    /// Keeps those bits of the loaded word that `mask` has, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: Target) -> Target {
        self.fall_through(next);
        self.push(AND, 0, 0, mask)
    }

    /// Compares the loaded word.
    pub(super) fn if_equal(&mut self, value: u32, yes: Target, no: Target) -> Target {
        self.branch(JUMP_EQUAL, value, yes, no)
    }

    /// Compares the loaded word, without a sign.
    pub(super) fn if_greater(&mut self, value: u32, yes: Target, no: Target) -> Target {
        self.branch(JUMP_GREATER, value, yes, no)
    }

    /// Compares the loaded word, without a sign.
    pub(super) fn if_at_least(&mut self, value: u32, yes: Target, no: Target) -> Target {
        self.branch(JUMP_GREATER_OR_EQUAL, value, yes, no)
    }

    /// The program, in the order of execution.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    fn branch(&mut self, code: u16, value: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Bringing `no` into reach can put one more instruction between here and `yes`.
        let yes = self.in_reach(yes, REACH - 1);
        let no = self.in_reach(no, REACH);
        let (jt, jf) = (self.skipped(yes), self.skipped(no));
        let short =
            |skipped: usize| u8::try_from(skipped).expect("in_reach brought it within 255 instructions");
        self.push(code, short(jt), short(jf), value)
    }

    /// An instruction that leads to `target` and is at most `reach` instructions away from the next one written.
    fn in_reach(&mut self, target: Target, reach: usize) -> usize {
        let known = match target {
            Target::Verdict(verdict) => {
                self.verdicts.iter().find(|(known, _)| *known == verdict).map(|(_, position)| *position)
            }
            Target::At(position) => Some(position),
        };
        match known {
            Some(position) if self.skipped(position) <= reach => position,
            _ => self.stepping_stone(target),
        }
    }

    /// Makes the next instruction written run into `target`.
    fn fall_through(&mut self, target: Target) {
        let foremost = self.reversed.len().checked_sub(1);
        if foremost.is_none() || target != Target::At(foremost.unwrap_or_default()) {
            self.stepping_stone(target);
        }
    }

    fn stepping_stone(&mut self, target: Target) -> usize {
        let position = self.reversed.len();
        match target {
            Target::Verdict(verdict) => {
                self.verdicts.retain(|(known, _)| *known != verdict);
                self.verdicts.push((verdict, position));
                self.push(RETURN, 0, 0, verdict);
            }
            Target::At(there) => {
                let skipped = u32::try_from(self.skipped(there)).unwrap_or(u32::MAX);
                self.push(JUMP, 0, 0, skipped);
            }
        }
        position
    }

    /// Number of instructions between the next one written and the one at `position`.
    fn skipped(&self, position: usize) -> usize {
        self.reversed.len() - position - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Target {
        self.reversed.push(Instruction { code, jt, jf, k });
        Target::At(self.reversed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Data, run};
    use super::*;

    fn number(number: u32) -> Data {
        Data { number, ..Data::default() }
    }

    #[test]
    fn equal_targets_need_no_comparison() {
        let mut assembler = Assembler::default();
        let target = assembler.if_equal(1, Target::Verdict(7), Target::Verdict(7));
        assert_eq!(target, Target::Verdict(7));
        assembler.load(0, target);
        assert_eq!(assembler.finish().len(), 2);
    }

    #[test]
    fn targets_out_of_reach_are_reached() {
        for distance in [0, 1, 253, 254, 255, 256, 257, 300, 600, 1500] {
            let mut assembler = Assembler::default();
            let far = assembler.load(0, Target::Verdict(1));
            let mut next = assembler.load(0, Target::Verdict(2));
            for value in 0..distance {
                next = assembler.and(u32::MAX - value, next);
            }
            let other = assembler.if_equal(5, far, next);
            let entry = assembler.if_equal(6, Target::Verdict(3), other);
            assembler.load(0, entry);
            let program = assembler.finish();
            for (given, verdict) in [(5, 1), (6, 3), (7, 2)] {
                assert_eq!(run(&program, &number(given)), verdict, "{given} over {distance}");
            }
        }
    }

    #[test]
    fn a_verdict_is_shared_while_in_reach() {
        let mut assembler = Assembler::default();
        let mut next = Target::Verdict(0);
        for value in 0..200 {
            next = assembler.if_equal(value, Target::Verdict(1), next);
        }
        assembler.load(0, next);
        assert_eq!(assembler.finish().len(), 203);
    }
}
