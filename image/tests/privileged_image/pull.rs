//! Pulls that succeed: indexes, tokens, mirrors, resumed transfers, many callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use cleat_image::registry::Platform;
use cleat_image::{
    Credentials, Digest, Image, Limits, PullError, Puller, Reference, Registries, Secret, Store,
};
use serde_json::json;

use super::fixture::image::{TestImage, descriptor};
use super::fixture::registry::{Registry, Reply, Request, Then};
use super::fixture::tar::Tar;

/// A store in a folder of its own, and how to pull into it.
pub(crate) struct Target {
    pub(crate) store: Store,
    pub(crate) puller: Puller,
    _folder: tempfile::TempDir,
}

/// Every test of this file ends within this time.
pub(crate) const TEST_LIMIT: Duration = Duration::from_secs(60);

impl Target {
    pub(crate) fn new(registries: Registries) -> Self {
        let limits = Limits {
            stall_window: Duration::from_millis(400),
            backoff: Duration::from_millis(1),
            response_timeout: Duration::from_secs(5),
            ..Limits::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let puller = Puller::new(store.clone(), registries, limits);
        Self { store, puller, _folder: folder }
    }

    pub(crate) async fn pull(&self, reference: &Reference) -> Result<Arc<Image>, Arc<PullError>> {
        self.pull_as(reference, None).await
    }

    pub(crate) async fn pull_as(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Arc<Image>, Arc<PullError>> {
        let pull = self.puller.pull(reference, credentials);
        tokio::time::timeout(TEST_LIMIT, pull).await.expect("the pull hangs")
    }

    /// Nothing is left of failed or finished work. Waits for the puller's tasks, so it comes last.
    pub(crate) async fn assert_tidy(&self) {
        tokio::time::timeout(TEST_LIMIT, self.puller.shutdown()).await.expect("shutting down hangs");
        assert_eq!(
            std::fs::read_dir(self.store.root().join("tmp")).unwrap().count(),
            0,
            "something is left in tmp/"
        );
        let layers = std::fs::read_dir(self.store.root().join("layers/sha256")).unwrap().count();
        let mut used: Vec<_> = self.store.list().iter().flat_map(|image| image.layers.clone()).collect();
        used.sort();
        used.dedup();
        assert_eq!(layers, used.len(), "a layer without an image");
    }
}

/// Bytes that do not compress, so that a blob has many pieces.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

pub(crate) fn sample() -> TestImage {
    TestImage::gzip(&[
        Tar::new().file("etc/passwd", "root").file("big", noise(600_000)).finish(),
        Tar::new().file("second", noise(300_000)).finish(),
    ])
}

fn is_layer(request: &Request, image: &TestImage) -> bool {
    request.path.ends_with(&Digest::of(&image.layers[0]).to_string())
}

#[tokio::test]
async fn privileged_an_index_leads_to_this_hosts_image() {
    let registry = Registry::start();
    let (image, decoy) = (sample(), TestImage::gzip(&[Tar::new().file("decoy", "").finish()]));
    registry.push("app:inner", &image);
    registry.push("app:decoy", &decoy);
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let entry = |manifest: &[u8], architecture: &str| {
        let mut entry = descriptor(kind, manifest);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let inner = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry(&decoy.manifest, "s390x-decoy"), entry(&image.manifest, &Platform::host().architecture)]});
    let inner = inner.to_string().into_bytes();
    registry.push_manifest("app", "index", &inner);
    let outer = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
        "manifests": [descriptor("application/vnd.oci.image.index.v1+json", &inner)]});
    let outer = outer.to_string().into_bytes();
    let reference = registry.push_manifest("app", "nested", &outer);
    let target = Target::new(registry.registries());
    let pulled = target.pull(&reference).await.unwrap();
    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.digests, [reference.at(Digest::of(&outer))], "one digest: what the tag stood for");
    assert_eq!(pulled.manifest, Digest::of(&image.manifest));
    let by_digest = target.pull(&reference.at(Digest::of(&outer))).await.unwrap();
    assert_eq!(by_digest, pulled);
    assert_eq!(registry.count("/blobs/"), 4, "the second pull took the configuration only");
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_ten_callers_are_one_download() {
    let registry = Registry::start();
    let image = sample();
    let reference = registry.push("app:1", &image);
    let sibling = registry.push("sibling:1", &image);
    let target = Target::new(registry.registries());
    let mut handles: Vec<_> = (0..10).map(|_| target.puller.start(&reference, None)).collect();
    handles.push(target.puller.start(&sibling, None));
    for handle in handles {
        assert_eq!(handle.wait().await.unwrap().id, image.id());
    }
    assert_eq!(registry.count("app/manifests/"), 1);
    for layer in &image.layers {
        assert_eq!(registry.count(&Digest::of(layer).to_string()), 1, "a layer was transferred twice");
    }
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_a_pull_survives_its_caller() {
    let registry = Registry::start();
    let reference = registry.push("app:1", &sample());
    let target = Target::new(registry.registries());
    let mut watch = target.puller.start(&reference, None).progress();
    while watch.changed().await {}
    let progress = watch.now();
    assert!(progress.layers.iter().all(|layer| layer.done_bytes == layer.total_bytes), "{progress:?}");
    assert!(target.store.find(&reference).is_some());
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_a_broken_transfer_is_resumed_where_it_broke() {
    let image = sample();
    let (served, tries) = (image.clone(), AtomicUsize::new(0));
    let registry = Registry::with(move |request, content| {
        if !is_layer(request, &served) {
            return None;
        }
        match tries.fetch_add(1, Ordering::SeqCst) {
            0 => Some(content.answer(request).then(Then::Cut(100_000))),
            1 => Some(Reply::new(503, "")),
            2 => Some(content.answer(request).then(Then::Stall(50_000))),
            // A server that knows no ranges begins anew.
            3 => Some(Reply::new(200, served.layers[0].clone()).then(Then::Cut(400_000))),
            _ => None,
        }
    });
    let reference = registry.push("app:1", &image);
    let target = Target::new(registry.registries());
    assert_eq!(target.pull(&reference).await.unwrap().id, image.id());
    let requests = registry.requests();
    let ranges: Vec<_> = requests.iter().filter(|request| is_layer(request, &image)).collect();
    let from = |at: usize| ranges[at].headers.get("range").map(String::as_str);
    assert_eq!((from(0), from(1), from(2)), (None, Some("bytes=100000-"), Some("bytes=100000-")));
    assert_eq!((from(3), from(4)), (Some("bytes=150000-"), Some("bytes=400000-")));
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_tokens_are_fetched_with_the_credentials_and_kept() {
    let services = Arc::new(std::sync::OnceLock::<String>::new());
    let realm = Arc::clone(&services);
    let registry = Registry::with(move |request, _| {
        if request.path.starts_with("/token") {
            let expected =
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("user:secret"));
            let allowed = request.headers.get("authorization") == Some(&expected);
            assert!(request.path.contains("scope=repository%3Aapp%3Apull"), "{}", request.path);
            return Some(if allowed {
                Reply::new(200, r#"{"token":"t0ken"}"#)
            } else {
                Reply::new(401, "{}")
            });
        }
        if request.headers.get("authorization").is_some_and(|value| value == "Bearer t0ken") {
            return None;
        }
        let challenge = format!(r#"Bearer realm="{}/token",service="s""#, realm.get().unwrap());
        Some(Reply::new(401, "{}").header("www-authenticate", challenge))
    });
    services.set(format!("http://{}", registry.host())).unwrap();
    let reference = registry.push("app:1", &sample());
    let target = Target::new(registry.registries());
    let credentials = Credentials::Basic { username: "user".into(), password: Secret::new("secret") };
    target.pull_as(&reference, Some(credentials)).await.unwrap();
    assert_eq!(registry.count("/token"), 1, "the token is kept for the blobs");
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_an_identity_token_is_exchanged() {
    let services = Arc::new(std::sync::OnceLock::<String>::new());
    let realm = Arc::clone(&services);
    let registry = Registry::with(move |request, _| match request.headers.get("authorization") {
        _ if request.path == "/oauth?tenant=1" => {
            assert_eq!(request.method, "POST");
            let expected = "grant_type=refresh_token&refresh_token=re%26fresh&client_id=cleat&scope=repository%3Aapp%3Apull";
            assert_eq!(request.body, expected);
            Some(Reply::new(200, r#"{"access_token":"t0ken"}"#))
        }
        Some(value) if value == "Bearer t0ken" => None,
        _ => {
            let challenge = format!(r#"Bearer realm="{}/oauth?tenant=1""#, realm.get().unwrap());
            Some(Reply::new(401, "{}").header("www-authenticate", challenge))
        }
    });
    services.set(format!("http://{}", registry.host())).unwrap();
    let reference = registry.push("app:1", &sample());
    let target = Target::new(registry.registries());
    target.pull_as(&reference, Some(Credentials::IdentityToken(Secret::new("re&fresh")))).await.unwrap();
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_credentials_do_not_follow_a_redirect_to_another_host() {
    let image = sample();
    let elsewhere = Registry::start();
    elsewhere.push("app:1", &image);
    let there = elsewhere.host();
    let registry = Registry::with(move |request, _| {
        let authorized = request.headers.contains_key("authorization");
        if !authorized {
            return Some(Reply::new(401, "{}").header("www-authenticate", "Basic realm=\"x\""));
        }
        let redirect = request.path.contains("/blobs/");
        redirect.then(|| Reply::new(307, "").header("location", format!("http://{there}{}", request.path)))
    });
    let reference = registry.push("app:1", &image);
    let target = Target::new(registry.registries());
    let credentials = Credentials::from_auth("dXNlcjpzZWNyZXQ=").unwrap();
    target.pull_as(&reference, Some(credentials)).await.unwrap();
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| !request.headers.contains_key("authorization")), "{requests:?}");
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_a_mirror_is_tried_first_and_gets_no_credentials() {
    let image = sample();
    let mirror = Registry::with(|request, _| request.path.contains("/blobs/").then(|| Reply::new(404, "")));
    let registry = Registry::start();
    let reference = registry.push("app:1", &image);
    mirror.push("cache/app:1", &image);
    let text = format!(
        "[[registry]]\nlocation = '{0}'\ninsecure = true\n[[registry.mirror]]\nlocation = '{1}/cache'\ninsecure = true",
        registry.host(),
        mirror.host()
    );
    let target = Target::new(Registries::parse(&text).unwrap());
    let token = Credentials::RegistryToken(Secret::new("secret"));
    let pulled = target.pull_as(&reference, Some(token)).await.unwrap();
    assert_eq!(pulled.names, [reference]);
    assert_eq!(mirror.count("/manifests/"), 1);
    assert_eq!(registry.count("/manifests/"), 0, "the mirror had the manifest");
    assert_eq!(registry.count("/blobs/"), 3, "what the mirror lacks comes from the registry");
    assert!(mirror.requests().iter().all(|request| !request.headers.contains_key("authorization")));
    assert!(registry.requests().iter().all(|request| request.headers["authorization"] == "Bearer secret"));
    target.assert_tidy().await;
}
