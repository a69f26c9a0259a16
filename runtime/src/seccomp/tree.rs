//! From outcomes by number to a balanced tree of comparisons.

use super::assembler::{Assembler, Target};
use super::condition::{Judgement, Judgements};

/// What happens to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Always this.
    Verdict(u32),
    /// It depends on its arguments.
    Judged(Judgement),
}

/// All numbers from `start` to the next range's start have one outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u32,
    pub(super) outcome: Outcome,
}

/// Lays single numbers over a background. Both are sorted; the background starts at 0.
pub(super) fn overlay(background: &[(u32, u32)], points: Vec<(u32, Outcome)>) -> Vec<Range> {
    let mut ranges = Vec::with_capacity(points.len() + background.len());
    let mut points = points.into_iter().peekable();
    for (index, &(start, verdict)) in background.iter().enumerate() {
        let end = background.get(index + 1).map_or(u64::from(u32::MAX) + 1, |(next, _)| u64::from(*next));
        push(&mut ranges, start, Outcome::Verdict(verdict));
        while let Some((number, outcome)) = points.next_if(|(number, _)| u64::from(*number) < end) {
            push(&mut ranges, number, outcome);
            if u64::from(number) + 1 < end {
                push(&mut ranges, number + 1, Outcome::Verdict(verdict));
            }
        }
    }
    ranges
}

/// Adds a range behind the others: over one with the same start, into one with the same outcome.
fn push(ranges: &mut Vec<Range>, start: u32, outcome: Outcome) {
    ranges.pop_if(|last| last.start == start);
    if ranges.last().is_none_or(|last| last.outcome != outcome) {
        ranges.push(Range { start, outcome });
    }
}

/// Writes the tree that finds the outcome of the loaded number.
pub(super) fn emit(assembler: &mut Assembler, judgements: &mut Judgements, ranges: &[Range]) -> Target {
    match ranges {
        [] => Target::Verdict(super::KILL_PROCESS),
        [Range { outcome: Outcome::Verdict(verdict), .. }] => Target::Verdict(*verdict),
        [Range { outcome: Outcome::Judged(judgement), .. }] => judgements.emit(assembler, judgement),
        _ => {
            let (lower, upper) = ranges.split_at(ranges.len() / 2);
            let (start, upper) = (upper[0].start, emit(assembler, judgements, upper));
            let lower = emit(assembler, judgements, lower);
            assembler.if_at_least(start, upper, lower)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::{Data, run};
    use super::*;

    fn verdicts(ranges: &[Range]) -> Vec<(u32, u32)> {
        ranges
            .iter()
            .map(|range| match &range.outcome {
                Outcome::Verdict(verdict) => (range.start, *verdict),
                Outcome::Judged(_) => panic!("not here"),
            })
            .collect()
    }

    fn points(list: &[(u32, u32)]) -> Vec<(u32, Outcome)> {
        list.iter().map(|(number, verdict)| (*number, Outcome::Verdict(*verdict))).collect()
    }

    #[test]
    fn neighbours_with_one_outcome_are_one_range() {
        for (background, given, expected) in [
            (&[(0, 9)][..], &[][..], vec![(0, 9)]),
            (
                &[(0, 9)],
                &[(0, 1), (1, 1), (2, 1), (5, 1), (6, 2)],
                vec![(0, 1), (3, 9), (5, 1), (6, 2), (7, 9)],
            ),
            (&[(0, 9)], &[(3, 9)], vec![(0, 9)]),
            (&[(0, 9), (10, 8)], &[(9, 1), (10, 1), (11, 8)], vec![(0, 9), (9, 1), (11, 8)]),
            (&[(0, 9), (10, 8)], &[(9, 8), (20, 9)], vec![(0, 9), (9, 8), (20, 9), (21, 8)]),
            (&[(0, 9), (10, 8)], &[(8, 1)], vec![(0, 9), (8, 1), (9, 9), (10, 8)]),
            (&[(0, 9), (u32::MAX, 8)], &[(u32::MAX, 1)], vec![(0, 9), (u32::MAX, 1)]),
        ] {
            assert_eq!(verdicts(&overlay(background, points(given))), expected);
        }
    }

    #[test]
    fn every_number_finds_its_range() {
        // Enough ranges that jumps over a half of the tree do not fit into eight bits.
        for count in [1, 2, 3, 7, 100, 1000] {
            let ranges: Vec<_> = (0..count)
                .map(|index| Range { start: index * 3, outcome: Outcome::Verdict(index % 251 + index / 251) })
                .collect();
            let mut assembler = Assembler::default();
            let entry = emit(&mut assembler, &mut Judgements::default(), &ranges);
            assembler.load(0, entry);
            let program = assembler.finish();
            for number in 0..count * 3 {
                let index = number / 3;
                let data = Data { number, ..Data::default() };
                assert_eq!(run(&program, &data), index % 251 + index / 251, "{number} of {count}");
            }
        }
    }
}
