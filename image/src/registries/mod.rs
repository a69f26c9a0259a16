//! Which hosts to ask for an image: `registries.conf` (version 2) and its drop-ins, as Podman and CRI-O read them; and what is
//! particular about their hosts: `certs.d` with containerd's `hosts.toml`, or with certificates.
//!
//! Reading files happens in [`Registries::load`] and `hosts`; everything else is pure.

mod config;
mod endpoint;
mod hosts;
mod load;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::reference::{DEFAULT_REGISTRY, Reference, ReferenceError, shorten};
pub use config::ConfigError;
use config::{PullFrom, Registry};
pub use endpoint::Endpoint;
pub(crate) use endpoint::Trust;
pub(crate) use hosts::HostFolders;
pub use hosts::HostsError;
pub use load::{DEFAULT_DROP_INS, DEFAULT_FILE, LoadError};

/// One place to try for an image.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// The reference to ask for there: host, repository, and the same tag or digest.
    pub reference: Reference,
    /// Whether an unverified certificate, and then plain HTTP, will do.
    pub insecure: bool,
    /// Whether this is a mirror and not the registry itself.
    pub mirror: bool,
    /// What is particular about its host, if anything is.
    pub endpoint: Option<Arc<Endpoint>>,
}

/// The registries as configured. The default is what an absent configuration means: every registry as it is named.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    search: Vec<String>,
    aliases: BTreeMap<String, String>,
    enforce_short_names: bool,
    registries: Vec<Registry>,
}

/// Why there is no source for an image. Which image that is, is the caller's to say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// The configuration forbids the registry.
    #[error("registry {prefix} is blocked by registries.conf")]
    Blocked {
        /// The prefix that matched.
        prefix: String,
    },
    /// What was written is no reference.
    #[error("it is not an image's name")]
    Name(#[source] ReferenceError),
    /// What the configuration makes of it is no reference.
    #[error("registries.conf turns it into {0:?}")]
    Reference(String, #[source] ReferenceError),
    /// A short name, several registries to search, and `short-name-mode = "enforcing"`.
    #[error("a short name may mean images of several registries: write the full name, or configure an alias")]
    Ambiguous,
}

impl Registries {
    /// What a name as written may mean, in the order to try: itself if it names a registry, else its alias, else one
    /// reference for each unqualified search registry, else Docker Hub's.
    pub fn candidates(&self, text: &str) -> Result<Vec<Reference>, SourceError> {
        let parse = |full: String| {
            Reference::parse(&full).map_err(|error| SourceError::Reference(shorten(&full), error))
        };
        let plain = Reference::parse(text).map_err(SourceError::Name)?;
        if Reference::names_registry(text) {
            return Ok(vec![plain]);
        }
        let end_of_name = text.find([':', '@']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end_of_name);
        if let Some(full) = self.aliases.get(name) {
            return Ok(vec![parse(format!("{full}{rest}"))?]);
        }
        match self.search.as_slice() {
            [] => Ok(vec![plain]),
            [_, _, ..] if self.enforce_short_names => Err(SourceError::Ambiguous),
            hosts => hosts.iter().map(|host| parse(format!("{host}/{text}"))).collect(),
        }
    }

    /// Where to ask for `reference`, in the order to try: mirrors first, then the registry.
    pub fn sources(&self, reference: &Reference) -> Result<Vec<Source>, SourceError> {
        let text = reference.to_string();
        let Some((registry, matched)) = self.longest_match(&text) else {
            return Ok(vec![Source {
                reference: reference.clone(),
                insecure: false,
                mirror: false,
                endpoint: None,
            }]);
        };
        if registry.blocked {
            return Err(SourceError::Blocked { prefix: registry.prefix.clone() });
        }
        let moved = |location: &str, insecure, mirror| {
            let moved =
                if location.is_empty() { text.clone() } else { format!("{location}{}", &text[matched..]) };
            let reference =
                Reference::parse(&moved).map_err(|error| SourceError::Reference(shorten(&moved), error))?;
            Ok(Source { reference, insecure, mirror, endpoint: None })
        };
        let has_digest = reference.digest().is_some();
        let serves = |pull_from| match pull_from {
            PullFrom::All => true,
            PullFrom::DigestOnly => has_digest,
            PullFrom::TagOnly => !has_digest,
        };
        let mirrors = registry.mirrors.iter().filter(|mirror| serves(mirror.pull_from));
        let mirrors = mirrors.map(|mirror| moved(&mirror.location, mirror.insecure, true));
        mirrors.chain([moved(&registry.location, registry.insecure, false)]).collect()
    }

    /// The registry whose prefix covers most of `text`, and how much; a prefix without a wildcard wins over one with.
    fn longest_match(&self, text: &str) -> Option<(&Registry, usize)> {
        let matches =
            self.registries.iter().filter_map(|registry| Some((registry, matched(&registry.prefix, text)?)));
        matches.max_by_key(|(registry, length)| (*length, !registry.prefix.starts_with('*')))
    }
}

/// How many characters of `text` the prefix covers, if it ends where a part of the reference does.
fn matched(prefix: &str, text: &str) -> Option<usize> {
    let start = match prefix.strip_prefix('*') {
        None => 0,
        // `*.example.com` covers any number of labels, so the first occurrence in the host that ends rightly counts.
        Some(suffix) => {
            let host_end = text.find('/').unwrap_or(text.len());
            let mut places = text.match_indices(suffix).map(|(at, _)| at);
            places.find(|at| *at > 0 && *at < host_end && ends_rightly(text, at + suffix.len()))?
        }
    };
    let fixed = prefix.strip_prefix('*').unwrap_or(prefix);
    let end = start + fixed.len();
    (text[start..].starts_with(fixed) && ends_rightly(text, end)).then_some(end)
}

fn ends_rightly(text: &str, end: usize) -> bool {
    matches!(text.as_bytes().get(end), None | Some(b'/' | b':' | b'@'))
}

/// Whether a host is Docker Hub, which is asked under another name than its images have.
pub(crate) fn api_host(registry: &str) -> &str {
    if registry == DEFAULT_REGISTRY { "registry-1.docker.io" } else { registry }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        unqualified-search-registries = ["docker.io", "quay.io"]
        [aliases]
        "tool" = "registry.example/tools/tool"
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.local:5000/hub"
        insecure = true
        [[registry.mirror]]
        location = "digests.local"
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/library"
        location = "library.local/lib"
        [[registry]]
        prefix = "evil.example"
        blocked = true
        location = "evil.example"
        [[registry]]
        prefix = "*.wild.example"
        location = "tame.example/all"
        [[registry]]
        prefix = "a.wild.example"
        [[registry]]
        prefix = "localhost:5000"
        insecure = true
    "#;
    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn sources(text: &str) -> Result<Vec<String>, SourceError> {
        let registries = Registries::parse(CONFIG).unwrap();
        let sources = registries.sources(&Reference::parse(text).unwrap())?;
        let show = |source: &Source| {
            let insecure = if source.insecure { " insecure" } else { "" };
            let mirror = if source.mirror { " mirror" } else { "" };
            format!("{}{insecure}{mirror}", source.reference)
        };
        Ok(sources.iter().map(show).collect())
    }

    #[test]
    fn sources_are_tried_in_the_configured_order() {
        let cases: [(&str, Vec<&str>); 9] = [
            ("user/app:1", vec!["mirror.local:5000/hub/user/app:1 insecure mirror", "docker.io/user/app:1"]),
            ("busybox", vec!["library.local/lib/busybox:latest"]),
            ("quay.io/a/b:1", vec!["quay.io/a/b:1"]),
            ("x.wild.example/a:1", vec!["tame.example/all/a:1"]),
            ("x.y.wild.example/a:1", vec!["tame.example/all/a:1"]),
            ("a.wild.example/b:1", vec!["a.wild.example/b:1"]),
            ("wild.example/a:1", vec!["wild.example/a:1"]),
            ("notdocker.io/user/app:1", vec!["notdocker.io/user/app:1"]),
            ("localhost:5000/a:1", vec!["localhost:5000/a:1 insecure"]),
        ];
        for (text, expected) in cases {
            assert_eq!(sources(text).unwrap(), expected, "{text}");
        }
        // A prefix without a port covers its host on any port, so here the location's path would lie before the port.
        assert!(matches!(sources("x.wild.example:443/a:1"), Err(SourceError::Reference(..))));
        let by_digest = sources(&format!("user/app@{DIGEST}")).unwrap();
        assert_eq!(by_digest.len(), 3);
        assert_eq!(by_digest[1], format!("digests.local/user/app@{DIGEST} mirror"));
    }

    #[test]
    fn a_blocked_registry_has_no_sources() {
        assert!(matches!(sources("evil.example/a"), Err(SourceError::Blocked { .. })));
    }

    #[test]
    fn short_names_are_looked_up() {
        let registries = Registries::parse(CONFIG).unwrap();
        let names = |text: &str| {
            let candidates = registries.candidates(text).unwrap();
            candidates.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(names("app:1"), ["docker.io/library/app:1", "quay.io/app:1"]);
        assert_eq!(names("tool:2"), ["registry.example/tools/tool:2"]);
        assert_eq!(names(&format!("tool@{DIGEST}")), [format!("registry.example/tools/tool@{DIGEST}")]);
        assert_eq!(names("host.x/tool"), ["host.x/tool:latest"]);
        assert_eq!(
            Registries::default().candidates("app").unwrap()[0].to_string(),
            "docker.io/library/app:latest"
        );
        let enforcing = Registries::parse(&format!("short-name-mode = 'enforcing'\n{CONFIG}")).unwrap();
        assert!(matches!(enforcing.candidates("app"), Err(SourceError::Ambiguous)));
        assert!(enforcing.candidates("tool").is_ok());
    }
}
