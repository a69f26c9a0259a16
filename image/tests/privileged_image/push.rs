//! From a registry into the store and out of it into Debian's docker-registry, and back.

use std::sync::{Arc, Mutex};

use cleat_image::{Image, Limits, Puller, PushStep, Pushed, Reference};

use super::fixture::docker_registry::DockerRegistry;
use super::fixture::image::{Compression, TestImage};
use super::fixture::tar::Tar;
use super::store::Setting;

/// A store that reaches its own registry and Debian's.
struct Pushing {
    setting: Setting,
    to: DockerRegistry,
    puller: Puller,
}

impl Pushing {
    fn new() -> Self {
        let (setting, to) = (Setting::new(), DockerRegistry::start());
        let own = format!("[[registry]]\nlocation = '{}'\ninsecure = true", setting.registry.host());
        let puller = Puller::new(setting.store.clone(), to.registries(&own), Limits::default());
        Self { setting, to, puller }
    }

    fn pulled(&self, image: &TestImage) -> Arc<Image> {
        let reference = self.setting.registry.push("app:1", image);
        self.pull(&reference)
    }

    fn pull(&self, reference: &Reference) -> Arc<Image> {
        self.setting.runtime.block_on(self.puller.pull(reference, None)).unwrap()
    }

    /// Push, and say what happened to each layer last.
    fn push(&self, image: &Arc<Image>, reference: &Reference) -> (Pushed, Vec<PushStep>) {
        let steps: Arc<Mutex<Vec<(cleat_image::Digest, PushStep)>>> = Arc::default();
        let report = Arc::clone(&steps);
        let report = Arc::new(move |layer: &cleat_image::Digest, step| {
            let mut steps = report.lock().unwrap();
            steps.retain(|(known, _)| known != layer);
            steps.push((layer.clone(), step));
        });
        let pushed = self.setting.runtime.block_on(self.puller.push(image, reference, None, report)).unwrap();
        let last = steps.lock().unwrap().iter().map(|(_, step)| *step).collect();
        (pushed, last)
    }

    /// Pull what was pushed into an empty store: it is the image that was there, whatever its manifest.
    fn assert_back(&self, reference: &Reference, image: &Image, pushed: &Pushed) {
        let other = Setting::new();
        let puller = Puller::new(other.store.clone(), self.to.registries(""), Limits::default());
        for wanted in [reference.clone(), reference.at(pushed.digest.clone())] {
            let back = other.runtime.block_on(puller.pull(&wanted, None)).unwrap();
            assert_eq!((&back.id, &back.layers), (&image.id, &image.layers));
            assert_eq!(back.manifest, pushed.digest);
        }
        assert_eq!(other.store.verify(&other.store.get(&image.id).unwrap()).unwrap(), []);
        other.runtime.block_on(puller.shutdown());
    }
}

fn tars() -> [Vec<u8>; 2] {
    let noise: Vec<u8> =
        (0..6_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    [Tar::new().file("big", noise).finish(), Tar::new().file("small", "1").finish()]
}

#[test]
fn privileged_an_image_of_plain_layers_arrives_as_what_it_was() {
    let all = Pushing::new();
    let image = all.pulled(&TestImage::new(&tars().map(|tar| (tar, Compression::None))));
    let reference = all.to.reference("team/app:2");
    let (pushed, steps) = all.push(&image, &reference);
    assert_eq!(steps, [PushStep::Pushed; 2]);
    assert_eq!(pushed.digest, image.manifest, "the same bytes have the same digest");
    all.assert_back(&reference, &image, &pushed);
    let known = all.setting.store.get(&image.id).unwrap();
    assert!(known.digests.contains(&reference.at(pushed.digest.clone())));
    assert_eq!(all.push(&image, &reference), (pushed, vec![PushStep::Exists; 2]));
}

#[test]
fn privileged_layers_that_were_compressed_are_compressed_anew() {
    let all = Pushing::new();
    for (name, compression) in [("gzip:1", Compression::Gzip), ("zstd:1", Compression::Zstd)] {
        let image = all.pulled(&TestImage::new(&tars().map(|tar| (tar, compression))));
        let reference = all.to.reference(name);
        let (pushed, steps) = all.push(&image, &reference);
        assert_eq!(steps, [PushStep::Pushed; 2]);
        all.assert_back(&reference, &image, &pushed);
    }
}

#[test]
fn privileged_kept_blobs_are_pushed_byte_for_byte() {
    let all = Pushing::new();
    all.setting.store.set_keep_blobs(true);
    let [big, small] = tars();
    let image = all.pulled(&TestImage::new(&[(big, Compression::Zstd), (small, Compression::Gzip)]));
    let reference = all.to.reference("kept:1");
    let (pushed, _) = all.push(&image, &reference);
    assert_eq!(pushed.digest, image.manifest);
    all.assert_back(&reference, &image, &pushed);
}

#[test]
fn privileged_a_registry_takes_layers_from_its_other_repositories() {
    let all = Pushing::new();
    let image = all.pulled(&TestImage::new(&tars().map(|tar| (tar, Compression::None))));
    all.push(&image, &all.to.reference("one/app:1"));
    let image = all.pull(&all.to.reference("one/app:1"));
    let second = all.to.reference("two/app:1");
    let (pushed, steps) = all.push(&image, &second);
    assert_eq!(steps, [PushStep::Mounted; 2]);
    all.assert_back(&second, &image, &pushed);
    assert!(!all.to.log().contains("PATCH /v2/two/"), "something was uploaded");
}

#[test]
fn privileged_a_push_that_is_refused_says_by_whom() {
    let all = Pushing::new();
    let image = all.pulled(&TestImage::gzip(&tars()));
    // The fixture's registry takes nothing.
    let reference = Reference::parse(&format!("{}/other:1", all.setting.registry.host())).unwrap();
    let report = Arc::new(|_: &cleat_image::Digest, _| {});
    let error = all.setting.runtime.block_on(all.puller.push(&image, &reference, None, report)).unwrap_err();
    assert!(matches!(error.cause, cleat_image::PushCause::Layer { .. }), "{error:?}");
    assert_eq!(all.setting.store.get(&image.id).unwrap().digests, image.digests);
}
