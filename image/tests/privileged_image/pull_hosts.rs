//! Pulls by this host's own files: policy, credentials, hosts; and registries that are in trouble for a while.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cleat_image::{Digest, Policy, PullFailure};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::fixture::image::descriptor;
use super::fixture::registry::{Registry, Reply, Request};
use super::kill::program;
use super::pull::{Target, sample};
use super::pull_faults::text_of;

#[tokio::test]
async fn privileged_a_registry_in_trouble_is_asked_again() {
    let failures = AtomicUsize::new(0);
    let registry = Registry::with(move |_, _| match failures.fetch_add(1, Ordering::SeqCst) {
        0 => Some(Reply::new(429, "").header("retry-after", "1")),
        1 | 5 | 8 => Some(Reply::new(503, "")),
        2 | 6 => Some(Reply::new(500, "")),
        _ => None,
    });
    let reference = registry.push("app:1", &sample());
    let target = Target::new(registry.registries());
    let begun = Instant::now();
    target.pull(&reference).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "it asked to be left alone for a second");
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_a_registry_that_takes_no_token_is_not_asked_for_ever() {
    let registry = Registry::with(|request, _| {
        if request.path.starts_with("/token") {
            return Some(Reply::new(200, r#"{"token":"useless"}"#));
        }
        let host = &request.headers["host"];
        let challenge = format!("Bearer realm=\"http://{host}/token\",service=\"x\"");
        Some(Reply::new(401, "").header("www-authenticate", challenge))
    });
    let reference = registry.push("app:1", &sample());
    let target = Target::new(registry.registries());
    let error = target.pull(&reference).await.unwrap_err();
    assert_eq!(error.failure(), PullFailure::Unauthorized, "{}", text_of(&error));
    assert!(registry.requests().len() <= 4, "{:?}", registry.requests());
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_only_signed_images_are_let_in() {
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key.as_ref(), &random).unwrap();
    let prefix = STANDARD.decode("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgA=").unwrap();
    let spki = STANDARD.encode([prefix, key.public_key().as_ref().to_vec()].concat());
    let folder = tempfile::tempdir().unwrap();
    let (key_file, policy_file) = (folder.path().join("key.pub"), folder.path().join("policy.json"));
    fs::write(&key_file, format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n")).unwrap();
    let requirement = json!({"type": "sigstoreSigned", "keyPath": key_file,
        "signedIdentity": {"type": "matchRepository"}});
    fs::write(&policy_file, json!({"default": [requirement]}).to_string()).unwrap();

    let (registry, image) = (Registry::start(), sample());
    let reference = registry.push("app:1", &image);
    let target = Target::new(registry.registries());
    target.puller.set_policy(Policy::load(&policy_file).unwrap());
    let error = target.pull(&reference).await.unwrap_err();
    assert_eq!(error.failure(), PullFailure::Signature, "{}", text_of(&error));
    assert_eq!(registry.count(&image.id().to_string()), 0, "nothing of the image was fetched");

    let digest = Digest::of(&image.manifest);
    let payload = json!({"critical": {"identity": {"docker-reference": reference.name()},
        "image": {"docker-manifest-digest": digest.to_string()},
        "type": "cosign container image signature"}, "optional": null});
    let payload = payload.to_string().into_bytes();
    let signature = STANDARD.encode(key.sign(&random, &payload).unwrap());
    let mut layer = descriptor("application/vnd.dev.cosign.simplesigning.v1+json", &payload);
    layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", b"{}"), "layers": [layer]});
    registry.put(&format!("app/blobs/{}", Digest::of(&payload)), "application/octet-stream", &payload);
    registry.push_manifest("app", &format!("sha256-{}.sig", digest.hex()), manifest.to_string().as_bytes());
    target.pull(&reference).await.unwrap();
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_this_hosts_files_lead_to_a_mirror_and_its_credentials() {
    let right = format!("Basic {}", STANDARD.encode("host:p"));
    let mirror = Registry::with(move |request, _| {
        let allowed = request.headers.get("authorization") == Some(&right);
        (!allowed).then(|| Reply::new(401, "").header("www-authenticate", "Basic realm=\"x\""))
    });
    let image = sample();
    mirror.push("team/app:1", &image);
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("certs.d/registry.invalid");
    fs::create_dir_all(&hosts).unwrap();
    let text = format!("[host.'http://{0}']\n[host.'http://{0}'.header]\nx-node = 'n1'", mirror.host());
    fs::write(hosts.join("hosts.toml"), text).unwrap();
    let auth = folder.path().join("auth.json");
    let entry = json!({"auths": {"registry.invalid/team": {"auth": STANDARD.encode("host:p")}}});
    fs::write(&auth, entry.to_string()).unwrap();

    let target = Target::new(cleat_image::Registries::default());
    target.puller.set_host_folders(vec![folder.path().join("certs.d")]);
    target.puller.set_auth_files(vec![folder.path().join("absent.json"), auth]);
    let reference = cleat_image::Reference::parse("registry.invalid/team/app:1").unwrap();
    let pulled = target.pull(&reference).await;
    let requests = mirror.requests();
    assert!(requests.iter().all(|request| request.path.ends_with("?ns=registry.invalid")), "{requests:?}");
    assert!(requests.iter().all(|request| request.headers.get("x-node").is_some_and(|value| value == "n1")));
    assert!(requests.iter().any(|request| request.headers.contains_key("authorization")));
    assert_eq!(pulled.unwrap().id, image.id());
    target.assert_tidy().await;
}

/// The environment is the process's: a process of its own pulls. The registry's name leads nowhere, so that only the proxy
/// can have answered.
#[test]
fn privileged_proxies_of_the_environment_are_used() {
    let proxy = Registry::with(|request, content| {
        let direct = request.path.strip_prefix("http://registry.invalid")?.to_owned();
        Some(content.answer(&Request { path: direct, ..request.clone() }))
    });
    proxy.push("app:1", &sample());
    let folder = tempfile::tempdir().unwrap();
    let configuration = folder.path().join("registries.conf");
    fs::write(&configuration, "[[registry]]\nlocation = 'registry.invalid'\ninsecure = true").unwrap();
    let mut pull = std::process::Command::new(program());
    pull.arg(folder.path().join("store")).arg("registry.invalid/app:1").arg(&configuration);
    pull.env_remove("no_proxy").env_remove("NO_PROXY").env("http_proxy", format!("http://{}", proxy.host()));
    let output = pull.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!proxy.requests().is_empty());
}
