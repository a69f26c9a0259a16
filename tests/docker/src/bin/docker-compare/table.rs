//! The command lines, and the differences that are right.
//!
//! ```text
//! # a comment
//! == the name of a group
//! docker run --rm busybox true
//! docker info -f '{{.Driver}}'
//!   ! out: the reason why the outputs differ
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What of an answer may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Aspect {
    /// The exit code.
    Code,
    /// The standard output.
    Out,
    /// The error output.
    Err,
    /// The containers and images that are there afterwards.
    State,
}

/// A difference that is right, or at least known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    pub(crate) aspects: Vec<Aspect>,
    pub(crate) reason: String,
}

/// One command line for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its line in the file.
    pub(crate) number: usize,
    pub(crate) line: String,
    pub(crate) differences: Vec<Difference>,
}

/// Command lines that follow each other; a group begins without containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) rows: Vec<Row>,
}

/// All groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) groups: Vec<Group>,
}

impl Aspect {
    /// In the order they are told.
    pub(crate) const ALL: [Self; 4] = [Self::Code, Self::Out, Self::Err, Self::State];

    /// Its name in the file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Out => "out",
            Self::Err => "err",
            Self::State => "state",
        }
    }
}

impl Table {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let mut groups: Vec<Group> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix("== ") {
                groups.push(Group { name: name.trim().to_owned(), rows: Vec::new() });
                continue;
            }
            let rows = &mut groups.last_mut().with_context(|| format!("line {number} has no group"))?.rows;
            match line.trim_start().strip_prefix("! ") {
                Some(mark) => {
                    let difference = difference(mark).with_context(|| format!("line {number}"))?;
                    let row = rows.last_mut().with_context(|| format!("line {number} has no command"))?;
                    row.differences.push(difference);
                }
                None => rows.push(Row { number, line: line.trim().to_owned(), differences: Vec::new() }),
            }
        }
        Ok(Self { groups })
    }

    /// Drops the groups whose name has not `words` in it.
    pub(crate) fn keep(&mut self, words: &str) {
        self.groups.retain(|group| group.name.contains(words));
    }

    /// All rows in order.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.groups.iter().flat_map(|group| &group.rows)
    }
}

/// `out, err: the reason`.
fn difference(mark: &str) -> Result<Difference> {
    let (names, reason) = mark.split_once(": ").context("a difference is written `! out, err: reason`")?;
    let mut aspects = Vec::new();
    for name in names.split(", ") {
        match Aspect::ALL.into_iter().find(|aspect| aspect.name() == name) {
            Some(aspect) => aspects.push(aspect),
            None => bail!("{name:?} is none of code, out, err, state"),
        }
    }
    ensure!(!reason.trim().is_empty(), "a difference needs a reason");
    Ok(Difference { aspects, reason: reason.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_rows_and_differences() {
        let table =
            Table::parse("# words\n== one\ndocker ps\n  ! out, err: because\n\n== two\ndocker x\n").unwrap();
        let rows: Vec<&Row> = table.rows().collect();
        assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [3, 7]);
        let because = Difference { aspects: vec![Aspect::Out, Aspect::Err], reason: "because".to_owned() };
        assert_eq!((rows[0].line.as_str(), &rows[0].differences), ("docker ps", &vec![because]));
        let mut kept = table.clone();
        kept.keep("two");
        assert_eq!(kept.groups, table.groups[1..]);
    }

    #[test]
    fn what_is_no_table() {
        for text in ["docker ps\n", "== a\n  ! out: x\n", "== a\nb\n  ! colour: x\n", "== a\nb\n  ! out:  \n"]
        {
            assert!(Table::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_table_of_this_crate_is_one_and_long_enough() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("commands.txt");
        assert!(Table::read(&file).unwrap().rows().count() >= 80);
    }
}
