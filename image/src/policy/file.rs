//! The text of `policy.json`, read as strictly as the format asks: an unknown field spoils the file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::identity::SignedIdentity;
use super::key::{KeyError, PublicKey};
use super::{Policy, Requirement};
use crate::reference::{Reference, ReferenceError};

/// Where the file is on every distribution.
pub const DEFAULT_FILE: &str = "/etc/containers/policy.json";
/// The transport that pulls go by.
const DOCKER: &str = "docker";

/// Why a policy could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFileError {
    /// The file, or a key's.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not JSON of the format.
    #[error("{path} is not a signature policy")]
    Json {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A scope without requirements, which would let everything in.
    #[error("scope {0:?} has no requirement: write insecureAcceptAnything if that is meant")]
    Empty(String),
    /// A requirement without keys, or with keys in several ways.
    #[error("a sigstoreSigned must have exactly one of keyPath, keyPaths, keyData and keyDatas")]
    Keys,
    /// A key.
    #[error("key {name}")]
    Key {
        /// Its file, or `keyData`.
        name: String,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// A name in a `signedIdentity`.
    #[error("a signedIdentity has a bad name")]
    Name(#[source] ReferenceError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicy {
    default: Vec<RawRequirement>,
    #[serde(default)]
    transports: BTreeMap<String, BTreeMap<String, Vec<RawRequirement>>>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", deny_unknown_fields)]
enum RawRequirement {
    InsecureAcceptAnything {},
    Reject {},
    SigstoreSigned(Box<RawSigstore>),
    /// With OpenPGP; its fields do not matter, as it is refused.
    SignedBy(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawSigstore {
    key_path: Option<PathBuf>,
    key_paths: Option<Vec<PathBuf>>,
    key_data: Option<String>,
    key_datas: Option<Vec<String>>,
    fulcio: Option<serde::de::IgnoredAny>,
    pki: Option<serde::de::IgnoredAny>,
    rekor_public_key_path: Option<serde::de::IgnoredAny>,
    rekor_public_key_paths: Option<serde::de::IgnoredAny>,
    rekor_public_key_data: Option<serde::de::IgnoredAny>,
    rekor_public_key_datas: Option<serde::de::IgnoredAny>,
    signed_identity: Option<RawIdentity>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
enum RawIdentity {
    MatchExact {},
    MatchRepoDigestOrExact {},
    MatchRepository {},
    ExactReference { docker_reference: String },
    ExactRepository { docker_repository: String },
    RemapIdentity { prefix: String, signed_prefix: String },
}

impl Policy {
    /// Read the policy at `path` with the keys it names; none if there is no such file.
    pub fn load(path: &Path) -> Result<Option<Self>, PolicyFileError> {
        match std::fs::read(path) {
            Ok(text) => Self::parse(path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PolicyFileError::Read { path: path.to_owned(), source }),
        }
    }

    /// From the text of the file at `path`, reading the keys it names.
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self, PolicyFileError> {
        let raw: RawPolicy = serde_json::from_slice(text)
            .map_err(|source| PolicyFileError::Json { path: path.to_owned(), source })?;
        let RawPolicy { default, mut transports } = raw;
        let scopes = transports.remove(DOCKER).unwrap_or_default().into_iter();
        let scopes = scopes.map(|(scope, list)| Ok((scope.clone(), requirements(&scope, list)?)));
        Ok(Self { default: requirements("default", default)?, scopes: scopes.collect::<Result<_, _>>()? })
    }
}

fn requirements(scope: &str, list: Vec<RawRequirement>) -> Result<Vec<Requirement>, PolicyFileError> {
    if list.is_empty() {
        return Err(PolicyFileError::Empty(scope.to_owned()));
    }
    list.into_iter().map(requirement).collect()
}

fn requirement(raw: RawRequirement) -> Result<Requirement, PolicyFileError> {
    Ok(match raw {
        RawRequirement::InsecureAcceptAnything {} => Requirement::AcceptAnything,
        RawRequirement::Reject {} => Requirement::Reject,
        RawRequirement::SignedBy(_) => Requirement::Unsupported("signedBy"),
        RawRequirement::SigstoreSigned(raw) => sigstore(*raw)?,
    })
}

fn sigstore(raw: RawSigstore) -> Result<Requirement, PolicyFileError> {
    let unsupported = [
        (raw.fulcio.is_some(), "sigstoreSigned with fulcio"),
        (raw.pki.is_some(), "sigstoreSigned with pki"),
        (
            raw.rekor_public_key_path.is_some()
                || raw.rekor_public_key_paths.is_some()
                || raw.rekor_public_key_data.is_some()
                || raw.rekor_public_key_datas.is_some(),
            "sigstoreSigned with a Rekor key",
        ),
    ];
    if let Some((_, name)) = unsupported.into_iter().find(|(there, _)| *there) {
        return Ok(Requirement::Unsupported(name));
    }
    let keys = match (raw.key_path, raw.key_paths, raw.key_data, raw.key_datas) {
        (Some(path), None, None, None) => vec![read_key(&path)?],
        (None, Some(paths), None, None) => {
            paths.iter().map(|path| read_key(path)).collect::<Result<_, _>>()?
        }
        (None, None, Some(data), None) => vec![decode_key(&data)?],
        (None, None, None, Some(list)) => {
            list.iter().map(|data| decode_key(data)).collect::<Result<_, _>>()?
        }
        _ => return Err(PolicyFileError::Keys),
    };
    if keys.is_empty() {
        return Err(PolicyFileError::Keys);
    }
    let identity = raw.signed_identity.map_or(Ok(SignedIdentity::MatchRepoDigestOrExact), identity)?;
    Ok(Requirement::Sigstore { keys, identity })
}

fn read_key(path: &Path) -> Result<PublicKey, PolicyFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| PolicyFileError::Read { path: path.to_owned(), source })?;
    PublicKey::from_pem(&text)
        .map_err(|source| PolicyFileError::Key { name: path.display().to_string(), source })
}

/// `keyData` is base64 of what would be in the file.
fn decode_key(data: &str) -> Result<PublicKey, PolicyFileError> {
    let wrong = |source| PolicyFileError::Key { name: "keyData".to_owned(), source };
    let text = base64::engine::general_purpose::STANDARD.decode(data).ok();
    let text = text.and_then(|text| String::from_utf8(text).ok()).ok_or_else(|| wrong(KeyError::Pem))?;
    PublicKey::from_pem(&text).map_err(wrong)
}

fn identity(raw: RawIdentity) -> Result<SignedIdentity, PolicyFileError> {
    let parse = |text: &str| Reference::parse(text).map_err(PolicyFileError::Name);
    Ok(match raw {
        RawIdentity::MatchExact {} => SignedIdentity::MatchExact,
        RawIdentity::MatchRepoDigestOrExact {} => SignedIdentity::MatchRepoDigestOrExact,
        RawIdentity::MatchRepository {} => SignedIdentity::MatchRepository,
        RawIdentity::ExactReference { docker_reference } => {
            SignedIdentity::ExactReference(parse(&docker_reference)?)
        }
        RawIdentity::ExactRepository { docker_repository } => {
            SignedIdentity::ExactRepository(parse(&docker_repository)?.name())
        }
        RawIdentity::RemapIdentity { prefix, signed_prefix } => {
            SignedIdentity::Remap { prefix, signed_prefix }
        }
    })
}
