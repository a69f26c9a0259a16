//! Reading `registries.conf` and its drop-ins.

use std::io;
use std::path::{Path, PathBuf};

use super::{ConfigError, Registries};

/// Where the file is on every distribution.
pub const DEFAULT_FILE: &str = "/etc/containers/registries.conf";
/// Where its drop-ins are.
pub const DEFAULT_DROP_INS: &str = "/etc/containers/registries.conf.d";

/// Why the configuration of registries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or folder that cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that says something wrong.
    #[error("{path} is wrong")]
    Config {
        /// Which.
        path: PathBuf,
        /// What.
        #[source]
        source: ConfigError,
    },
}

impl Registries {
    /// Read `file` and every `*.conf` in `drop_ins`, in the order of their names; what is not there is empty.
    pub fn load(file: &Path, drop_ins: &Path) -> Result<Self, LoadError> {
        let mut registries = Self::default();
        let mut files = vec![file.to_owned()];
        files.extend(list(drop_ins).map_err(|source| LoadError::Read { path: drop_ins.to_owned(), source })?);
        for path in files {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(LoadError::Read { path, source }),
            };
            registries.merge(&text).map_err(|source| LoadError::Config { path, source })?;
        }
        Ok(registries)
    }
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    #[test]
    fn drop_ins_come_after_the_file_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let drop_ins = folder.path().join("registries.conf.d");
        std::fs::create_dir(&drop_ins).unwrap();
        let write = |name: &str, host: &str| {
            std::fs::write(
                folder.path().join(name),
                format!("[[registry]]\nprefix = 'a.b'\nlocation = '{host}'"),
            )
            .unwrap();
        };
        let (file, reference) = (folder.path().join("registries.conf"), Reference::parse("a.b/c").unwrap());
        let source = || {
            let registries = Registries::load(&file, &drop_ins).unwrap();
            registries.sources(&reference).unwrap()[0].reference.registry().to_owned()
        };
        assert_eq!(source(), "a.b");
        write("registries.conf", "main.host");
        assert_eq!(source(), "main.host");
        write("registries.conf.d/20.conf", "second.host");
        write("registries.conf.d/10.conf", "first.host");
        write("registries.conf.d/30.toml", "ignored.host");
        assert_eq!(source(), "second.host");
        write("registries.conf.d/40.conf", "https://wrong");
        assert!(Registries::load(&file, &drop_ins).is_err());
    }
}
