//! Folders with one folder for each registry's host, as containerd, Docker and Podman have them in `certs.d`:
//!
//! ```text
//! <folder>/<host>[:port]/hosts.toml     containerd's: hosts to ask instead, in order, and the registry's own address
//! <folder>/<host>[:port]/*.crt          authorities to trust
//! <folder>/<host>[:port]/*.cert, *.key  who we are
//! <folder>/_default/hosts.toml          for registries without a folder
//! ```
//!
//! The first of the folders that has one for a host counts. Deciding what a `hosts.toml` means is pure.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::endpoint::{Endpoint, Trust};
use super::{Source, api_host};

const HOSTS_FILE: &str = "hosts.toml";
/// The folder for registries that have none.
const DEFAULT_FOLDER: &str = "_default";

/// The folders.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostFolders(pub(crate) Vec<PathBuf>);

/// Why what this host says about a registry could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HostsError {
    /// A file or folder that cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not TOML of the format.
    #[error("{path} is no hosts.toml")]
    Toml {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value that makes no sense.
    #[error("{path}: {value:?} is no {what}")]
    Value {
        /// Which file.
        path: PathBuf,
        /// The value.
        value: String,
        /// What was expected.
        what: &'static str,
    },
    /// A certificate without its key.
    #[error("{0} has no .key file beside it")]
    NoKey(PathBuf),
    /// The task that reads the folders ended without a result; that is a defect of this program.
    #[error("reading the folders of hosts ended without a result: please report this with the daemon's log")]
    Lost,
}

#[derive(Deserialize, Default)]
struct HostsFile {
    server: Option<String>,
    #[serde(flatten)]
    own: HostTable,
    #[serde(default)]
    host: BTreeMap<String, Spanned<HostTable>>,
}

#[derive(Clone, Deserialize, Default)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    #[serde(default)]
    ca: OneOrMany<PathBuf>,
    #[serde(default)]
    client: Client,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: BTreeMap<String, OneOrMany<String>>,
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// A file with certificate and key, a list of such, or a list of pairs; the first counts.
#[derive(Clone, Deserialize, Default)]
#[serde(untagged)]
enum Client {
    #[default]
    None,
    File(PathBuf),
    Files(Vec<PathBuf>),
    Pairs(Vec<[PathBuf; 2]>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl HostFolders {
    /// The sources with what the folders say of their hosts; hosts to ask instead come before the one they stand for.
    pub(crate) fn apply(&self, sources: Vec<Source>) -> Result<Vec<Source>, HostsError> {
        let mut applied = Vec::new();
        for source in sources {
            match self.folder(source.reference.registry()) {
                Some(folder) => applied.extend(of_folder(&folder, source)?),
                None => applied.push(source),
            }
        }
        Ok(applied)
    }

    fn folder(&self, host: &str) -> Option<PathBuf> {
        // containerd writes a port so where a colon cannot be in a name.
        let plain = host.replace(':', "_") + "_";
        let names = if host.contains(':') { vec![host, &plain] } else { vec![host] };
        let all = names.into_iter().chain([DEFAULT_FOLDER]);
        let mut places = all.flat_map(|name| self.0.iter().map(move |folder| folder.join(name)));
        places.find(|place| place.is_dir())
    }
}

fn of_folder(folder: &Path, source: Source) -> Result<Vec<Source>, HostsError> {
    let file = folder.join(HOSTS_FILE);
    match std::fs::read_to_string(&file) {
        Ok(text) => of_text(&file, &text, source),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let trust = certificates(folder)?;
            let endpoint = (!trust.is_plain()).then(|| Arc::new(Endpoint { trust, ..Endpoint::default() }));
            Ok(vec![Source { endpoint, ..source }])
        }
        Err(error) => Err(HostsError::Read { path: file, source: error }),
    }
}

/// Docker's and Podman's form: the kind of a file is told by its name.
fn certificates(folder: &Path) -> Result<Trust, HostsError> {
    let failed = |source| HostsError::Read { path: folder.to_owned(), source };
    let mut trust = Trust::default();
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut files = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let files = files.as_mut().map_err(|error| failed(io::Error::from(error.kind())))?;
    files.sort();
    for path in files.iter() {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => trust.authorities.push(path.clone()),
            Some("cert") if trust.client.is_none() => {
                let key = path.with_extension("key");
                if !key.exists() {
                    return Err(HostsError::NoKey(path.clone()));
                }
                trust.client = Some((path.clone(), key));
            }
            _ => {}
        }
    }
    Ok(trust)
}

/// The sources that the text of `file` makes of one.
fn of_text(file: &Path, text: &str, source: Source) -> Result<Vec<Source>, HostsError> {
    let parsed: HostsFile = toml::from_str(text)
        .map_err(|source| HostsError::Toml { path: file.to_owned(), source: Box::new(source) })?;
    let HostsFile { server, own, host } = parsed;
    let mut hosts: Vec<_> = host.into_iter().collect();
    // The order of the file is the order to ask in.
    hosts.sort_by_key(|(_, table)| table.span().start);
    let resolves = source.reference.digest().is_none();
    let mut sources = Vec::new();
    for (url, table) in hosts {
        let table = table.into_inner();
        if !table.can("pull") || (resolves && !table.can("resolve")) {
            continue;
        }
        let endpoint = Arc::new(table.endpoint(file, Some(&url), &source)?);
        let insecure = endpoint.trust.anybody || url.starts_with("http://");
        sources.push(Source { endpoint: Some(endpoint), mirror: true, insecure, ..source.clone() });
    }
    let endpoint = own.endpoint(file, server.as_deref(), &source)?;
    let insecure = source.insecure
        || endpoint.trust.anybody
        || server.is_some_and(|server| server.starts_with("http://"));
    let endpoint = (endpoint != Endpoint::default()).then(|| Arc::new(endpoint));
    sources.push(Source { endpoint, insecure, ..source });
    Ok(sources)
}

impl HostTable {
    fn can(&self, what: &str) -> bool {
        self.capabilities.as_ref().is_none_or(|list| list.iter().any(|capability| capability == what))
    }

    /// The endpoint at `url`, or at the registry itself.
    fn endpoint(self, file: &Path, url: Option<&str>, source: &Source) -> Result<Endpoint, HostsError> {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let base = url.map(|url| base(file, url, self.override_path)).transpose()?;
        let registry = source.reference.registry();
        let elsewhere = base.as_deref().is_some_and(|base| host_of(base) != api_host(registry));
        let client = match self.client {
            Client::None => None,
            Client::File(both) => Some((folder.join(&both), folder.join(both))),
            Client::Files(list) => list.first().map(|both| (folder.join(both), folder.join(both))),
            Client::Pairs(list) => list.first().map(|[cert, key]| (folder.join(cert), folder.join(key))),
        };
        let headers = self.header.into_iter();
        let headers = headers
            .flat_map(|(name, values)| values.into_vec().into_iter().map(move |value| (name.clone(), value)));
        Ok(Endpoint {
            base,
            namespace: elsewhere.then(|| registry.to_owned()),
            headers: headers.collect(),
            trust: Trust {
                authorities: self.ca.into_vec().into_iter().map(|path| folder.join(path)).collect(),
                client,
                anybody: self.skip_verify,
            },
        })
    }
}

fn host_of(base: &str) -> &str {
    let rest = base.split_once("://").map_or(base, |(_, rest)| rest);
    rest.split('/').next().unwrap_or_default()
}

/// `https://host/path` as what stands in front of a repository's name.
fn base(file: &Path, url: &str, override_path: bool) -> Result<String, HostsError> {
    let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let wrong =
        || HostsError::Value { path: file.to_owned(), value: url.clone(), what: "address of a registry" };
    let parsed = reqwest::Url::parse(&url).map_err(|_| wrong())?;
    let is_http = matches!(parsed.scheme(), "http" | "https");
    if !is_http || parsed.host_str().is_none() || parsed.query().is_some() || !parsed.username().is_empty() {
        return Err(wrong());
    }
    let plain = url.trim_end_matches('/');
    // Unless the path is to stay as it is, the interface is below it.
    Ok(if override_path || plain.ends_with("/v2") { plain.to_owned() } else { format!("{plain}/v2") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::Reference;

    fn source(name: &str) -> Source {
        Source { reference: Reference::parse(name).unwrap(), insecure: false, mirror: false, endpoint: None }
    }

    fn decide(text: &str, name: &str) -> Result<Vec<Source>, HostsError> {
        of_text(Path::new("/certs.d/docker.io/hosts.toml"), text, source(name))
    }

    fn bases(sources: &[Source]) -> Vec<(Option<&str>, bool)> {
        let base = |source: &'_ Source| source.mirror;
        let bases = sources.iter().map(|source| source.endpoint.as_ref().and_then(|end| end.base.as_deref()));
        bases.zip(sources.iter().map(base)).collect()
    }

    #[test]
    fn hosts_are_asked_in_the_files_order_and_the_registry_last() {
        let text = r#"
            server = "https://registry-1.docker.io"
            [host."https://z.example"]
            [host."http://a.example:5000/mirror"]
              capabilities = ["pull"]
              [host."http://a.example:5000/mirror".header]
                x-one = "1"
                x-two = ["2", "3"]
            [host."https://b.example/api/docker"]
              capabilities = ["pull", "resolve"]
              override_path = true
              skip_verify = true
              ca = ["one.pem", "/two.pem"]
              client = [["c.cert", "c.key"]]
            [host."https://push.example"]
              capabilities = ["push"]
        "#;
        let sources = decide(text, "busybox:1").unwrap();
        let hub = Some("https://registry-1.docker.io/v2");
        let (z, b) = (Some("https://z.example/v2"), Some("https://b.example/api/docker"));
        assert_eq!(bases(&sources), [(z, true), (b, true), (hub, false)]);
        let endpoint = sources[1].endpoint.as_ref().unwrap();
        assert_eq!(endpoint.namespace.as_deref(), Some("docker.io"));
        assert_eq!(
            endpoint.trust.authorities,
            [Path::new("/certs.d/docker.io/one.pem"), Path::new("/two.pem")]
        );
        assert_eq!(endpoint.trust.client.as_ref().unwrap().1, Path::new("/certs.d/docker.io/c.key"));
        assert!(endpoint.trust.anybody && sources[1].insecure);
        assert_eq!(sources[2].endpoint.as_ref().unwrap().namespace, None);
        let digest = crate::reference::Digest::of(b"x");
        let by_digest = decide(text, &format!("busybox@{digest}")).unwrap();
        let a = Some("http://a.example:5000/mirror/v2");
        assert_eq!(bases(&by_digest), [(z, true), (a, true), (b, true), (hub, false)]);
        let headers = &by_digest[1].endpoint.as_ref().unwrap().headers;
        assert_eq!(headers.len(), 3);
    }

    #[test]
    fn mistakes_are_told() {
        for text in [
            "server = 5",
            "server = 'ftp://x'",
            "[host.'https://user@x']",
            "[host.'https://x?y']",
            "[host.'https://x']\nca = 5",
            "nonsense",
        ] {
            assert!(decide(text, "busybox").is_err(), "{text}");
        }
        assert_eq!(decide("", "busybox").unwrap(), [source("busybox")]);
    }

    #[test]
    fn the_first_folder_with_a_host_counts() {
        let base = tempfile::tempdir().unwrap();
        let make = |path: &str, text: &str| {
            let path = base.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        make("one/a.example:5000/ca.crt", "");
        make("one/a.example:5000/client.cert", "");
        make("one/a.example:5000/client.key", "");
        make("two/a.example:5000/hosts.toml", "nonsense");
        make("two/b.example_443_/hosts.toml", "server = 'https://elsewhere.example'");
        make("two/_default/hosts.toml", "[host.'https://cache.example']");
        make("one/broken.example/x.cert", "");
        let folders = HostFolders(vec![base.path().join("one"), base.path().join("two")]);
        let apply = |name: &str| folders.apply(vec![source(name)]);
        let own = apply("a.example:5000/x").unwrap();
        let trust = &own[0].endpoint.as_ref().unwrap().trust;
        assert_eq!((own.len(), trust.authorities.len(), trust.client.is_some()), (1, 1, true));
        assert_eq!(
            bases(&apply("b.example:443/x").unwrap()),
            [(Some("https://elsewhere.example/v2"), false)]
        );
        assert_eq!(
            bases(&apply("c.example/x").unwrap()),
            [(Some("https://cache.example/v2"), true), (None, false)]
        );
        assert!(matches!(apply("broken.example/x"), Err(HostsError::NoKey(_))));
        assert_eq!(HostFolders::default().apply(vec![source("x")]).unwrap(), [source("x")]);
    }

    #[test]
    fn any_hosts_file_is_read_or_refused() {
        let seeds: [&[u8]; 1] = [b"server = 'https://s'\nskip_verify = true\n[host.'http://h:1/p']\nca = ['a', 'b']\n\
            client = [['c', 'k']]\ncapabilities = ['pull', 'resolve']\n[host.'http://h:1/p'.header]\nx = ['1', '2']\n"];
        crate::fuzz::run("hosts.toml", &seeds, |input| {
            drop(decide(&String::from_utf8_lossy(input), "busybox"));
        });
    }
}
