//! The window between a layer's rename into its place and the row that names it, from both sides. SQLite may lose its
//! last commits in a power cut, so a closed store is given back the database it had before.

use std::fs;
use std::path::Path;

use cleat_image::{Limits, PullFailure, Puller, Reference};

use super::fixture::image::TestImage;
use super::fixture::tar::Tar;
use super::store::Setting;

/// The rows of a store that is closed, and so has them all in one file.
fn rows(root: &Path) -> Vec<u8> {
    assert!(!root.join("store.db-wal").exists(), "the store was not closed");
    fs::read(root.join("store.db")).unwrap()
}

fn lower() -> Vec<u8> {
    Tar::new().file("lower", "1").finish()
}

fn upper() -> Vec<u8> {
    Tar::new().file("upper", "2").finish()
}

impl Setting {
    /// What the store holds now: folders of layers, things in `tmp/`, images.
    fn holds(&self) -> (usize, usize, usize) {
        let in_tmp = fs::read_dir(self.root().join("tmp")).unwrap().count();
        (self.layer_folders(), in_tmp, self.store.list().len())
    }

    /// Pull `image` as `reference`, and check that its layer is what the registry has.
    fn pull_whole(&self, name: &str, image: &TestImage) {
        let fetched = self.registry.count("/blobs/");
        let (_, pulled) = self.pull(name, image);
        assert_eq!(self.registry.count("/blobs/") - fetched, 2, "the configuration and the layer");
        let read = |path: &str| self.store.file(&pulled, path, 100).unwrap();
        assert_eq!((read("/lower"), read("/half")), (Some(b"1".to_vec()), None));
        assert_eq!(self.holds(), (1, 0, 1));
    }

    /// Have a pull fail when its layer is in place and its row is not: where the layer is then, marked.
    fn fail_between(&self, reference: &Reference, image: &TestImage) {
        let other = rusqlite::Connection::open(self.root().join("store.db")).unwrap();
        let refuse =
            "CREATE TRIGGER refuse BEFORE INSERT ON images BEGIN SELECT RAISE(ABORT, 'refused'); END";
        other.execute_batch(refuse).unwrap();
        let puller = Puller::new(self.store.clone(), self.registry.registries(), Limits::default());
        let error = self.runtime.block_on(puller.pull(reference, None)).unwrap_err();
        self.runtime.block_on(puller.shutdown());
        assert_eq!(error.failure(), PullFailure::Local, "{error:?}");
        other.execute_batch("DROP TRIGGER refuse").unwrap();
        assert_eq!(self.holds(), (1, 0, 0), "the layer is in its place, and nothing names it");
        let config: serde_json::Value = serde_json::from_slice(&image.config).unwrap();
        let diff_id = config["rootfs"]["diff_ids"][0].as_str().unwrap();
        let place = self.root().join("layers/sha256").join(diff_id.strip_prefix("sha256:").unwrap());
        fs::write(place.join("half"), "of it only").unwrap();
    }
}

#[test]
fn privileged_a_layer_without_a_row_is_replaced_by_the_next_pull() {
    let setting = Setting::new();
    let image = TestImage::gzip(&[lower()]);
    let reference = setting.registry.push("app:1", &image);
    setting.fail_between(&reference, &image);
    setting.pull_whole("app:1", &image);
}

#[test]
fn privileged_a_layer_without_a_row_is_swept_by_the_next_start() {
    let setting = Setting::new();
    let image = TestImage::gzip(&[lower()]);
    let reference = setting.registry.push("app:1", &image);
    setting.fail_between(&reference, &image);
    let setting = setting.reopened(|_| {});
    assert_eq!(setting.holds(), (0, 0, 0));
    setting.pull_whole("app:1", &image);
}

#[test]
fn privileged_a_pull_whose_commit_a_power_cut_took_is_undone() {
    let mut saved = Vec::new();
    let setting = Setting::new().reopened(|root| saved = rows(root));
    let image = TestImage::gzip(&[lower()]);
    setting.pull("app:1", &image);
    assert_eq!(setting.holds(), (1, 0, 1));
    let setting = setting.reopened(|root| {
        rows(root);
        fs::write(root.join("store.db"), &saved).unwrap();
    });
    assert_eq!(setting.holds(), (0, 0, 0));
    assert_eq!((setting.store.usage().bytes, setting.store.usage().inodes), (0, 0));
    setting.pull_whole("app:1", &image);
}

#[test]
fn privileged_a_removal_whose_commit_a_power_cut_took_is_not_undone() {
    let setting = Setting::new();
    let (_, kept) = setting.pull("kept:1", &TestImage::gzip(&[lower()]));
    let usage = setting.store.usage();
    let both = TestImage::gzip(&[lower(), upper()]);
    let (reference, doomed) = setting.pull("doomed:1", &both);
    let mut saved = Vec::new();
    let setting = setting.reopened(|root| saved = rows(root));
    setting.store.remove(&doomed.id).unwrap();
    let setting = setting.reopened(|root| {
        rows(root);
        fs::write(root.join("store.db"), &saved).unwrap();
    });
    assert_eq!(setting.store.list().to_vec(), [kept], "only the image whose layer is gone is forgotten");
    assert_eq!((setting.holds(), setting.store.usage()), ((1, 0, 1), usage));
    assert_eq!(setting.store.find(&reference), None);
    let fetched = setting.registry.count("/blobs/");
    setting.pull("doomed:1", &both);
    assert_eq!(
        setting.registry.count("/blobs/") - fetched,
        2,
        "the configuration and the layer that is gone"
    );
    assert_eq!(setting.holds(), (2, 0, 2));
}

/// The folders a pull of [`both`] puts into their places.
fn places(root: &Path, image: &cleat_image::Image) -> Vec<std::path::PathBuf> {
    let of = |part: &'static str| {
        image.layers.iter().map(move |layer| root.join(part).join("sha256").join(layer.hex()))
    };
    of("tars").chain(of("layers")).collect()
}

/// Renames that were not yet on disk may be lost in any combination, with the rows of before or of after. Whatever a power
/// cut leaves of them, the store opens with the image or without it, has nothing besides, and the next pull is whole.
#[test]
fn privileged_any_part_of_a_commit_may_be_lost_in_a_power_cut() {
    let image = TestImage::gzip(&[lower(), upper()]);
    let mut before = Vec::new();
    let mut setting = Setting::new().reopened(|root| before = rows(root));
    for lost in 0..16_u32 {
        for is_committed in [false, true] {
            let (_, pulled) = setting.pull("app:1", &image);
            setting = setting.reopened(|root| {
                rows(root);
                let places = places(root, &pulled);
                assert_eq!(places.len(), 4);
                for (_, place) in places.iter().enumerate().filter(|(bit, _)| lost >> bit & 1 == 1) {
                    fs::remove_dir_all(place).unwrap();
                }
                if !is_committed {
                    fs::write(root.join("store.db"), &before).unwrap();
                }
            });
            let is_whole = is_committed && lost == 0;
            let expected = if is_whole { (2, 0, 1) } else { (setting.layer_folders(), 0, 0) };
            assert_eq!(setting.holds(), expected, "{lost:04b} {is_committed}");
            let kept = fs::read_dir(setting.root().join("tars/sha256")).unwrap().count();
            assert_eq!(setting.layer_folders(), kept, "{lost:04b} {is_committed}");
            assert!(
                is_whole || setting.store.usage().bytes == 0,
                "{lost:04b} {is_committed}: unused layers stay"
            );
            let (_, again) = setting.pull("app:1", &image);
            assert_eq!(setting.holds(), (2, 0, 1), "{lost:04b} {is_committed}");
            assert_eq!(setting.store.verify(&again).unwrap(), [], "{lost:04b} {is_committed}");
            setting.store.remove(&again.id).unwrap();
        }
    }
}
