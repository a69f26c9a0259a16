//! The table as a page of the documentation.

use crate::table::{Difference, Group, Row, Table};

const HEAD: &str = "# `docker` on Cleat and on dockerd\n\n\
    Written by `make docker-compare`, which runs each of these command lines against `cleatd` and against Debian's dockerd\n\
    (package docker.io) and compares exit code, output, error output and the containers and images that are there\n\
    afterwards, without ids, times and folders. It fails on a difference that is not listed here, and on a listed one that\n\
    is there no more. Each group begins without containers. The source is `tests/docker/commands.txt`.\n";

/// The page. Its figures are those of a run in which everything was as expected.
pub(crate) fn page(table: &Table) -> String {
    let same = table.rows().filter(|row| row.differences.is_empty()).count();
    let mut page =
        format!("{HEAD}\n{} command lines, {same} of them with the same result.\n", table.rows().count());
    for group in &table.groups {
        page.push_str(&section(group));
    }
    page
}

fn section(group: &Group) -> String {
    let rows: String = group.rows.iter().map(line).collect();
    format!("\n## {}\n\n| command line | result |\n|---|---|\n{rows}", group.name)
}

fn line(row: &Row) -> String {
    let differences: Vec<String> = row.differences.iter().map(words).collect();
    let result = if differences.is_empty() { "same".to_owned() } else { differences.join("; ") };
    // A pipe would end the cell; two backticks hold a command line with one.
    format!("| `` {} `` | {} |\n", row.line.replace('|', "\\|"), result.replace('|', "\\|"))
}

fn words(difference: &Difference) -> String {
    let aspects: Vec<&str> = difference.aspects.iter().map(|aspect| aspect.name()).collect();
    format!("{}: {}", aspects.join(", "), difference.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Aspect;

    #[test]
    fn rows_with_and_without_a_difference() {
        let mut row = Row { number: 1, line: "docker ps | wc -l".to_owned(), differences: Vec::new() };
        assert_eq!(line(&row), "| `` docker ps \\| wc -l `` | same |\n");
        row.differences.push(Difference { aspects: vec![Aspect::Out], reason: "why".to_owned() });
        assert_eq!(line(&row), "| `` docker ps \\| wc -l `` | out: why |\n");
    }
}
