//! Compares two answers to one command line with the differences that were expected.

use std::fmt;

use crate::side::Answer;
use crate::table::{Aspect, Row};

/// What is not as expected in the answers to one row.
pub(crate) struct Verdict<'a> {
    row: &'a Row,
    theirs: &'a Answer,
    ours: &'a Answer,
    /// Differs, and nobody said so.
    unexpected: Vec<Aspect>,
    /// Was said to differ, and does not.
    gone: Vec<Aspect>,
}

impl<'a> Verdict<'a> {
    pub(crate) fn of(row: &'a Row, theirs: &'a Answer, ours: &'a Answer) -> Self {
        let mut verdict = Self { row, theirs, ours, unexpected: Vec::new(), gone: Vec::new() };
        for aspect in Aspect::ALL {
            let expected = row.differences.iter().any(|difference| difference.aspects.contains(&aspect));
            let differs = theirs.aspect(aspect) != ours.aspect(aspect);
            match (expected, differs) {
                (false, true) => verdict.unexpected.push(aspect),
                (true, false) => verdict.gone.push(aspect),
                _ => {}
            }
        }
        verdict
    }

    pub(crate) fn is_as_expected(&self) -> bool {
        self.unexpected.is_empty() && self.gone.is_empty()
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}: {}", self.row.number, self.row.line)?;
        for aspect in &self.unexpected {
            for (name, answer) in [("dockerd", self.theirs), ("cleatd", self.ours)] {
                let text = answer.aspect(*aspect).replace('\n', "\n      ");
                writeln!(f, "  {} of {name}:\n      {text}", aspect.name())?;
            }
        }
        for aspect in &self.gone {
            writeln!(f, "  {} differs no more: take the reason out of the table", aspect.name())?;
        }
        Ok(())
    }
}
