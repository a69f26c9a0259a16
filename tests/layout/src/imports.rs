//! The import table.

use std::fs;

use anyhow::{Context, Result};

use crate::workspace::{Member, members};

/// Which crates of the workspace each crate may import.
const TABLE: &[(&str, &[&str])] = &[
    (
        "cleatd",
        &[
            "cleat-conmon-proto",
            "cleat-cri-api",
            "cleat-image",
            "cleat-network",
            "cleat-streaming",
            "cleat-sys",
        ],
    ),
    ("cleat-cri-api", &[]),
    ("cleat-streaming", &[]),
    ("cleat-conmon", &["cleat-conmon-proto", "cleat-runtime", "cleat-sys"]),
    ("cleat-conmon-proto", &[]),
    ("cleat-runtime", &["cleat-sys"]),
    ("cleat-sys", &[]),
    ("cleat-image", &["cleat-sys"]),
    ("cleat-network", &["cleat-sys"]),
    ("cleat-test-fuzz", &[]),
    ("cleat-test-layout", &[]),
    ("cleat-test-support", &[]),
    // It calls the runtime's library the way the monitor does.
    ("cleat-tests-runtime", &["cleat-runtime", "cleat-sys"]),
];

/// What tests may import besides, wherever they are: public surfaces and the test support.
const FOR_TESTS: &[&str] = &["cleat-conmon-proto", "cleat-cri-api", "cleat-test-fuzz", "cleat-test-support"];

/// The one crate in which `unsafe` is allowed.
const UNSAFE: &str = "cleat-sys";

/// The crates that may use an async runtime; all others are plain blocking code.
const ASYNC: &[&str] = &["cleatd", "cleat-cri-api", "cleat-image", "cleat-streaming"];

/// Crates that bring an async runtime along.
const RUNTIMES: &[&str] = &["async-std", "futures", "hyper", "reqwest", "smol", "tokio", "tonic"];

/// Whether a crate is one of those below `tests/`.
fn is_test(name: &str) -> bool {
    name.starts_with("cleat-test-") || name.starts_with("cleat-tests-")
}

/// A crate of tests that has no row of its own follows the rule for tests.
fn row(member: &Member) -> Option<&'static [&'static str]> {
    let named = TABLE.iter().find(|(name, _)| *name == member.name).map(|(_, row)| *row);
    named.or_else(|| is_test(&member.name).then_some(FOR_TESTS))
}

fn complaints(member: &Member, workspace: &[String]) -> Vec<String> {
    let name = &member.name;
    let Some(row) = row(member) else { return vec![format!("{name} has no row in the import table")] };
    let ours = |each: &&String| workspace.contains(each);
    let mut found = Vec::new();
    // Test crates may build on one another.
    let among_tests = |import: &str| is_test(name) && is_test(import);
    for import in member.dependencies.iter().filter(ours) {
        if !row.contains(&import.as_str()) && !among_tests(import) {
            found.push(format!("{name} may not import {import}"));
        }
    }
    for import in member.dev_dependencies.iter().filter(ours) {
        if !row.contains(&import.as_str()) && !FOR_TESTS.contains(&import.as_str()) {
            found.push(format!("tests of {name} may not import {import}"));
        }
    }
    for import in member.dependencies.iter().filter(|import| RUNTIMES.contains(&import.as_str())) {
        if !ASYNC.contains(&name.as_str()) && !is_test(name) {
            found.push(format!("{name} is blocking code and may not import {import}"));
        }
    }
    found
}

#[test]
fn every_crate_imports_only_what_the_table_allows() -> Result<()> {
    let members = members()?;
    let names: Vec<String> = members.iter().map(|member| member.name.clone()).collect();
    for (name, _) in TABLE {
        assert!(names.iter().any(|each| each == name), "{name} is in the table and not in the workspace");
    }
    let found: Vec<String> = members.iter().flat_map(|member| complaints(member, &names)).collect();
    assert!(found.is_empty(), "{found:#?}");
    Ok(())
}

#[test]
fn the_rules_catch_what_they_forbid() {
    let workspace: Vec<String> = TABLE.iter().map(|(name, _)| (*name).to_owned()).collect();
    let cases: &[(&str, &[&str], &[&str], usize)] = &[
        ("cleatd", &["cleat-image", "tokio", "serde"], &["cleat-test-support"], 0),
        ("cleatd", &["cleat-runtime"], &[], 1),
        ("cleat-image", &["cleat-network"], &["cleatd"], 2),
        ("cleat-conmon", &["tokio"], &[], 1),
        ("cleat-unknown", &[], &[], 1),
        ("cleat-test-cri", &["cleat-cri-api", "tonic", "cleat-test-support"], &[], 0),
        ("cleat-test-cri", &["cleatd"], &[], 1),
    ];
    for (name, dependencies, dev_dependencies, count) in cases {
        let owned = |names: &[&str]| names.iter().map(|&each| each.to_owned()).collect();
        let member = Member {
            name: (*name).to_owned(),
            dependencies: owned(dependencies),
            dev_dependencies: owned(dev_dependencies),
            roots: Vec::new(),
        };
        let found = complaints(&member, &workspace);
        assert_eq!(found.len(), *count, "{name}: {found:?}");
    }
}

#[test]
fn every_crate_but_one_forbids_unsafe_code() -> Result<()> {
    for member in members()?.iter().filter(|member| member.name != UNSAFE) {
        for root in &member.roots {
            let text = fs::read_to_string(root).with_context(|| format!("read {}", root.display()))?;
            let forbids = text.lines().any(|line| line.trim() == "#![forbid(unsafe_code)]");
            assert!(forbids, "{} lacks #![forbid(unsafe_code)]", root.display());
        }
    }
    Ok(())
}
