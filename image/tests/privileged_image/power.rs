//! The power is cut at the writes of a pull, a container's layer and a removal: the store is looked at as the disk was after
//! each of these, and finds every image whole or not at all.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cleat_image::{Limits, Overlay, Puller, Reference, Snapshotter, Store};
use tokio::runtime::Runtime;

use super::fixture::disk::{Disk, Mounted, Record, Unflushed, with_own_mounts};
use super::fixture::image::TestImage;
use super::fixture::registry::Registry;
use super::fixture::tar::{Head, Tar};
use super::pull::noise;
use super::store::open_again;

/// Most moments that are looked at, spread over all, where the environment's `CLEAT_POWER_CUTS` does not say another number.
const CUTS: usize = 250;

/// What is pulled, and from where.
struct Images {
    registry: Registry,
    /// Is there before, and removed.
    old: TestImage,
    /// Is pulled, and a container's layer put on top of it.
    new: TestImage,
    reference: Reference,
}

impl Images {
    fn new() -> Self {
        let many = (0..100).fold(Tar::new(), |tar, number| tar.file(&format!("many/{number}"), noise(500)));
        let etc = Head { mode: 0o750, uid: 7, ..Head::new(b'5', "etc/") };
        let lower = Tar::new().add(&etc, b"").file("large", noise(1_000_000)).finish();
        let new = TestImage::gzip(&[lower, many.file("etc/file", "in a folder of another's").finish()]);
        let old = TestImage::gzip(&[Tar::new().file("old", noise(200_000)).finish()]);
        let registry = Registry::start();
        let reference = registry.push("new:1", &new);
        Self { registry, old, new, reference }
    }

    fn pull(&self, runtime: &Runtime, store: &Store, reference: &Reference) {
        let puller = Puller::new(store.clone(), self.registry.registries(), Limits::default());
        let pulled = runtime.block_on(puller.pull(reference, None)).unwrap();
        runtime.block_on(puller.shutdown());
        assert_eq!(store.verify(&pulled).unwrap(), []);
    }

    /// What a power cut has left in `root` is right, and so is what becomes of it. Whether the old and the new image are there.
    fn check(&self, runtime: &Runtime, root: &Path) -> (bool, bool) {
        let store = open_again(root, &[]);
        let [old, new] = [&self.old, &self.new].map(|image| store.get(&image.id()));
        for image in [&old, &new].into_iter().flatten() {
            assert_eq!(store.verify(image).unwrap(), []);
        }
        let overlay = Overlay::new(store.clone());
        let snapshot = overlay.get("container").unwrap();
        if let Some(snapshot) = &snapshot {
            assert!(new.is_some() && snapshot.upper.is_dir() && snapshot.work.is_dir());
            let etc = fs::metadata(snapshot.lower[0].join("etc")).unwrap();
            assert_eq!((snapshot.lower.len(), etc.mode() & 0o7777, etc.uid()), (3, 0o750, 7));
        }
        let layers = usize::from(old.is_some()) + 2 * usize::from(new.is_some());
        let count = |folder: &str| fs::read_dir(root.join(folder)).unwrap().count();
        let holds = ["layers/sha256", "tars/sha256", "snapshots", "tmp"].map(count);
        assert_eq!(holds, [layers, layers, usize::from(snapshot.is_some()), 0]);
        self.pull(runtime, &store, &self.reference);
        let prepared = overlay.prepare("container", &store.get(&self.new.id()).unwrap()).unwrap();
        assert!(snapshot.is_none_or(|snapshot| snapshot == prepared));
        drop((overlay, store));
        let store = open_again(root, &[]);
        assert!(store.get(&self.new.id()).is_some());
        (old.is_some(), new.is_some())
    }
}

/// The moments to look at, of `all`, spread over them with both ends.
fn moments(all: usize) -> Vec<usize> {
    let wanted = std::env::var("CLEAT_POWER_CUTS").ok().map_or(CUTS, |text| text.parse().unwrap());
    let wanted = wanted.clamp(2, all + 1);
    (0..wanted).map(|number| number * all / (wanted - 1)).collect()
}

/// All that happens to the disk, and after how many of its events the pull had come back.
fn happened(images: &Images, runtime: &Runtime) -> (Record, usize) {
    let disk = Disk::new();
    let mounted = disk.mount();
    let old = images.registry.push("old:1", &images.old);
    images.pull(runtime, &open_again(&root_of(&mounted), &[]), &old);
    drop(mounted);
    let mounted = disk.mount();
    disk.begin();
    let store = open_again(&root_of(&mounted), &[]);
    images.pull(runtime, &store, &images.reference);
    let pulled = disk.events();
    let image = store.get(&images.new.id()).unwrap();
    Overlay::new(store.clone()).prepare("container", &image).unwrap();
    store.remove(&images.old.id()).unwrap();
    drop((image, store));
    drop(mounted);
    let record = disk.record();
    (record, pulled)
}

fn root_of(mounted: &Mounted) -> std::path::PathBuf {
    mounted.path().join("store")
}

#[test]
fn privileged_a_power_cut_at_any_write_leaves_images_whole_or_not_at_all() {
    let images = Images::new();
    with_own_mounts(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (record, pulled) = happened(&images, &runtime);
        let all = record.events.len();
        assert!(pulled > 10 && pulled < all, "{pulled} of {all} events in the pull");
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("disk");
        let mut found = Vec::new();
        for moment in moments(all) {
            for unflushed in [Unflushed::All, Unflushed::Half] {
                eprintln!("cut after {moment} of {all} events, {unflushed:?} of the unflushed writes there");
                fs::write(&state, record.at(moment, unflushed)).unwrap();
                let mounted = Mounted::new(&state);
                found.push(images.check(&runtime, &root_of(&mounted)));
            }
        }
        assert_eq!((found[0], found[found.len() - 2]), ((true, false), (false, true)));
    });
}
