//! Whether a signature that was made for one name counts for an image with another. Pure.

use crate::reference::Reference;

/// A policy's `signedIdentity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SignedIdentity {
    /// The same name, tag or digest included.
    MatchExact,
    /// The same; for an image that is named by a digest the same repository.
    MatchRepoDigestOrExact,
    /// The same repository.
    MatchRepository,
    /// This name.
    ExactReference(Reference),
    /// This repository.
    ExactRepository(String),
    /// As `MatchRepoDigestOrExact`, after the image's name was changed from one prefix to another.
    Remap { prefix: String, signed_prefix: String },
}

impl SignedIdentity {
    /// Whether a signature that names `signed` counts for the image `asked`.
    pub(super) fn accepts(&self, asked: &Reference, signed: &str) -> bool {
        // What the signature names is read as it was written: no tag is not `latest` here.
        let Ok(parsed) = Reference::parse(signed) else { return false };
        let tagged = signed.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let exact = |asked: &Reference| tagged && parsed == *asked;
        let repository = |asked: &Reference| parsed.name() == asked.name();
        let repo_digest_or_exact =
            |asked: &Reference| if asked.digest().is_some() { repository(asked) } else { exact(asked) };
        match self {
            Self::MatchExact => exact(asked),
            Self::MatchRepoDigestOrExact => repo_digest_or_exact(asked),
            Self::MatchRepository => repository(asked),
            Self::ExactReference(reference) => exact(reference),
            Self::ExactRepository(name) => parsed.name() == *name,
            Self::Remap { prefix, signed_prefix } => {
                let remapped = remap(asked, prefix, signed_prefix);
                remapped.is_some_and(|asked| repo_digest_or_exact(&asked))
            }
        }
    }
}

/// `asked` under the other prefix if it is below `prefix`; else as it is. None if the result is no name.
fn remap(asked: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let text = asked.to_string();
    match text.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with(['/', ':', '@']) => {
            Reference::parse(&format!("{signed_prefix}{rest}")).ok()
        }
        _ => Some(asked.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Digest;

    #[test]
    fn a_signature_counts_for_what_it_names() {
        let digest = Digest::of(b"x");
        let at = |name: &str| format!("{name}@{digest}");
        let parse = |text: &str| Reference::parse(text).unwrap();
        let remap = SignedIdentity::Remap {
            prefix: "mirror.b/hub".into(),
            signed_prefix: "docker.io/library".into(),
        };
        use SignedIdentity::{
            ExactReference, ExactRepository, MatchExact, MatchRepoDigestOrExact, MatchRepository,
        };
        let table = [
            (MatchExact, "a.b/c:1", "a.b/c:1", true),
            (MatchExact, "a.b/c:1", "a.b/c:2", false),
            (MatchExact, "a.b/c", "a.b/c", false),
            (MatchExact, &at("a.b/c"), &at("a.b/c"), true),
            (MatchRepoDigestOrExact, "a.b/c:1", "a.b/c:1", true),
            (MatchRepoDigestOrExact, "a.b/c:1", "a.b/c", false),
            (MatchRepoDigestOrExact, &at("a.b/c"), "a.b/c", true),
            (MatchRepoDigestOrExact, &at("a.b/c"), "a.b/c:2", true),
            (MatchRepoDigestOrExact, &at("a.b/c"), "a.b/d", false),
            (MatchRepository, "a.b/c:1", "a.b/c", true),
            (MatchRepository, "a.b/c:1", "a.b/c/d", false),
            (MatchRepository, "a.b/c:1", "not a name", false),
            (MatchRepository, "a.b/c:1", "", false),
            (ExactReference(parse("a.b/signed:1")), "x.y/z:9", "a.b/signed:1", true),
            (ExactReference(parse("a.b/signed:1")), "x.y/z:9", "a.b/signed:2", false),
            (ExactRepository("a.b/signed".into()), "x.y/z:9", "a.b/signed:7", true),
            (remap.clone(), "mirror.b/hub/busybox:1", "busybox:1", true),
            (remap.clone(), "mirror.b/hubris/busybox:1", "docker.io/library/busybox:1", false),
            (remap, "a.b/c:1", "a.b/c:1", true),
        ];
        for (identity, asked, signed, expected) in table {
            assert_eq!(identity.accepts(&parse(asked), signed), expected, "{identity:?} {asked} {signed}");
        }
    }
}
