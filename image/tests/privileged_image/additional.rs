//! Stores that stand on others: what is in those is used where it is, and stays as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cleat_image::{AdditionalFault, Image, Overlay, Reference, Removed, Snapshotter, Store, StoreError};

use super::fixture::image::TestImage;
use super::fixture::tar::Tar;
use super::store::Setting;

fn lower() -> Vec<u8> {
    Tar::new().file("etc/lower", "from below").file("etc/both", "old").finish()
}

fn upper() -> Vec<u8> {
    Tar::new().file("etc/both", "new").finish()
}

/// Everything that a write would change, of all files below.
fn facts(root: &Path) -> BTreeMap<PathBuf, (u64, u32, i64, i64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let times = (stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec());
        found.insert(path, (stat.size(), stat.mode(), times.0, times.1, times.2, times.3));
    }
    found
}

/// A store with the image of [`lower`] as `base:1`, closed.
fn base() -> (Setting, Reference, std::sync::Arc<Image>) {
    let setting = Setting::new();
    let (reference, image) = setting.pull("base:1", &TestImage::gzip(&[lower()]));
    (setting, reference, image)
}

#[test]
fn privileged_an_additional_store_is_used_and_never_written() {
    let (below, name, base) = base();
    let below = below.closed();
    let before = facts(&below.root);
    let setting = Setting::new().reopened_above(std::slice::from_ref(&below.root));
    let found = setting.store.find(&name).unwrap();
    assert_eq!((&found.id, found.pinned, found.size_bytes), (&base.id, true, base.size_bytes));
    assert_eq!((setting.store.usage().bytes, setting.store.usage().inodes), (0, 0));
    assert_eq!(setting.store.file(&found, "/etc/lower", 100).unwrap().unwrap(), b"from below");
    assert!(setting.store.config_json(&base.id).unwrap().is_some());

    let (_, app) = setting.pull("app:1", &TestImage::gzip(&[lower(), upper()]));
    assert_eq!(setting.registry.count("/blobs/"), 2, "the configuration and the layer that is nowhere");
    assert_eq!(setting.layer_folders(), 1);
    assert_eq!(setting.store.verify(&app).unwrap(), []);
    let file = |path| setting.store.file(&app, path, 100).unwrap().unwrap();
    assert_eq!((&file("/etc/both")[..], &file("/etc/lower")[..]), (&b"new"[..], &b"from below"[..]));
    let snapshot = Overlay::new(setting.store.clone()).prepare("one", &app).unwrap();
    let is_in = |at: usize, root: &Path| snapshot.lower[at].starts_with(root);
    assert!(is_in(0, setting.root()) && is_in(1, &below.root), "{:?}", snapshot.lower);
    let total =
        app.size_bytes - u64::try_from(setting.store.config_json(&app.id).unwrap().unwrap().len()).unwrap();
    assert!(setting.store.usage().bytes < total, "a layer below is counted");

    let refused = [setting.store.remove(&base.id), setting.store.remove_name(&name)];
    assert!(refused.iter().all(|result| matches!(result, Err(StoreError::ReadOnly { .. }))), "{refused:?}");
    let mine = Reference::parse("mine.invalid/base:2").unwrap();
    setting.store.tag(&base.id, &mine).unwrap();
    assert_eq!(setting.store.get(&base.id).unwrap().names.len(), 2);
    let setting = setting.reopened_above(std::slice::from_ref(&below.root));
    assert_eq!(setting.store.find(&mine).unwrap().id, base.id);
    assert!(matches!(setting.store.remove_name(&mine).unwrap(), Removed::Deleted { .. }));
    assert_eq!(setting.store.get(&base.id), Some(found), "it is still below");
    assert_eq!(facts(&below.root), before, "something was written");
}

#[test]
fn privileged_a_damaged_layer_below_is_fetched_into_the_own_store() {
    let (below, _, _) = base();
    let below = below.closed();
    let setting = Setting::new().reopened_above(std::slice::from_ref(&below.root));
    let image = TestImage::gzip(&[lower(), upper()]);
    let (_, app) = setting.pull("app:1", &image);
    let layer = below.root.join("layers/sha256").join(app.layers[0].hex());
    fs::write(layer.join("etc/lower"), "FROM BELOW").unwrap();
    assert_eq!(setting.store.verify(&app).unwrap(), [app.layers[0].clone()]);
    setting.pull("app:1", &image);
    assert_eq!((setting.store.verify(&app).unwrap(), setting.layer_folders()), (vec![], 2));
    assert_eq!(fs::read(layer.join("etc/lower")).unwrap(), b"FROM BELOW", "it was repaired in place");
}

#[test]
fn privileged_images_go_with_the_additional_store_they_stood_on() {
    let (below, _, _) = base();
    let below = below.closed();
    let setting = Setting::new().reopened_above(std::slice::from_ref(&below.root));
    setting.pull("app:1", &TestImage::gzip(&[lower(), upper()]));
    let (_, own) = setting.pull("own:1", &TestImage::gzip(&[upper()]));
    let setting = setting.reopened(|_| {});
    assert_eq!(setting.store.list().to_vec(), [own]);
    assert_eq!(setting.layer_folders(), 1);
}

#[test]
fn privileged_a_store_whose_daemon_was_killed_can_be_used() {
    let (below, name, _) = base();
    let copy = tempfile::tempdir().unwrap();
    let copied = copy.path().join("image");
    // As it is on disk while its daemon runs: the records are in the log still.
    assert!(fs::metadata(below.root().join("store.db-wal")).unwrap().len() > 0);
    let status = std::process::Command::new("cp").arg("-a").arg(below.root()).arg(&copied).status().unwrap();
    assert!(status.success());
    let setting = Setting::new().reopened_above(std::slice::from_ref(&copied));
    assert!(setting.store.find(&name).is_some());
}

#[test]
fn privileged_a_broken_additional_store_is_refused_by_name() {
    let spoiled = |spoil: &dyn Fn(&Path)| {
        let (below, _, _) = base();
        let below = below.closed();
        spoil(&below.root);
        let own = tempfile::tempdir().unwrap();
        let error = Store::open_above(own.path(), std::slice::from_ref(&below.root)).map(drop).unwrap_err();
        assert!(error.to_string().contains(below.root.to_str().unwrap()), "{error}");
        error
    };
    let fault = |spoil: &dyn Fn(&Path)| match spoiled(spoil) {
        StoreError::Additional { source, .. } => source,
        other => panic!("{other:?}"),
    };
    let records = |root: &Path| root.join("store.db");
    assert!(matches!(fault(&|root| fs::remove_dir_all(root).unwrap()), AdditionalFault::Absent));
    assert!(matches!(fault(&|root| fs::remove_file(records(root)).unwrap()), AdditionalFault::Absent));
    let garbage = fault(&|root| fs::write(records(root), vec![7; 8192]).unwrap());
    assert!(matches!(garbage, AdditionalFault::Records(_)), "{garbage:?}");
    let without_layer = fault(&|root| {
        let layers = fs::read_dir(root.join("layers/sha256")).unwrap();
        layers.for_each(|layer| fs::remove_dir_all(layer.unwrap().path()).unwrap());
    });
    assert!(matches!(without_layer, AdditionalFault::LayerMissing(_)), "{without_layer:?}");
    // `user_version` is at byte 60 of a database's header (SQLite's file format, 1.3).
    let of_the_future = fault(&|root| {
        let mut bytes = fs::read(records(root)).unwrap();
        bytes[60..64].copy_from_slice(&99_u32.to_be_bytes());
        fs::write(records(root), bytes).unwrap();
    });
    assert!(matches!(of_the_future, AdditionalFault::Version { found: 99, .. }), "{of_the_future:?}");

    let (in_use, _, _) = base();
    let own = tempfile::tempdir().unwrap();
    let error = Store::open_above(own.path(), &[in_use.root().to_owned()]).map(drop).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error:?}");
}
