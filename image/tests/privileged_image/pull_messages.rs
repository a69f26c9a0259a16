//! What a failed pull tells: the image, the object, and every source that was asked with its cause, each once.

use std::sync::Arc;

use cleat_image::{Digest, PullCause, PullFailure, Reference, Registries};

use super::fixture::registry::{Registry, Reply, Then};
use super::pull::{Target, sample};
use super::pull_faults::{about_a_layer, text_of};

/// `registry` with `mirror` in front of it, both by plain HTTP.
fn mirrored(registry: &str, mirror: &Registry) -> Registries {
    let text = format!(
        "[[registry]]\nlocation = '{registry}'\ninsecure = true\n[[registry.mirror]]\nlocation = '{}/cache'\ninsecure = true",
        mirror.host()
    );
    Registries::parse(&text).unwrap()
}

#[tokio::test]
async fn privileged_every_source_of_a_manifest_is_named_with_its_cause() {
    // Nobody listens at port 1 of this host.
    let reference = Reference::parse("127.0.0.1:1/app:1").unwrap();
    let cases: [(Reply, PullFailure, &str); 4] = [
        (Reply::new(404, ""), PullFailure::Unreachable, "it is not there (404)"),
        (Reply::new(403, ""), PullFailure::Unauthorized, "access denied: no reason given"),
        (Reply::new(500, ""), PullFailure::Unreachable, "http://127.0.0.1 answered 500"),
        (Reply::new(200, "{}"), PullFailure::Invalid, "it is refused: "),
    ];
    for (reply, expected, words) in cases {
        let (status, body) = (reply.status, reply.body);
        let mirror = Registry::with(move |_, _| Some(Reply::new(status, body.clone())));
        let target = Target::new(mirrored("127.0.0.1:1", &mirror));
        let error = target.pull(&reference).await.unwrap_err();
        let text = text_of(&error);
        let words = words.replace("127.0.0.1", &mirror.host());
        let begin = format!("pull 127.0.0.1:1/app:1: manifest: mirror {}: {words}", mirror.host());
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.contains("; 127.0.0.1:1: reach http") && text.contains("refused"), "{text}");
        assert_eq!(error.failure(), expected, "{text}");
        target.assert_tidy().await;
    }
}

#[tokio::test]
async fn privileged_every_source_of_a_layer_is_named_with_its_cause() {
    let image = sample();
    let lie = about_a_layer(&image, |blob| {
        let mut other = blob.to_vec();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        Reply::new(200, other)
    });
    let (mirror, registry) =
        (Registry::with(lie), Registry::with(about_a_layer(&image, |_| Reply::new(404, ""))));
    let reference = registry.push("app:1", &image);
    mirror.push("cache/app:1", &image);
    let target = Target::new(mirrored(&registry.host(), &mirror));
    let error = target.pull(&reference).await.unwrap_err();
    let text = text_of(&error);
    let layer = Digest::of(&image.layers[1]);
    let begin = format!("pull {reference}: layer {layer}: mirror {}: ", mirror.host());
    let end = format!("; {}: it is not there (404)", registry.host());
    assert!(text.starts_with(&begin) && text.ends_with(&end), "{text}");
    assert_eq!(error.failure(), PullFailure::NotFound, "{text}");
    assert!(matches!(&*error.cause, PullCause::Layer { blob, .. } if *blob == layer), "{error:?}");
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_every_source_of_a_configuration_is_named_with_its_cause() {
    let image = sample();
    let config = format!("/blobs/{}", image.id());
    let asked = config.clone();
    let mirror =
        Registry::with(move |request, _| request.path.ends_with(&asked).then(|| Reply::new(404, "")));
    let registry =
        Registry::with(move |request, _| request.path.ends_with(&config).then(|| Reply::new(200, "short")));
    let reference = registry.push("app:1", &image);
    mirror.push("cache/app:1", &image);
    let target = Target::new(mirrored(&registry.host(), &mirror));
    let error = target.pull(&reference).await.unwrap_err();
    let expected = format!(
        "pull {reference}: configuration {}: mirror {}: it is not there (404); {}: it has 5 bytes, {} were announced",
        image.id(),
        mirror.host(),
        registry.host(),
        image.config.len()
    );
    assert_eq!(text_of(&error), expected);
    assert_eq!(error.failure(), PullFailure::Invalid);
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_pulls_that_share_a_failed_layer_each_name_their_own_image() {
    let image = sample();
    // It stalls, so both pulls are there when it fails.
    let registry = Registry::with(about_a_layer(&image, |blob| Reply::new(200, blob).then(Then::Stall(10))));
    let (one, two) = (registry.push("one:1", &image), registry.push("two:1", &image));
    let target = Target::new(registry.registries());
    let (first, second) = tokio::join!(target.pull(&one), target.pull(&two));
    let (first, second) = (first.unwrap_err(), second.unwrap_err());
    for (error, reference) in [(&first, one), (&second, two)] {
        assert!(text_of(error).starts_with(&format!("pull {reference}: layer ")), "{}", text_of(error));
    }
    match (&*first.cause, &*second.cause) {
        (PullCause::Layer { source: first, .. }, PullCause::Layer { source: second, .. }) => {
            assert!(Arc::ptr_eq(first, second), "the layer was transferred twice");
        }
        causes => panic!("{causes:?}"),
    }
    target.assert_tidy().await;
}

#[tokio::test]
async fn privileged_names_that_lead_nowhere_are_named_once() {
    let config = "unqualified-search-registries = ['a.example', 'b.example']\nshort-name-mode = 'enforcing'\n\
        [[registry]]\nlocation = 'evil.example'\nblocked = true";
    let target = Target::new(Registries::parse(config).unwrap());
    for (name, expected, words) in [
        ("a/b@c", PullFailure::Invalid, "it is not an image's name: "),
        ("short", PullFailure::Blocked, "a short name may mean images of several registries"),
    ] {
        let error = target.puller.candidates(name).unwrap_err();
        let text = text_of(&error);
        assert!(text.starts_with(&format!("pull {name}: find a source: {words}")), "{text}");
        assert_eq!(error.failure(), expected, "{text}");
    }
    let error = target.pull(&Reference::parse("evil.example/app:1").unwrap()).await.unwrap_err();
    let expected =
        "pull evil.example/app:1: find a source: registry evil.example is blocked by registries.conf";
    assert_eq!(text_of(&error), expected);
    target.assert_tidy().await;
}
