//! Debian's docker-registry behind TLS with an authority of its own: what `certs.d` says of it, and what is said without.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cleat_image::{Image, Limits, PullError, PullFailure, Puller, Reference, Registries};

use super::fixture::docker_registry::DockerRegistry;
use super::fixture::image::TestImage;
use super::fixture::tar::Tar;
use super::pull_faults::text_of;
use super::store::Setting;

fn openssl(arguments: &[&str]) {
    let output = Command::new("timeout").arg("60").arg("openssl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Authorities and what they signed, each as `<name>.crt` and `<name>.key` in one folder.
struct Certificates(tempfile::TempDir);

impl Certificates {
    /// Two authorities that know nothing of each other; the first has signed a server and a client, the other a client.
    fn new() -> Self {
        let all = Self(tempfile::tempdir().unwrap());
        for authority in ["ours", "theirs"] {
            all.make(authority, None, "basicConstraints=critical,CA:TRUE");
        }
        all.make("server", Some("ours"), "subjectAltName=IP:127.0.0.1");
        all.make("client", Some("ours"), "extendedKeyUsage=clientAuth");
        all.make("stranger", Some("theirs"), "extendedKeyUsage=clientAuth");
        all
    }

    fn make(&self, name: &str, authority: Option<&str>, extension: &str) {
        let (certificate, key) = (self.path(name, "crt"), self.path(name, "key"));
        let subject = format!("/CN={name}");
        let new =
            ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
        let this =
            ["-subj", &subject, "-addext", extension, "-out", text(&certificate), "-keyout", text(&key)];
        let by = authority.map(|authority| (self.path(authority, "crt"), self.path(authority, "key")));
        let by = by.as_ref().map(|(certificate, key)| ["-CA", text(certificate), "-CAkey", text(key)]);
        let leaf = ["-addext", "basicConstraints=critical,CA:FALSE"];
        let rest = by.iter().flat_map(|by| by.iter().chain(&leaf)).copied();
        openssl(&new.into_iter().chain(this).chain(rest).collect::<Vec<_>>());
    }

    fn path(&self, name: &str, extension: &str) -> PathBuf {
        self.0.path().join(format!("{name}.{extension}"))
    }

    fn copy(&self, name: &str, extension: &str, to: PathBuf) {
        fs::copy(self.path(name, extension), to).unwrap();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A registry that has an image, and what knows it.
struct Place {
    certificates: Certificates,
    registry: DockerRegistry,
    image: Arc<Image>,
    reference: Reference,
}

impl Place {
    /// Push an image by what `certs.d` says, clients having to show a certificate where `asks_clients`.
    fn new(asks_clients: bool) -> Self {
        let certificates = Certificates::new();
        let registry = DockerRegistry::with_tls(|tls| {
            certificates.copy("server", "crt", tls.join("server.crt"));
            certificates.copy("server", "key", tls.join("server.key"));
            if asks_clients {
                certificates.copy("ours", "crt", tls.join("clients.crt"));
            }
        });
        let setting = Setting::new();
        let (_, image) = setting.pull("app:1", &TestImage::gzip(&[Tar::new().file("file", "1").finish()]));
        let reference = registry.reference("team/app:1");
        let place = Self { certificates, registry, image, reference };
        let folder = place.folder(&[
            ("ours", "crt", "ca.crt"),
            ("client", "crt", "us.cert"),
            ("client", "key", "us.key"),
        ]);
        let puller = place.puller(&setting, &folder);
        let push = puller.push(&place.image, &place.reference, None, Arc::new(|_: &_, _| {}));
        setting.runtime.block_on(push).unwrap();
        setting.runtime.block_on(puller.shutdown());
        place
    }

    /// A `certs.d` in which the registry's folder has these files: of whom, of which kind, called what.
    fn folder(&self, files: &[(&str, &str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let host = folder.path().join(self.registry.host());
        fs::create_dir(&host).unwrap();
        for (name, extension, called) in files {
            self.certificates.copy(name, extension, host.join(called));
        }
        folder
    }

    /// [`Place::folder`] with a `hosts.toml` of this text, in which `HOST` is the registry.
    fn hosts(&self, files: &[(&str, &str, &str)], hosts: &str) -> tempfile::TempDir {
        let folder = self.folder(files);
        let path = folder.path().join(self.registry.host()).join("hosts.toml");
        fs::write(path, hosts.replace("HOST", &format!("https://{}", self.registry.host()))).unwrap();
        folder
    }

    fn puller(&self, setting: &Setting, folder: &tempfile::TempDir) -> Puller {
        let puller = Puller::new(setting.store.clone(), Registries::default(), Limits::default());
        puller.set_host_folders(vec![folder.path().to_owned()]);
        puller
    }

    /// Pull into an empty store by what `folder` says.
    fn pull(&self, folder: &tempfile::TempDir) -> Result<Arc<Image>, Arc<PullError>> {
        let setting = Setting::new();
        let puller = self.puller(&setting, folder);
        let pulled = setting.runtime.block_on(puller.pull(&self.reference, None));
        setting.runtime.block_on(puller.shutdown());
        pulled
    }

    fn assert_pulled(&self, folder: &tempfile::TempDir) {
        assert_eq!(self.pull(folder).unwrap_or_else(|error| panic!("{}", text_of(&error))).id, self.image.id);
    }

    /// The pull fails, and its message has all of `parts`.
    fn assert_refused(&self, folder: &tempfile::TempDir, failure: PullFailure, parts: &[&str]) {
        let error = self.pull(folder).unwrap_err();
        let text = text_of(&error);
        assert_eq!(error.failure(), failure, "{text}");
        let parts = parts.iter().map(|part| part.replace("HOST", &self.registry.host()));
        parts.for_each(|part| assert!(text.contains(&part), "{part:?} is missing: {text}"));
    }
}

const AUTHORITY: (&str, &str, &str) = ("ours", "crt", "ca.crt");
const OTHER_AUTHORITY: (&str, &str, &str) = ("theirs", "crt", "ca.crt");

#[test]
fn privileged_an_authority_of_its_own_is_trusted_where_certs_d_says_so() {
    let place = Place::new(false);
    place.assert_pulled(&place.folder(&[AUTHORITY]));
    place.assert_pulled(&place.hosts(&[AUTHORITY], "ca = 'ca.crt'"));
    place.assert_pulled(&place.hosts(&[AUTHORITY], "[host.'HOST']\nca = ['ca.crt']"));
    let untrusted =
        ["https://HOST shows a certificate", "UnknownIssuer", "ca.crt into the folder certs.d/HOST"];
    for wrong in [
        place.folder(&[]),
        place.folder(&[OTHER_AUTHORITY]),
        place.hosts(&[OTHER_AUTHORITY], "ca = 'ca.crt'"),
        // It is there and nothing names it.
        place.hosts(&[AUTHORITY], "server = 'HOST'"),
    ] {
        place.assert_refused(&wrong, PullFailure::Unreachable, &untrusted);
    }
    let absent = place.hosts(&[], "ca = 'ca.crt'");
    place.assert_refused(&absent, PullFailure::Local, &["read the certificate or key", "HOST/ca.crt"]);
}

#[test]
fn privileged_who_skips_the_check_needs_no_authority() {
    let place = Place::new(false);
    place.assert_pulled(&place.hosts(&[], "skip_verify = true"));
    place.assert_pulled(&place.hosts(&[], "[host.'HOST']\nskip_verify = true"));
    place.assert_pulled(&place.hosts(&[OTHER_AUTHORITY], "ca = 'ca.crt'\nskip_verify = true"));
    let setting = Setting::new();
    let text = format!("[[registry]]\nlocation = '{}'\ninsecure = true", place.registry.host());
    let puller = Puller::new(setting.store.clone(), Registries::parse(&text).unwrap(), Limits::default());
    let pulled = setting.runtime.block_on(puller.pull(&place.reference, None)).unwrap();
    setting.runtime.block_on(puller.shutdown());
    assert_eq!(pulled.id, place.image.id);
}

#[test]
fn privileged_a_registry_that_asks_for_a_certificate_gets_it() {
    let place = Place::new(true);
    let (certificate, key) = (("client", "crt", "us.cert"), ("client", "key", "us.key"));
    place.assert_pulled(&place.folder(&[AUTHORITY, certificate, key]));
    let hosts = "ca = 'ca.crt'\nclient = [['us.cert', 'us.key']]";
    place.assert_pulled(&place.hosts(&[AUTHORITY, certificate, key], hosts));
    let both = place.hosts(&[AUTHORITY, certificate, key], "ca = 'ca.crt'\nclient = 'both.pem'");
    let read = |name| fs::read(both.path().join(place.registry.host()).join(name)).unwrap();
    let text = [read("us.cert"), read("us.key")].concat();
    fs::write(both.path().join(place.registry.host()).join("both.pem"), text).unwrap();
    place.assert_pulled(&both);

    let unknown = ["https://HOST does not accept who we are", "client.key into the folder certs.d/HOST"];
    place.assert_refused(&place.folder(&[AUTHORITY]), PullFailure::Unauthorized, &unknown);
    let stranger = [AUTHORITY, ("stranger", "crt", "us.cert"), ("stranger", "key", "us.key")];
    place.assert_refused(&place.folder(&stranger), PullFailure::Unauthorized, &unknown);
    let no_key = place.folder(&[AUTHORITY, certificate]);
    place.assert_refused(&no_key, PullFailure::Local, &["us.cert has no .key file beside it"]);
}
