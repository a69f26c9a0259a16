//! What every file has to have, and where files may be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::root;

/// Folders with code of our own.
const FOLDERS: &[&str] = &["cri-server", "conmon", "runtime", "image", "network", "tests"];

/// What else the top of the tree may hold.
const TOP_LEVEL: &[&str] = &[
    ".cargo",
    ".ci",
    ".git",
    ".gitattributes",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "clippy.toml",
    "docs",
    "hack",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "target",
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helper", "helpers", "misc", "util", "utils"];

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let path = entry.path();
        if entry.file_name() == "target" {
            continue;
        }
        if entry.file_type().with_context(|| format!("look at {}", path.display()))?.is_dir() {
            walk(&path, found)?;
        }
        found.push(path);
    }
    Ok(())
}

pub(crate) fn sources() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        walk(&root().join(folder), &mut found)?;
    }
    Ok(found)
}

pub(crate) fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

#[test]
fn every_file_says_first_why_it_exists() -> Result<()> {
    let mut found = Vec::new();
    let files: Vec<PathBuf> = sources()?.into_iter().filter(|path| is_rust(path)).collect();
    assert!(files.len() > 20, "only {} files were looked at", files.len());
    for path in files {
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let first = text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|words| words.trim().is_empty()) {
            found.push(path);
        }
    }
    assert!(found.is_empty(), "no `//!` in the first line of {found:#?}");
    Ok(())
}

#[test]
fn no_file_or_folder_has_an_empty_name() -> Result<()> {
    let is_empty = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        EMPTY_NAMES.contains(&&*name)
    };
    let found: Vec<PathBuf> = sources()?.into_iter().filter(is_empty).collect();
    assert!(found.is_empty(), "call them by what they hold: {found:#?}");
    Ok(())
}

#[test]
fn the_top_level_holds_what_the_design_names() -> Result<()> {
    for entry in fs::read_dir(root()).context("list the top level")? {
        let name = entry.context("list the top level")?.file_name();
        let name = name.to_string_lossy();
        assert!(
            FOLDERS.contains(&&*name) || TOP_LEVEL.contains(&&*name),
            "{name} has no place at the top level"
        );
    }
    Ok(())
}
