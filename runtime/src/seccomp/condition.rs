//! Conditions on arguments: 64-bit values, compared with a machine that has 32-bit words.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};

use super::assembler::{Assembler, Target};

/// Offset of the first argument in `struct seccomp_data`, and what one takes, bytes.
const DATA_ARGUMENTS: u32 = 16;
const ARGUMENT_BYTES: u32 = 8;

/// Offsets of an argument's halves.
const LOWER: u32 = if cfg!(target_endian = "little") { 0 } else { 4 };
const UPPER: u32 = 4 - LOWER;

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Test {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Equal in the bits of this mask.
    Masked(u64),
}

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Condition {
    /// Which one, 0 to 5.
    pub(super) argument: u8,
    pub(super) test: Test,
    pub(super) value: u64,
    /// Only the lower half counts, because the kernel looks at no more.
    pub(super) narrow: bool,
}

/// What happens to a call if all conditions hold; none hold always.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Clause {
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: u32,
}

/// What happens to a call that is judged by its arguments: the first clause that holds counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Judgement {
    pub(super) clauses: Vec<Clause>,
    /// Where no clause holds.
    pub(super) otherwise: u32,
}

/// Judgements that have been written: the same one serves every architecture.
#[derive(Debug, Default)]
pub(super) struct Judgements(HashMap<Judgement, Target>);

impl Condition {
    /// A condition of the specification; `None` if it names an argument there is not.
    pub(super) fn from_oci(arg: &LinuxSeccompArg) -> Option<Self> {
        let argument = u8::try_from(arg.index()).ok().filter(|&index| index < 6)?;
        let (test, value) = match arg.op() {
            Operator::ScmpCmpNe => (Test::NotEqual, arg.value()),
            Operator::ScmpCmpLt => (Test::Less, arg.value()),
            Operator::ScmpCmpLe => (Test::LessOrEqual, arg.value()),
            Operator::ScmpCmpEq => (Test::Equal, arg.value()),
            Operator::ScmpCmpGe => (Test::GreaterOrEqual, arg.value()),
            Operator::ScmpCmpGt => (Test::Greater, arg.value()),
            Operator::ScmpCmpMaskedEq => (Test::Masked(arg.value()), arg.value_two().unwrap_or(0)),
        };
        Some(Self { argument, test, value, narrow: false })
    }

    /// The same, looking at the lower half only.
    pub(super) fn narrowed(self) -> Self {
        Self { narrow: true, ..self }
    }

    fn emit(&self, assembler: &mut Assembler, yes: Target, no: Target) -> Target {
        match self.test {
            Test::Equal => self.equal(assembler, u64::MAX, yes, no),
            Test::NotEqual => self.equal(assembler, u64::MAX, no, yes),
            Test::Masked(mask) => self.equal(assembler, mask, yes, no),
            Test::GreaterOrEqual => self.ordered(assembler, Assembler::if_at_least, yes, no),
            Test::Less => self.ordered(assembler, Assembler::if_at_least, no, yes),
            Test::Greater => self.ordered(assembler, Assembler::if_greater, yes, no),
            Test::LessOrEqual => self.ordered(assembler, Assembler::if_greater, no, yes),
        }
    }

    fn equal(&self, assembler: &mut Assembler, mask: u64, yes: Target, no: Target) -> Target {
        let lower = self.half_equal(assembler, LOWER, (lower(mask), lower(self.value)), (yes, no));
        if self.narrow {
            return lower;
        }
        self.half_equal(assembler, UPPER, (upper(mask), upper(self.value)), (lower, no))
    }

    /// One half, `(mask, value)`; bits of the value outside the mask do not count.
    fn half_equal(
        &self,
        assembler: &mut Assembler,
        half: u32,
        (mask, value): (u32, u32),
        (yes, no): (Target, Target),
    ) -> Target {
        let compared = match mask {
            0 => return yes,
            _ => assembler.if_equal(value & mask, yes, no),
        };
        let masked = if mask == u32::MAX { compared } else { assembler.and(mask, compared) };
        assembler.load(self.offset(half), masked)
    }

    /// `last` compares the lower halves where the upper ones are equal.
    fn ordered(
        &self,
        assembler: &mut Assembler,
        last: fn(&mut Assembler, u32, Target, Target) -> Target,
        yes: Target,
        no: Target,
    ) -> Target {
        let compared = last(assembler, lower(self.value), yes, no);
        let lower = assembler.load(self.offset(LOWER), compared);
        if self.narrow {
            return lower;
        }
        let equal = assembler.if_equal(upper(self.value), lower, no);
        let greater = assembler.if_greater(upper(self.value), yes, equal);
        assembler.load(self.offset(UPPER), greater)
    }

    fn offset(&self, half: u32) -> u32 {
        DATA_ARGUMENTS + u32::from(self.argument) * ARGUMENT_BYTES + half
    }
}

impl Judgements {
    /// Writes a judgement, unless it has been written.
    pub(super) fn emit(&mut self, assembler: &mut Assembler, judgement: &Judgement) -> Target {
        if let Some(written) = self.0.get(judgement) {
            return *written;
        }
        let mut next = Target::Verdict(judgement.otherwise);
        for clause in judgement.clauses.iter().rev() {
            let holds = Target::Verdict(clause.verdict);
            let conditions = clause.conditions.iter().rev();
            next = conditions.fold(holds, |yes, condition| condition.emit(assembler, yes, next));
        }
        self.0.insert(judgement.clone(), next);
        next
    }
}

fn lower(value: u64) -> u32 {
    (value & u64::from(u32::MAX)) as u32
}

fn upper(value: u64) -> u32 {
    (value >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Data, run};
    use super::*;

    const TESTS: [Test; 9] = [
        Test::Equal,
        Test::NotEqual,
        Test::Less,
        Test::LessOrEqual,
        Test::Greater,
        Test::GreaterOrEqual,
        Test::Masked(u64::MAX),
        Test::Masked(0xff00_0000_0001),
        Test::Masked(0x7e02_0000),
    ];

    const VALUES: [u64; 11] = [
        0,
        1,
        2,
        0x7e02_0000,
        0xffff_fffe,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0xff00_0000_0001,
        u64::MAX - 1,
        u64::MAX,
    ];

    fn expected(condition: &Condition, argument: u64) -> bool {
        let half = |value: u64| if condition.narrow { value & 0xffff_ffff } else { value };
        let (argument, value) = (half(argument), half(condition.value));
        match condition.test {
            Test::Equal => argument == value,
            Test::NotEqual => argument != value,
            Test::Less => argument < value,
            Test::LessOrEqual => argument <= value,
            Test::Greater => argument > value,
            Test::GreaterOrEqual => argument >= value,
            Test::Masked(mask) => argument & half(mask) == value & half(mask),
        }
    }

    fn verdict(judgement: &Judgement, arguments: [u64; 6]) -> u32 {
        let mut assembler = Assembler::default();
        let entry = Judgements::default().emit(&mut assembler, judgement);
        assembler.load(0, entry);
        run(&assembler.finish(), &Data { arguments, ..Data::default() })
    }

    #[test]
    fn every_comparison_is_that_of_64_bit_numbers() {
        for test in TESTS {
            for value in VALUES {
                for narrow in [false, true] {
                    let condition = Condition { argument: 3, test, value, narrow };
                    let judgement = Judgement {
                        clauses: vec![Clause { conditions: vec![condition], verdict: 1 }],
                        otherwise: 0,
                    };
                    for argument in VALUES {
                        let arguments = [9, 9, 9, argument, 9, 9];
                        let holds = expected(&condition, argument);
                        assert_eq!(
                            verdict(&judgement, arguments),
                            u32::from(holds),
                            "{condition:?} {argument:#x}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn conditions_are_all_needed_and_the_first_clause_counts() {
        let is = |argument, value| Condition { argument, test: Test::Equal, value, narrow: false };
        let judgement = Judgement {
            clauses: vec![
                Clause { conditions: vec![is(0, 1), is(5, 2)], verdict: 10 },
                Clause { conditions: vec![is(0, 1)], verdict: 20 },
                Clause { conditions: vec![is(5, 2)], verdict: 30 },
            ],
            otherwise: 40,
        };
        for (first, last, expected) in [(1, 2, 10), (1, 3, 20), (2, 2, 30), (2, 3, 40)] {
            assert_eq!(verdict(&judgement, [first, 0, 0, 0, 0, last]), expected);
        }
    }

    #[test]
    fn a_judgement_is_written_once() {
        let condition = Condition { argument: 0, test: Test::Less, value: 38, narrow: true };
        let clauses = vec![Clause { conditions: vec![condition], verdict: 1 }];
        let judgement = Judgement { clauses, otherwise: 0 };
        let (mut assembler, mut judgements) = (Assembler::default(), Judgements::default());
        let first = judgements.emit(&mut assembler, &judgement);
        assert_eq!(judgements.emit(&mut assembler, &judgement), first);
        assert_eq!(assembler.finish().len(), 4);
    }
}
