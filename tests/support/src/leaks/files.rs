//! Files below the folders of a scope.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Finding;

/// Everything below `folders`; a folder may be absent. Symbolic links are listed and not followed.
pub(super) fn find(folders: &[PathBuf]) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    for folder in folders {
        walk(folder, &mut found)?;
    }
    Ok(found)
}

fn walk(folder: &Path, found: &mut Vec<Finding>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("list {}", folder.display())),
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let path = entry.path();
        found.push(Finding::new("file", path.display().to_string()));
        if entry.file_type().with_context(|| format!("look at {}", path.display()))?.is_dir() {
            walk(&path, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_found_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        fs::write(folder.path().join("a/b/c"), "").unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let found = find(&[folder.path().to_owned(), folder.path().join("absent")]).unwrap();
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
