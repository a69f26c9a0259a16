//! Pulls that fail, each for the right reason and without a trace: registries that lie, stall, refuse, or are not there.

use std::time::Duration;

use cleat_image::{Credentials, Digest, Limits, PullError, PullFailure, Puller, Registries, Store};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use serde_json::json;

use super::fixture::image::{Compression, TestImage, descriptor};
use super::fixture::registry::{Content, Registry, Reply, Request, Then};
use super::fixture::tar::Tar;
use super::pull::{Target, noise, sample};

pub(crate) type Lie = Box<dyn Fn(&Request, &Content) -> Option<Reply> + Send + Sync>;

/// Pull an image from a registry that lies about it.
async fn pull_with(image: &TestImage, lie: Lie) -> (PullFailure, String) {
    let registry = Registry::with(lie);
    let reference = registry.push("app:1", image);
    let target = Target::new(registry.registries());
    let error = target.pull(&reference).await.expect_err("the lie was believed");
    assert!(target.store.list().is_empty());
    target.assert_tidy().await;
    let text = text_of(&error);
    let image = format!("pull {reference}: ");
    assert!(text.starts_with(&image) && text.matches(&reference.to_string()).count() == 1, "{text}");
    (error.failure(), text)
}

/// An error with its causes, as a client is told.
pub(crate) fn text_of(error: &PullError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Answer requests for the second layer by `answer`.
pub(crate) fn about_a_layer(
    image: &TestImage,
    answer: impl Fn(&[u8]) -> Reply + Send + Sync + 'static,
) -> Lie {
    let (digest, blob) = (Digest::of(&image.layers[1]).to_string(), image.layers[1].clone());
    Box::new(move |request, _| request.path.ends_with(&digest).then(|| answer(&blob)))
}

#[tokio::test]
async fn privileged_lies_about_a_layer_are_found_out() {
    let image = sample();
    let cases: Vec<(&str, PullFailure, Lie)> = vec![
        (
            "other bytes",
            PullFailure::Invalid,
            about_a_layer(&image, |blob| {
                let mut other = blob.to_vec();
                let middle = other.len() / 2;
                other[middle] ^= 1;
                Reply::new(200, other)
            }),
        ),
        (
            "another announced length",
            PullFailure::Invalid,
            about_a_layer(&image, |blob| Reply::new(200, &blob[1..])),
        ),
        (
            "more bytes than announced",
            PullFailure::Invalid,
            about_a_layer(&image, |blob| {
                let chunk =
                    [format!("{:x}\r\n", blob.len() + 1).as_bytes(), blob, b"x\r\n0\r\n\r\n"].concat();
                Reply::new(200, chunk).header("transfer-encoding", "chunked").header("content-length", "")
            }),
        ),
        (
            "always cut short",
            PullFailure::Unreachable,
            about_a_layer(&image, |blob| Reply::new(200, blob).then(Then::Cut(10))),
        ),
        (
            "never moving",
            PullFailure::Unreachable,
            about_a_layer(&image, |blob| Reply::new(200, blob).then(Then::Stall(10))),
        ),
        (
            "trickling",
            PullFailure::Unreachable,
            about_a_layer(&image, |blob| Reply::new(200, blob).then(Then::Trickle)),
        ),
        (
            "always too many requests",
            PullFailure::Unreachable,
            about_a_layer(&image, |_| Reply::new(429, "").header("retry-after", "0")),
        ),
        (
            "a token that never does",
            PullFailure::Unauthorized,
            about_a_layer(&image, |_| {
                Reply::new(401, "").header("www-authenticate", "Basic realm=\"again\"")
            }),
        ),
        ("not there", PullFailure::NotFound, about_a_layer(&image, |_| Reply::new(404, ""))),
        ("forbidden", PullFailure::Unauthorized, about_a_layer(&image, |_| Reply::new(403, ""))),
        ("broken", PullFailure::Unreachable, about_a_layer(&image, |_| Reply::new(500, ""))),
        (
            "redirected in circles",
            PullFailure::Invalid,
            about_a_layer(&image, |_| Reply::new(302, "").header("location", "")),
        ),
        (
            "redirected to a file",
            PullFailure::Invalid,
            about_a_layer(&image, |_| Reply::new(302, "").header("location", "file:///etc/passwd")),
        ),
    ];
    for (name, expected, lie) in cases {
        let begun = std::time::Instant::now();
        let (failure, text) = pull_with(&image, lie).await;
        assert_eq!(failure, expected, "{name}: {text}");
        let layer = format!(": layer {}: ", Digest::of(&image.layers[1]));
        assert!(text.contains(&layer) && text.matches(layer.trim_matches([':', ' '])).count() == 1, "{text}");
        assert!(begun.elapsed() < Duration::from_secs(20), "{name} took too long");
    }
}

#[tokio::test]
async fn privileged_a_lying_configuration_is_found_out() {
    let tar = Tar::new().file("a", "b").finish();
    let (zstd, none) = (Compression::Zstd, Compression::None);
    let wrong_diff_id = TestImage::with_diff_ids(&[(tar.clone(), zstd)], &[Digest::of(b"something else")]);
    let (failure, text) = pull_with(&wrong_diff_id, Box::new(|_, _| None)).await;
    assert_eq!(failure, PullFailure::Invalid, "{text}");
    assert!(text.contains("unpacks to"), "{text}");
    let too_many = TestImage::with_diff_ids(&[(tar.clone(), none)], &[Digest::of(&tar), Digest::of(b"")]);
    let (failure, text) = pull_with(&too_many, Box::new(|_, _| None)).await;
    assert_eq!(failure, PullFailure::Invalid, "{text}");
    let mut not_json = sample();
    not_json.config = b"{\"rootfs\": 7}".to_vec();
    not_json.describe();
    let (failure, text) = pull_with(&not_json, Box::new(|_, _| None)).await;
    assert_eq!(failure, PullFailure::Invalid, "{text}");
}

#[tokio::test]
async fn privileged_evil_layers_fail_the_pull() {
    for (name, tar) in [
        ("escape", Tar::new().file("../../escape", "x").finish()),
        ("hard link out", Tar::new().hard_link("a", "/etc/passwd").finish()),
        ("garbage", noise(5000)),
        ("cut", Tar::new().file("a", vec![0; 3000]).cut()[..2000].to_vec()),
    ] {
        let (failure, text) = pull_with(&TestImage::gzip(&[tar]), Box::new(|_, _| None)).await;
        assert_eq!(failure, PullFailure::Invalid, "{name}: {text}");
    }
}

#[tokio::test]
async fn privileged_bad_manifests_are_refused() {
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let image = sample();
    let mut both: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    both["manifests"] = json!([]);
    let foreign = json!({"schemaVersion": 2, "mediaType": index, "manifests": [{
        "mediaType": kind, "digest": Digest::of(b"").to_string(), "size": 1,
        "platform": {"os": "plan9", "architecture": "pdp11"}}]});
    let schema_1 = json!({"schemaVersion": 1, "name": "app", "tag": "1", "fsLayers": []});
    let missing =
        json!({"schemaVersion": 2, "mediaType": index, "manifests": [descriptor(kind, b"nobody has this")]});
    for (name, manifest, expected) in [
        ("both", both.to_string(), PullFailure::Invalid),
        ("foreign", foreign.to_string(), PullFailure::NotFound),
        ("schema 1", schema_1.to_string(), PullFailure::Invalid),
        ("missing", missing.to_string(), PullFailure::NotFound),
        ("huge", format!("{{{}", " ".repeat(5 << 20)), PullFailure::Invalid),
    ] {
        let answer = manifest.clone();
        let (failure, text) = pull_with(
            &image,
            Box::new(move |request, _| {
                request.path.ends_with("/manifests/1").then(|| Reply::new(200, answer.clone()))
            }),
        )
        .await;
        assert_eq!(failure, expected, "{name}: {text}");
    }
    let (failure, text) = pull_with(
        &image,
        Box::new(|request, content| {
            let promise = Digest::of(b"another manifest").to_string();
            request
                .path
                .contains("/manifests/")
                .then(|| content.answer(request).header("docker-content-digest", promise))
        }),
    )
    .await;
    assert_eq!(failure, PullFailure::Invalid, "{text}");
}

#[tokio::test]
async fn privileged_refusals_keep_their_reason() {
    let registry = Registry::with(|_, _| {
        let body = r#"{"errors":[{"code":"DENIED","message":"ask\u001b[31m the owner"}]}"#;
        Some(Reply::new(401, body).header("www-authenticate", "Basic realm=\"x\""))
    });
    let reference = registry.push("app:1", &sample());
    let target = Target::new(registry.registries());
    for credentials in [None, Some(Credentials::from_auth("dTpw").unwrap())] {
        let error = target.pull_as(&reference, credentials).await.unwrap_err();
        assert_eq!(error.failure(), PullFailure::Unauthorized);
        let cause = std::error::Error::source(&*error).unwrap().to_string();
        assert!(cause.ends_with("DENIED ask[31m the owner"), "{cause:?}");
    }
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_plain_http_needs_permission() {
    let registry = Registry::start();
    let reference = registry.push("app:1", &sample());
    let target = Target::new(Registries::default());
    let error = target.pull(&reference).await.unwrap_err();
    assert_eq!(error.failure(), PullFailure::Unreachable);
    assert!(registry.requests().is_empty(), "something was asked for in the clear");
    let blocked = format!("[[registry]]\nlocation = '{}'\nblocked = true", registry.host());
    target.puller.set_registries(Registries::parse(&blocked).unwrap());
    assert_eq!(target.pull(&reference).await.unwrap_err().failure(), PullFailure::Blocked);
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_shutting_down_ends_a_pull_that_hangs() {
    let image = sample();
    let digest = Digest::of(&image.layers[0]).to_string();
    let registry = Registry::with(move |request, content| {
        request.path.ends_with(&digest).then(|| content.answer(request).then(Then::Stall(1000)))
    });
    let reference = registry.push("app:1", &image);
    let target = Target::new(registry.registries());
    let handle = target.puller.start(&reference, None);
    let mut watch = handle.progress();
    while watch.now().layers.is_empty() {
        assert!(watch.changed().await);
    }
    target.assert_tidy().await;
    assert_eq!(handle.wait().await.unwrap_err().failure(), PullFailure::Cancelled);
    assert_eq!(target.pull(&reference).await.unwrap_err().failure(), PullFailure::Cancelled);
}

/// On a thread with a mount namespace of its own, so that the small file system is seen by this test alone; the runtime's
/// threads inherit the namespace.
#[test]
fn privileged_a_full_disk_is_told_apart_and_left_clean() {
    let full = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).unwrap();
        let folder = tempfile::tempdir().unwrap();
        mount("none", folder.path(), "tmpfs", MountFlags::empty(), Some(c"size=1m")).unwrap();
        let registry = Registry::start();
        let big = TestImage::gzip(&[Tar::new().file("big", noise(4 << 20)).finish()]);
        let (big, small) = (registry.push("big:1", &big), registry.push("small:1", &TestImage::gzip(&[])));
        let store = Store::open(&folder.path().join("store")).unwrap();
        let puller = Puller::new(store.clone(), registry.registries(), Limits::default());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let error = runtime.block_on(puller.pull(&big, None)).unwrap_err();
        assert_eq!(error.failure(), PullFailure::NoSpace, "{error:?}");
        let begin = format!("pull {big}: layer sha256:");
        let text = text_of(&error);
        assert!(text.starts_with(&begin) && text.contains(": unpack: no space left on"), "{text}");
        runtime.block_on(puller.pull(&small, None)).expect("there is room again");
        runtime.block_on(puller.shutdown());
        assert_eq!(std::fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
        drop((puller, store));
        rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::empty()).unwrap();
    };
    std::thread::spawn(full).join().unwrap();
}
