//! The text of `auth.json` and `config.json`. Pure but for [`AuthFile::load`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::reference::{DEFAULT_REGISTRY, Reference};
use crate::registry::{Credentials, CredentialsError, Secret};

/// Largest file in bytes: thousands of registries.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// What Docker calls its hub in these files.
const HUB_KEY: &str = "https://index.docker.io/v1/";
/// Names of the hub's servers, of which images' names say `docker.io`.
const HUB_HOSTS: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "docker.io"];

/// Why a file of credentials could not be used. No message shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum AuthFileError {
    /// It cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too large to be one.
    #[error("{path} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// Not JSON of the format. The parser's own words are left out: they could show a secret.
    #[error("{path} is no file of credentials: line {line}, column {column}")]
    Json {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// Where in the line.
        column: usize,
    },
    /// An entry that is wrong.
    #[error("the entry for {key:?} is wrong")]
    Entry {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: CredentialsError,
    },
}

/// One file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuthFile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl AuthFile {
    /// Read the file; none if there is none.
    pub(super) fn load(path: &Path) -> Result<Option<Self>, AuthFileError> {
        let failed = |source| AuthFileError::Read { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = Vec::new();
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(AuthFileError::TooLarge { path: path.to_owned(), limit: MAX_FILE_BYTES });
        }
        Self::parse(path, &text).map(Some)
    }

    pub(crate) fn parse(path: &Path, text: &[u8]) -> Result<Self, AuthFileError> {
        serde_json::from_slice(text).map_err(|error| AuthFileError::Json {
            path: path.to_owned(),
            line: error.line(),
            column: error.column(),
        })
    }

    /// The helper for the registry of `reference` and what it is to be asked for.
    pub(crate) fn helper(&self, reference: &Reference) -> Option<(&str, String)> {
        let host = reference.registry();
        let is_hub = host == DEFAULT_REGISTRY;
        let asked = if is_hub { HUB_KEY.to_owned() } else { host.to_owned() };
        let own = self.cred_helpers.iter().find(|(key, _)| host_of(key) == host);
        let name = own.map(|(_, name)| name.as_str()).or(Some(self.creds_store.as_str()));
        name.filter(|name| !name.is_empty()).map(|name| (name, asked))
    }

    /// The most specific entry for `reference`.
    pub(crate) fn find(&self, reference: &Reference) -> Result<Option<Credentials>, AuthFileError> {
        let name = reference.name();
        let mut part = Some(name.as_str());
        while let Some(wanted) = part {
            let found = self.auths.iter().find(|(key, _)| normalised(key) == wanted);
            if let Some((key, entry)) = found {
                let wrong = |source| AuthFileError::Entry { key: key.clone(), source };
                if let Some(credentials) = entry.credentials().map_err(wrong)? {
                    return Ok(Some(credentials));
                }
            }
            part = wanted.rsplit_once('/').map(|(above, _)| above);
        }
        Ok(None)
    }
}

impl Entry {
    /// None for an entry that only says that a helper has them.
    fn credentials(&self) -> Result<Option<Credentials>, CredentialsError> {
        let secret = |text: &str| Secret::new(text);
        Ok(if !self.identitytoken.is_empty() {
            Some(Credentials::IdentityToken(secret(&self.identitytoken)))
        } else if !self.registrytoken.is_empty() {
            Some(Credentials::RegistryToken(secret(&self.registrytoken)))
        } else if !self.auth.is_empty() {
            Some(Credentials::from_auth(&self.auth)?)
        } else if !self.username.is_empty() {
            Some(Credentials::Basic { username: self.username.clone(), password: secret(&self.password) })
        } else {
            None
        })
    }
}

/// A key as a part of a reference: a URL, as Docker writes them, means its host.
fn normalised(key: &str) -> String {
    match key.split_once("://") {
        Some((_, rest)) => hub(rest.split('/').next().unwrap_or_default()).to_owned(),
        None => match key.trim_end_matches('/').split_once('/') {
            Some((host, path)) => format!("{}/{path}", hub(host)),
            None => hub(key.trim_end_matches('/')).to_owned(),
        },
    }
}

fn host_of(key: &str) -> String {
    normalised(key).split('/').next().unwrap_or_default().to_owned()
}

fn hub(host: &str) -> &str {
    if HUB_HOSTS.contains(&host) { DEFAULT_REGISTRY } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<AuthFile, AuthFileError> {
        AuthFile::parse(Path::new("auth.json"), text.as_bytes())
    }

    fn basic(username: &str) -> Option<Credentials> {
        Some(Credentials::Basic { username: username.into(), password: Secret::new("p") })
    }

    #[test]
    fn the_most_specific_entry_counts() {
        let file = parse(
            r#"{"auths":{
                "a.example":{"auth":"aG9zdDpw"},
                "a.example/team":{"auth":"dGVhbTpw"},
                "a.example/team/app":{"username":"app","password":"p"},
                "https://index.docker.io/v1/":{"auth":"aHViOnA="},
                "http://old.example:5000/v2/":{"auth":"b2xkOnA=","email":"x"},
                "token.example":{"auth":"b2xkOnA=","identitytoken":"t"},
                "kept.example":{}
            },"HttpHeaders":{"a":"b"}}"#,
        )
        .unwrap();
        for (name, expected) in [
            ("a.example/x:1", basic("host")),
            ("a.example/team/x", basic("team")),
            ("a.example/teams/x", basic("host")),
            ("a.example/team/app:2", basic("app")),
            ("busybox", basic("hub")),
            ("old.example:5000/x", basic("old")),
            ("token.example/x", Some(Credentials::IdentityToken(Secret::new("t")))),
            ("kept.example/x", None),
            ("b.example/x", None),
        ] {
            assert_eq!(file.find(&Reference::parse(name).unwrap()).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn helpers_are_named_for_their_hosts() {
        let file =
            parse(r#"{"credHelpers":{"a.example":"one","index.docker.io":"hub"},"credsStore":"store"}"#);
        let file = file.unwrap();
        for (name, expected) in [
            ("a.example/x", ("one", "a.example")),
            ("busybox", ("hub", HUB_KEY)),
            ("b.example:5000/x", ("store", "b.example:5000")),
        ] {
            let (helper, host) = file.helper(&Reference::parse(name).unwrap()).unwrap();
            assert_eq!((helper, host.as_str()), expected);
        }
        assert!(parse("{}").unwrap().helper(&Reference::parse("x").unwrap()).is_none());
    }

    #[test]
    fn no_message_shows_a_secret() {
        let wrong = parse(r#"{"auths":{"a.example":{"auth":"s3cret!"}}}"#).unwrap();
        let error = wrong.find(&Reference::parse("a.example/x").unwrap()).unwrap_err();
        let texts = [
            format!("{error:?} {error}"),
            format!("{:?}", parse(r#"{"auths":{"a":{"auth":["s3cret"]}}}"#).unwrap_err()),
            format!("{:?}", parse(r#"{"auths":"s3cret"}"#).unwrap_err()),
            format!("{wrong:?}"),
        ];
        for text in texts {
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn any_file_is_read_or_refused() {
        let seeds: [&[u8]; 2] = [
            br#"{"auths":{"a.example/b":{"auth":"dTpw"},"https://index.docker.io/v1/":{"identitytoken":"t"}}}"#,
            br#"{"credHelpers":{"a.example":"one"},"credsStore":"store","auths":{"x":{"username":"u","password":"p"}}}"#,
        ];
        let reference = Reference::parse("a.example/b/c:1").unwrap();
        crate::fuzz::run("auth.json", &seeds, |input| {
            if let Ok(file) = AuthFile::parse(Path::new("auth.json"), input) {
                drop(file.find(&reference));
                file.helper(&reference);
            }
        });
    }
}
