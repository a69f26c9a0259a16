//! Documents that name tests name such that exist: a defence whose test was renamed or removed would be one on paper.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::files::{is_rust, sources};
use crate::workspace::root;

const LISTS: [&str; 2] = ["docs/security.md", "docs/robustness.md"];

/// The names in the last cell of each row of the list's table.
fn named(list: &str) -> Vec<String> {
    let rows = list.lines().filter(|line| line.starts_with("| ")).skip(1);
    let cells = rows.filter_map(|row| row.trim_end_matches(['|', ' ']).rsplit(" | ").next());
    cells.flat_map(|cell| cell.split(", ").map(|name| name.trim_matches(['`', ' ']).to_owned())).collect()
}

#[test]
fn every_test_of_a_list_exists() -> Result<()> {
    let sources: Vec<String> = sources()?
        .iter()
        .filter(|path| is_rust(path))
        .map(|path| fs::read_to_string(path).with_context(|| format!("read {}", path.display())))
        .collect::<Result<_>>()?;
    for list in LISTS {
        let mut missing = named(&fs::read_to_string(root().join(list)).context(list)?);
        ensure!(missing.len() > 20, "only {missing:?} were found in {list}");
        missing.retain(|name| !sources.iter().any(|text| text.contains(&format!("fn {name}()"))));
        ensure!(missing.is_empty(), "{list} names what is no test: {missing:?}");
    }
    Ok(())
}

#[test]
fn names_are_read_from_the_last_cell() {
    let list = "words\n| attack | tests |\n|---|---|\n| a `b` | `one`, `two` |\n| c | `three` |\n";
    assert_eq!(named(list), ["one", "two", "three"]);
}
