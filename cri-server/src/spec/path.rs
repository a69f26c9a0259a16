//! Paths inside a container: absolute and without detours, decided on the text alone.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// The longest path the kernel takes, bytes with the closing NUL (`PATH_MAX`).
const PATH_MAX: usize = 4096;

/// A path that cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// It does not start at the root.
    #[error("{0:?} is not an absolute path")]
    Relative(PathBuf),
    /// It contains a control character, NUL included.
    #[error("{0:?} contains a control character")]
    ControlCharacter(PathBuf),
    /// No system call would take it.
    #[error("a path of {0} bytes is longer than the kernel takes")]
    TooLong(usize),
}

/// `path` without `.`, `..` and doubled or closing slashes. `..` is resolved by the text, as every client of this field
/// does it, and stops at the root; symbolic links are the runtime's to resolve beneath the root filesystem.
pub(super) fn normalised(path: &Path) -> Result<PathBuf, PathError> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.len() >= PATH_MAX {
        return Err(PathError::TooLong(bytes.len()));
    }
    if bytes.iter().any(u8::is_ascii_control) {
        return Err(PathError::ControlCharacter(path.to_owned()));
    }
    if !path.is_absolute() {
        return Err(PathError::Relative(path.to_owned()));
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(clean)
}

/// Number of names in a normalised absolute path; the root has none.
pub(super) fn depth(path: &Path) -> usize {
    path.components().filter(|component| matches!(component, Component::Normal(_))).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detours_are_taken_out() {
        for (given, expected) in [
            ("/", "/"),
            ("/a", "/a"),
            ("/a/", "/a"),
            ("//a///b/.", "/a/b"),
            ("/a/../b", "/b"),
            ("/../../etc", "/etc"),
            ("/a/b/../../..", "/"),
            ("/ü/…", "/ü/…"),
        ] {
            assert_eq!(normalised(Path::new(given)), Ok(PathBuf::from(expected)), "{given}");
        }
    }

    #[test]
    fn what_is_no_path_inside_is_refused() {
        assert!(matches!(normalised(Path::new("a/b")), Err(PathError::Relative(_))));
        assert!(matches!(normalised(Path::new("")), Err(PathError::Relative(_))));
        for text in ["/a\nb", "/a\0b", "/\u{7f}", "/a\tb"] {
            assert!(matches!(normalised(Path::new(text)), Err(PathError::ControlCharacter(_))), "{text:?}");
        }
        let long = format!("/{}", "a".repeat(PATH_MAX));
        assert_eq!(normalised(Path::new(&long)), Err(PathError::TooLong(PATH_MAX + 1)));
    }

    #[test]
    fn a_normalised_path_stays_as_it_is() {
        for text in ["/a/../b//c/./..", "/x/y/z/", "/"] {
            let once = normalised(Path::new(text)).unwrap();
            assert_eq!(normalised(&once), Ok(once.clone()));
        }
    }

    #[test]
    fn depth_counts_names() {
        for (path, expected) in [("/", 0), ("/a", 1), ("/a/b", 2)] {
            assert_eq!(depth(Path::new(path)), expected);
        }
    }
}
