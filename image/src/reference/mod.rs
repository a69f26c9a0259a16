//! Image references: what a user writes (`busybox`, `host:5000/a/b:tag@sha256:…`) and what it means.
//!
//! Written names are normalised as the Docker command line and CRI-O do: a name without a registry belongs to
//! `docker.io`, one without a folder there to `library/`, one without tag and digest means the tag `latest`.
//! Which registries a short name may stand for otherwise is the business of [`crate::registries`].

mod digest;
mod grammar;

use std::fmt;
use std::str::FromStr;

pub(crate) use digest::shorten;
pub use digest::{Algorithm, Digest, DigestError, Hasher};
pub use grammar::ReferenceError;

/// The registry of a name that mentions none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a name that mentions neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// A normalised image reference: registry, repository, and a tag, a digest, or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: Box<str>,
    repository: Box<str>,
    tag: Option<Box<str>>,
    digest: Option<Digest>,
}

impl Reference {
    /// Parse and normalise what a user wrote.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let parts = grammar::split(text)?;
        let registry = match parts.registry {
            None | Some("index.docker.io") => DEFAULT_REGISTRY,
            Some(host) => host,
        };
        let in_library = registry == DEFAULT_REGISTRY && !parts.repository.contains('/');
        let repository =
            if in_library { format!("library/{}", parts.repository) } else { parts.repository.to_owned() };
        // What was short enough as written may not be once it is complete; a name that is kept has to read back.
        if registry.len() + 1 + repository.len() > grammar::MAX_NAME_CHARS {
            return Err(ReferenceError::TooLong(shorten(&repository)));
        }
        let digest = parts.digest.map(Digest::parse).transpose()?;
        let tag = match parts.tag {
            None if digest.is_none() => Some(DEFAULT_TAG),
            tag => tag,
        };
        Ok(Self {
            registry: registry.into(),
            repository: repository.into(),
            tag: tag.map(Into::into),
            digest,
        })
    }

    /// Whether `text` names its registry itself (`quay.io/a`, `localhost/a`), so that no search list applies to it.
    #[must_use]
    pub fn names_registry(text: &str) -> bool {
        grammar::split(text).is_ok_and(|parts| parts.registry.is_some())
    }

    /// Host and port as written: `docker.io`, `registry.example:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path below the registry: `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, unless the reference has only a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest; where both exist it decides and the tag is a remark.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository without tag and digest: `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository at `digest`, without a tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What a manifest is asked by: the digest if there is one, else the tag.
    #[must_use]
    pub fn tag_or_digest(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.to_string(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let at = |name: &str| format!("{name}@{DIGEST}");
        let cases = [
            ("busybox".to_owned(), "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36".into(), "docker.io/library/busybox:1.36".into()),
            ("user/app".into(), "docker.io/user/app:latest".into()),
            ("index.docker.io/busybox".into(), "docker.io/library/busybox:latest".into()),
            ("docker.io/busybox".into(), "docker.io/library/busybox:latest".into()),
            ("localhost/app".into(), "localhost/app:latest".into()),
            ("localhost:5000/app".into(), "localhost:5000/app:latest".into()),
            ("host:5000/a/b:v1".into(), "host:5000/a/b:v1".into()),
            ("[::1]:5000/a".into(), "[::1]:5000/a:latest".into()),
            ("quay.io/a/b__c.d-e--f:T_1.x".into(), "quay.io/a/b__c.d-e--f:T_1.x".into()),
            ("Registry/app".into(), "Registry/app:latest".into()),
            ("app:5000".into(), "docker.io/library/app:5000".into()),
            (at("busybox"), at("docker.io/library/busybox")),
            (at("busybox:1.36"), at("docker.io/library/busybox:1.36")),
        ];
        for (written, expected) in cases {
            assert_eq!(Reference::parse(&written).unwrap().to_string(), expected, "{written}");
        }
    }

    #[test]
    fn the_limits_of_the_distribution_specification_hold() {
        let long_tag = format!("a:{}", "t".repeat(128));
        assert!(Reference::parse(&long_tag).is_ok());
        let refused = [
            String::new(),
            ":tag".into(),
            "a:".into(),
            "a@".into(),
            "A".into(),
            "a/B".into(),
            "-a".into(),
            "a-".into(),
            "a..b".into(),
            "a___b".into(),
            "a._b".into(),
            "a//b".into(),
            "/a".into(),
            "a/".into(),
            "http://a/b".into(),
            "a b".into(),
            "a:t t".into(),
            "a:.t".into(),
            "a:-t".into(),
            "a\n".into(),
            "a/../b".into(),
            "é".into(),
            "ho_st.x/a".into(),
            "-h.x/a".into(),
            "h.x:/a".into(),
            "h.x:99999/a".into(),
            "h.x:p/a".into(),
            "[::g]/a".into(),
            "[::1/a".into(),
            format!("{long_tag}t"),
            "a@md5:00".into(),
            format!("a@{}", &DIGEST[..70]),
            DIGEST[7..].into(),
            "a/".repeat(128) + "b",
            "b".repeat(250),
        ];
        for case in refused {
            assert!(Reference::parse(&case).is_err(), "{case:?} was accepted");
        }
    }

    #[test]
    fn a_digest_wins_over_a_tag() {
        let both = Reference::parse(&format!("a:t@{DIGEST}")).unwrap();
        assert_eq!(both.tag_or_digest(), DIGEST);
        assert_eq!(both.tag(), Some("t"));
        assert_eq!(both.at(both.digest().unwrap().clone()).tag(), None);
    }

    #[test]
    fn only_a_named_registry_counts_as_one() {
        for (text, named) in
            [("a", false), ("a/b", false), ("a.b/c", true), ("localhost/c", true), ("a:5000", false)]
        {
            assert_eq!(Reference::names_registry(text), named, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_a_parsed_one_reads_back(text in "[a-zA-Z0-9./:@_\\-\\[\\]]{0,80}|.{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
