//! Which images may be pulled: `policy.json` as containers-policy.json(5) describes it, for the transport `docker`.
//!
//! ```text
//! reference ─▶ the requirements of its most specific scope ─▶ all of them have to be met
//!    insecureAcceptAnything    always is
//!    reject                    never is
//!    sigstoreSigned            by one signature of one of its keys, over this digest, for this identity
//! ```
//!
//! Everything else of the format (`signedBy`, Fulcio, Rekor, PKI) is refused by its name when an image needs it: what is
//! not understood is never taken for met. Without the file every image may be pulled.
//!
//! Verifying needs no network besides the registry: a signature is an image next to the one it signs (cosign's
//! specification of signatures), its key is a file of this host. Deciding is pure; reading the file is [`Policy::load`].

mod file;
mod identity;
mod key;
mod signature;

use std::collections::BTreeMap;

pub use file::{DEFAULT_FILE, PolicyFileError};
use identity::SignedIdentity;
pub use key::KeyError;
use key::PublicKey;
pub use signature::SignatureError;
pub(crate) use signature::{SIGNATURE_ANNOTATION, SIGNATURE_TYPE, Signature};

use crate::reference::{Digest, Reference};

/// A signature policy.
#[derive(Debug, Default)]
pub struct Policy {
    default: Vec<Requirement>,
    /// Of the transport `docker`, by scope; the empty scope is the transport's default.
    scopes: BTreeMap<String, Vec<Requirement>>,
}

/// One requirement.
#[derive(Debug)]
enum Requirement {
    AcceptAnything,
    Reject,
    Sigstore {
        keys: Vec<PublicKey>,
        identity: SignedIdentity,
    },
    /// One that this program does not carry out, by its name.
    Unsupported(&'static str),
}

/// Why the policy does not let an image in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It is forbidden.
    #[error("the signature policy rejects it ({scope})")]
    Rejected {
        /// The scope that says so.
        scope: String,
    },
    /// The policy asks for something that this program does not carry out.
    #[error("the signature policy requires {requirement:?} for it ({scope}), which is not supported")]
    Unsupported {
        /// The requirement's name.
        requirement: &'static str,
        /// The scope that says so.
        scope: String,
    },
    /// There is no signature.
    #[error("the signature policy requires a signature ({scope}), and there is none")]
    Unsigned {
        /// The scope that says so.
        scope: String,
    },
    /// There are signatures, and none that counts.
    #[error(
        "the signature policy ({scope}) accepts none of its signatures: {}",
        .reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Untrusted {
        /// The scope that says so.
        scope: String,
        /// What is wrong with each.
        reasons: Vec<SignatureError>,
    },
}

/// What the policy asks of one image.
pub(crate) struct Demand<'a> {
    reference: &'a Reference,
    scope: String,
    requirements: &'a [Requirement],
}

impl Policy {
    /// What is asked of `reference`. A refusal that no signature can change comes at once.
    pub(crate) fn demand<'a>(&'a self, reference: &'a Reference) -> Result<Demand<'a>, PolicyError> {
        let found = scopes_of(reference)
            .into_iter()
            .find_map(|scope| self.scopes.get(&scope).map(|requirements| (scope, requirements.as_slice())));
        let (scope, requirements) = match found {
            Some((scope, requirements)) if scope.is_empty() => ("default of docker".to_owned(), requirements),
            Some((scope, requirements)) => (format!("scope {scope}"), requirements),
            None => ("default".to_owned(), self.default.as_slice()),
        };
        for requirement in requirements {
            match requirement {
                Requirement::Reject => return Err(PolicyError::Rejected { scope }),
                Requirement::Unsupported(requirement) => {
                    return Err(PolicyError::Unsupported { requirement, scope });
                }
                Requirement::AcceptAnything | Requirement::Sigstore { .. } => {}
            }
        }
        Ok(Demand { reference, scope, requirements })
    }
}

impl Demand<'_> {
    /// Whether signatures have to be looked for.
    pub(crate) fn needs_signatures(&self) -> bool {
        self.requirements.iter().any(|requirement| matches!(requirement, Requirement::Sigstore { .. }))
    }

    /// Whether `signatures` let in the image whose manifest or index has one of `digests`: an index vouches for the
    /// manifests it names.
    pub(crate) fn judge(&self, signatures: &[Signature], digests: &[&Digest]) -> Result<(), PolicyError> {
        for requirement in self.requirements {
            let Requirement::Sigstore { keys, identity } = requirement else { continue };
            if signatures.is_empty() {
                return Err(PolicyError::Unsigned { scope: self.scope.clone() });
            }
            let judged = signatures.iter().map(|signature| {
                let signed = signature.verify(keys)?;
                signed.judge(digests, |signed| identity.accepts(self.reference, signed))
            });
            let judged: Vec<_> = judged.collect();
            if !judged.iter().any(Result::is_ok) {
                let reasons = judged.into_iter().filter_map(Result::err).collect();
                return Err(PolicyError::Untrusted { scope: self.scope.clone(), reasons });
            }
        }
        Ok(())
    }
}

/// The scopes that cover `reference`, the most specific first: itself, its repository, each folder above that, its host,
/// the host's domains, the transport.
fn scopes_of(reference: &Reference) -> Vec<String> {
    let mut scopes = vec![reference.to_string()];
    // Only the part that decides names an image: a tag beside a digest is a remark.
    if let Some(digest) = reference.digest() {
        scopes.push(reference.at(digest.clone()).to_string());
    }
    let name = reference.name();
    let mut part = name.as_str();
    scopes.push(part.to_owned());
    while let Some((above, _)) = part.rsplit_once('/') {
        scopes.push(above.to_owned());
        part = above;
    }
    let host = reference.registry();
    scopes.extend(host.match_indices('.').map(|(dot, _)| format!("*{}", &host[dot..])));
    scopes.push(String::new());
    scopes
}

#[cfg(test)]
mod tests;
