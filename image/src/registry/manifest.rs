//! Manifests and indexes (OCI image specification; Docker image manifest version 2, schema 2). Pure.

use serde::Deserialize;

use crate::reference::{Digest, DigestError};

/// Largest manifest or index in bytes, the limit registries themselves have.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;
/// Most layers: as many as overlayfs stacks (OVL_MAX_STACK).
pub const MAX_LAYERS: usize = 500;
/// Most entries of an index.
const MAX_ENTRIES: usize = 4096;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
const CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];
/// Those that may not be distributed freely are asked of the registry like others, never of the addresses a manifest gives:
/// no image sends this host anywhere.
const LAYERS: [&str; 9] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];
/// What is asked for.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Why a manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not JSON of the expected form.
    #[error("it is not a manifest")]
    Json(#[from] serde_json::Error),
    /// The oldest format, which has no digest of the image's configuration.
    #[error("it is in Docker's schema 1, which is not supported: push the image again with a current tool")]
    Schema1,
    /// Header and body, or two parts of the body, that tell different types.
    #[error("it is ambiguous: {0}")]
    Ambiguous(&'static str),
    /// A type that is no manifest.
    #[error("its type {0:?} is neither a manifest nor an index")]
    Type(String),
    /// A manifest of something else, such as a Helm chart.
    #[error("it is not of a container image but of {0:?}")]
    NotAnImage(String),
    /// A layer of an unknown type.
    #[error("layer {digest} has the type {media_type:?}, which is not supported")]
    LayerType {
        /// The layer's digest.
        digest: Digest,
        /// Its type.
        media_type: String,
    },
    /// A digest in it.
    #[error("it has a bad digest")]
    Digest(#[from] DigestError),
    /// More than accepted.
    #[error("it has {count} {what}, at most {limit} are accepted")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        limit: usize,
    },
    /// A size nothing can have.
    #[error("it announces {0} bytes, which nothing can have")]
    Size(u64),
    /// An index without anything for this host.
    #[error("it has nothing for {os}/{architecture}")]
    NoPlatform {
        /// This host's system.
        os: String,
        /// This host's architecture.
        architecture: String,
    },
    /// An index in an index in an index.
    #[error("its indexes are nested too deeply")]
    Nested,
}

/// A manifest or an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image(ImageManifest),
    /// Images for several platforms, or indexes of them.
    Index(Vec<Descriptor>),
}

/// What an image consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// The configuration.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// A blob or manifest by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it runs on, in an index.
    pub platform: Option<Platform>,
}

/// A platform in Go's words, as images have it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`, …
    #[serde(default)]
    pub architecture: String,
    /// `v7`, …
    #[serde(default)]
    pub variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
}

/// Parse the `body` of an answer with the header `content_type`. Whatever could be read in two ways is refused
/// (GHSA-5j5w-g665-5m35).
pub fn parse_manifest(body: &[u8], content_type: Option<&str>) -> Result<Document, ManifestError> {
    let raw: RawDocument = serde_json::from_slice(body)?;
    let header = content_type.map(|value| value.split(';').next().unwrap_or_default().trim());
    let declared = raw.media_type.as_deref();
    if raw.schema_version == 1
        || raw.fs_layers.is_some()
        || declared.is_some_and(|kind| SCHEMA_1.contains(&kind))
    {
        return Err(ManifestError::Schema1);
    }
    let known = |kind: &&str| [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST].contains(kind);
    if let (Some(header), Some(declared)) = (header.filter(known), declared)
        && header != declared
    {
        return Err(ManifestError::Ambiguous("its type and the header's differ"));
    }
    if raw.manifests.is_some() && (raw.layers.is_some() || raw.config.is_some()) {
        return Err(ManifestError::Ambiguous("it has both layers and manifests"));
    }
    // The body may leave its type out (OCI), and the header may be a plain application/json.
    match (declared.or(header.filter(known)), raw.manifests, raw.config, raw.layers) {
        (None | Some(OCI_INDEX | DOCKER_LIST), Some(entries), ..) => index(entries),
        (None | Some(OCI_MANIFEST | DOCKER_MANIFEST), None, Some(config), Some(layers)) => {
            image(config, layers)
        }
        (Some(OCI_INDEX | DOCKER_LIST | OCI_MANIFEST | DOCKER_MANIFEST), ..) => {
            Err(ManifestError::Ambiguous("its type and its content differ"))
        }
        (kind, ..) => Err(ManifestError::Type(crate::reference::shorten(kind.unwrap_or_default()))),
    }
}

fn index(entries: Vec<RawDescriptor>) -> Result<Document, ManifestError> {
    limit("manifests", entries.len(), MAX_ENTRIES)?;
    let entries = entries.into_iter().map(descriptor).collect::<Result<_, _>>()?;
    Ok(Document::Index(entries))
}

fn image(config: RawDescriptor, layers: Vec<RawDescriptor>) -> Result<Document, ManifestError> {
    limit("layers", layers.len(), MAX_LAYERS)?;
    let config = descriptor(config)?;
    if !CONFIGS.contains(&config.media_type.as_str()) {
        return Err(ManifestError::NotAnImage(crate::reference::shorten(&config.media_type)));
    }
    let layers = layers.into_iter().map(descriptor).collect::<Result<Vec<_>, _>>()?;
    if let Some(odd) = layers.iter().find(|layer| !LAYERS.contains(&layer.media_type.as_str())) {
        let media_type = crate::reference::shorten(&odd.media_type);
        return Err(ManifestError::LayerType { digest: odd.digest.clone(), media_type });
    }
    Ok(Document::Image(ImageManifest { config, layers }))
}

fn descriptor(raw: RawDescriptor) -> Result<Descriptor, ManifestError> {
    let RawDescriptor { media_type, digest, size, platform } = raw;
    if size > i64::MAX as u64 {
        return Err(ManifestError::Size(size));
    }
    Ok(Descriptor { media_type, digest: Digest::parse(&digest)?, size, platform })
}

fn limit(what: &'static str, count: usize, limit: usize) -> Result<(), ManifestError> {
    if count > limit { Err(ManifestError::TooMany { what, count, limit }) } else { Ok(()) }
}

impl Descriptor {
    /// Whether it is an index.
    pub(crate) fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) }
    }

    /// Whether what is for `self` runs on a host of platform `host`.
    pub(crate) fn runs_on(&self, host: &Self) -> bool {
        self.rank_on(host).is_some()
    }

    /// How well an entry for `self` serves a host of platform `host`, the more the better; none if it does not run there.
    fn rank_on(&self, host: &Self) -> Option<u32> {
        if self.os != host.os || self.architecture != host.architecture {
            return None;
        }
        let number = |variant: &str| variant.strip_prefix('v').and_then(|digits| digits.parse::<u32>().ok());
        match (self.variant.as_deref().filter(|variant| !variant.is_empty()), host.variant.as_deref()) {
            (None, _) => Some(1),
            // The lowest level of amd64, which every such machine has.
            (Some("v1"), None) => Some(2),
            (Some(_), None) => None,
            // A later processor runs code for an earlier one.
            (Some(wanted), Some(host)) => {
                let (wanted, host) = number(wanted).zip(number(host))?;
                (wanted <= host).then_some(1 + wanted)
            }
        }
    }
}

/// The entry of an index for `host`; the first of equally good ones. An entry that names no platform is the last resort.
#[must_use]
pub fn choose<'a>(entries: &'a [Descriptor], host: &Platform) -> Option<&'a Descriptor> {
    let rank = |entry: &Descriptor| match &entry.platform {
        None => Some(0),
        Some(platform) => platform.rank_on(host),
    };
    let ranked = entries.iter().filter_map(|entry| Some((rank(entry)?, entry)));
    ranked.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, entry)| entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(kind: &str) -> String {
        format!(r#"{{"mediaType":"{kind}","digest":"{}","size":3}}"#, Digest::of(kind.as_bytes()))
    }

    fn manifest(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2{extra},"config":{},"layers":[{}]}}"#,
            blob(CONFIGS[0]),
            blob(LAYERS[1])
        )
    }

    fn index(extra: &str) -> String {
        format!(r#"{{"schemaVersion":2{extra},"manifests":[{}]}}"#, blob(OCI_MANIFEST))
    }

    #[test]
    fn unambiguous_documents_are_read() {
        let typed = |kind: &str| format!(r#","mediaType":"{kind}""#);
        for (body, header, is_index) in [
            (manifest(""), Some(OCI_MANIFEST), false),
            (manifest(""), Some("application/json; charset=utf-8"), false),
            (manifest(&typed(DOCKER_MANIFEST)), Some(DOCKER_MANIFEST), false),
            (manifest(&typed(OCI_MANIFEST)), None, false),
            (manifest("").replace(LAYERS[1], LAYERS[8]), None, false),
            (index(""), Some(OCI_INDEX), true),
            (index(&typed(DOCKER_LIST)), Some("text/plain"), true),
        ] {
            let document = parse_manifest(body.as_bytes(), header).unwrap();
            assert_eq!(matches!(document, Document::Index(_)), is_index, "{body}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        let typed = |kind: &str| format!(r#","mediaType":"{kind}""#);
        let both = manifest(&format!(r#","manifests":[{}]"#, blob(OCI_MANIFEST)));
        let size = manifest("").replace("\"size\":3", "\"size\":18446744073709551615");
        let cases = [
            (both, None),
            (manifest(&typed(OCI_INDEX)), None),
            (manifest(""), Some(OCI_INDEX)),
            (manifest(&typed(OCI_MANIFEST)), Some(DOCKER_MANIFEST)),
            (index(&typed(OCI_MANIFEST)), None),
            (manifest(&format!("{}{}", typed(OCI_MANIFEST), typed(OCI_MANIFEST))), None),
            (manifest("").replace("\"schemaVersion\":2", "\"schemaVersion\":1"), None),
            (manifest(r#","fsLayers":[]"#), None),
            (manifest(&typed(SCHEMA_1[0])), None),
            (manifest("").replace(CONFIGS[0], "application/vnd.cncf.helm.config.v1+json"), None),
            (manifest("").replace(LAYERS[1], "application/vnd.docker.plugin.v1+json"), None),
            (manifest("").replace("sha256:", "sha256:../"), None),
            (manifest("").replace("sha256:", "md5:"), None),
            (size, None),
            (manifest("").replace("\"size\":3", "\"size\":-1"), None),
            (r#"{"schemaVersion":2}"#.into(), None),
            ("[]".into(), None),
            ("{".repeat(100_000), None),
            (format!(r#"{{"schemaVersion":2,"x":{}"#, "[".repeat(100_000)), None),
        ];
        for (body, header) in cases {
            let shown = &body[..body.len().min(200)];
            assert!(parse_manifest(body.as_bytes(), header).is_err(), "{shown} as {header:?}");
        }
    }

    #[test]
    fn the_hosts_platform_is_chosen() {
        let entry = |platform: &str| {
            let mut parts = platform.split('/').map(str::to_owned);
            let platform = (!platform.is_empty()).then(|| Platform {
                os: parts.next().unwrap(),
                architecture: parts.next().unwrap(),
                variant: parts.next(),
            });
            Descriptor { media_type: OCI_MANIFEST.into(), digest: Digest::of(b""), size: 1, platform }
        };
        let host = |text: &str| entry(text).platform.unwrap();
        let cases: [(&str, &[&str], Option<usize>); 9] = [
            ("linux/amd64", &["linux/arm64", "linux/amd64", "windows/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64", "unknown/unknown"], None),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/amd64/v3"], None),
            ("linux/amd64", &["", "linux/amd64"], Some(1)),
            ("linux/amd64", &["linux/arm64", ""], Some(1)),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm/v8"], Some(1)),
            ("linux/arm64/v8", &["linux/arm64"], Some(0)),
            ("linux/amd64", &["linux/amd64", "linux/amd64"], Some(0)),
        ];
        for (wanted, offered, expected) in cases {
            let entries: Vec<_> = offered.iter().map(|platform| entry(platform)).collect();
            let chosen = choose(&entries, &host(wanted));
            let position =
                chosen.and_then(|chosen| entries.iter().position(|entry| std::ptr::eq(entry, chosen)));
            assert_eq!(position, expected, "{wanted} of {offered:?}");
        }
    }
}
