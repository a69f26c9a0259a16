//! Finding the network's configuration in a folder, and plugins in theirs.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::config::{FormatError, NetworkList};
use crate::chain::chains;

/// The largest file that is read, in bytes. Configurations have a few hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The endings of configuration files.
const EXTENSIONS: [&str; 3] = ["conflist", "conf", "json"];

/// No network could be loaded from a folder.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The folder cannot be read.
    #[error("list {dir}")]
    List {
        /// The folder.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The folder does not exist or has no configuration file: no network by plugins is wanted.
    #[error("{dir} has no file that ends in .conflist, .conf or .json")]
    Empty {
        /// The folder.
        dir: PathBuf,
    },
    /// There are files, and none can be used.
    #[error("no file in {dir} can be used: {}", chains(.files))]
    Unusable {
        /// The folder.
        dir: PathBuf,
        /// Every file with its fault.
        files: Vec<FileError>,
    },
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// Its fault.
    #[source]
    pub source: FileFault,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// It cannot be read.
    #[error("read it")]
    Read(#[source] io::Error),
    /// It is larger than any configuration is.
    #[error("it has more than {MAX_FILE_BYTES} bytes")]
    TooLarge,
    /// Its content cannot be used.
    #[error("use it")]
    Format(#[from] FormatError),
}

/// The first usable configuration of `dir` in the order of file names, which is the one that kubelets have always
/// expected. Files before it that cannot be used are logged, since an operator meant one of them.
pub(super) fn first_usable(dir: &Path) -> Result<(PathBuf, NetworkList), ConfigError> {
    let mut files: Vec<FileError> = Vec::new();
    for path in configuration_files(dir)? {
        match read(&path) {
            Ok(list) => {
                for file in &files {
                    let error: &dyn std::error::Error = file;
                    tracing::warn!(error, used = %path.display(), "a CNI configuration cannot be used");
                }
                return Ok((path, list));
            }
            Err(source) => files.push(FileError { path, source }),
        }
    }
    let dir = dir.to_owned();
    Err(if files.is_empty() { ConfigError::Empty { dir } } else { ConfigError::Unusable { dir, files } })
}

/// The program of a plugin: the first regular file of its name.
pub(super) fn find_plugin(kind: &str, dirs: &[PathBuf]) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(kind)).find(|path| path.is_file())
}

fn configuration_files(dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let failed = |source| ConfigError::List { dir: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Result<NetworkList, FileFault> {
    let mut text = Vec::new();
    let file = File::open(path).map_err(FileFault::Read)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(FileFault::Read)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(FileFault::TooLarge);
    }
    Ok(NetworkList::parse(&text)?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn usable(name: &str) -> String {
        format!(r#"{{"cniVersion":"1.0.0","name":"{name}","type":"bridge"}}"#)
    }

    #[test]
    fn the_first_usable_file_in_lexical_order_is_taken() {
        let dir = folder(&[
            ("00-readme.txt", &usable("no")),
            ("05-broken.conflist", "{"),
            ("08-lo.conf", r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#),
            ("20-second.conf", &usable("second")),
            ("10-first.json", &usable("first")),
        ]);
        fs::create_dir(dir.path().join("01-folder.conf")).unwrap();
        assert_eq!(first_usable(dir.path()).unwrap().1.name, "first");
    }

    #[test]
    fn a_folder_without_configurations_differs_from_one_with_broken_ones() {
        let empty = folder(&[("readme.txt", "")]);
        assert!(matches!(first_usable(empty.path()), Err(ConfigError::Empty { .. })));
        assert!(matches!(first_usable(&empty.path().join("absent")), Err(ConfigError::Empty { .. })));
        let broken = folder(&[("10-a.conf", "{"), ("20-b.conflist", &usable("../b"))]);
        let error = first_usable(broken.path()).unwrap_err().to_string();
        assert!(
            error.contains("10-a.conf") && error.contains("20-b.conflist: use it: network name"),
            "{error}"
        );
    }

    #[test]
    fn a_file_is_not_read_without_bound() {
        let dir = folder(&[("10-a.conf", &" ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap() + 1))]);
        let Err(ConfigError::Unusable { files, .. }) = first_usable(dir.path()) else {
            panic!("it is too large")
        };
        assert!(matches!(files[0].source, FileFault::TooLarge));
    }
}
