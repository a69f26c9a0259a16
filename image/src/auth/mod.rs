//! Credentials of this host: `auth.json` (containers-auth.json(5)) and Docker's `config.json`, and the programs they name.
//!
//! The files are read when a pull needs them, so that a login counts at once. For each registry the most specific entry
//! counts: the repository's, that of a folder above it, the host's. A credential helper, where the file names one for the
//! host, is asked first; it is the one program an image's pull can start, with a deadline, and it gets the host's name on
//! its standard input and nothing of the image.

mod file;
mod program;

use std::path::PathBuf;

pub(crate) use file::AuthFile;
pub use file::AuthFileError;
pub use program::HelperError;

use crate::reference::Reference;
use crate::registry::Credentials;

/// Why this host's credentials could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file.
    #[error("read credentials")]
    File(#[from] AuthFileError),
    /// A credential helper.
    #[error("ask docker-credential-{name} about {host}")]
    Helper {
        /// Its name.
        name: String,
        /// The registry.
        host: String,
        /// What went wrong.
        #[source]
        source: HelperError,
    },
}

/// The files credentials are in, the first that has some for a registry counting. A file may be absent.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthFiles(pub(crate) Vec<PathBuf>);

impl AuthFiles {
    /// Read them all. Blocks on disk.
    pub(crate) fn read(&self) -> Result<HostCredentials, AuthError> {
        let files = self.0.iter().filter_map(|path| AuthFile::load(path).transpose());
        Ok(HostCredentials(files.collect::<Result<_, _>>()?))
    }
}

/// What the files say.
#[derive(Debug, Default)]
pub(crate) struct HostCredentials(Vec<AuthFile>);

impl HostCredentials {
    /// The credentials for `reference`, if there are any.
    pub(crate) async fn find(&self, reference: &Reference) -> Result<Option<Credentials>, AuthError> {
        for file in &self.0 {
            if let Some((name, host)) = file.helper(reference) {
                let failed = |source| AuthError::Helper { name: name.to_owned(), host: host.clone(), source };
                if let Some(found) = program::ask(name, &host).await.map_err(failed)? {
                    return Ok(Some(found));
                }
            }
            if let Some(found) = file.find(reference)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
