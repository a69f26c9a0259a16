//! Folders that a layer implies (`etc/x` without an entry for `etc`) are those of the layers below, as they are for tools
//! that unpack one layer over the other.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cleat_image::{Image, Overlay, Snapshotter, Store, Volume};
use rustix::fs::{XattrFlags, lgetxattr, setxattr};

use super::fixture::image::TestImage;
use super::fixture::tar::{Head, Tar};
use super::store::Setting;

/// A folder's entry.
fn folder(path: &str, mode: u32, uid: u32) -> Head<'_> {
    Head { mode, uid, gid: uid, ..Head::new(b'5', path) }
}

/// Folders of others, and a root.
fn base() -> Vec<u8> {
    Tar::new()
        .add(&folder("./", 0o751, 3), b"")
        .add(&folder("etc/", 0o2750, 7), b"")
        .add(&folder("etc/deep/", 0o700, 8), b"")
        .file("etc/deep/old", "1")
        .add(&folder("plain/", 0o755, 0), b"")
        .add(&folder("gone/", 0o700, 9), b"")
        .add(&folder("hidden/", 0o700, 10), b"")
        .add(&folder("hidden/inner/", 0o700, 11), b"")
        .finish()
}

/// Files in the folders of [`base`], without entries for these.
fn implying() -> Vec<u8> {
    Tar::new()
        .file("etc/deep/new", "2")
        .file("etc/deep/own/file", "2")
        .file("plain/new", "2")
        .file(".wh.gone", "")
        .file("gone/new", "2")
        .add(&folder("hidden/", 0o711, 12), b"")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/inner/new", "2")
        .finish()
}

/// Mode, owner and group of the folder `path` below `root`.
fn facts(root: &Path, path: &str) -> (u32, u32, u32) {
    let found = fs::symlink_metadata(root.join(path)).unwrap();
    (found.mode() & 0o7777, found.uid(), found.gid())
}

/// The image's merged tree, to be looked at as long as the first is there.
fn merged(store: &Store, image: &Image) -> (cleat_image::Rootfs, PathBuf) {
    let rootfs = store.open_rootfs(image).unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}/.", rootfs.as_fd().as_raw_fd()));
    (rootfs, path)
}

/// How many covers the store has.
fn covers(root: &Path) -> usize {
    fs::read_dir(root.join("covers")).unwrap().count()
}

#[test]
fn privileged_an_implied_folder_is_as_the_layer_below_describes_it() {
    let setting = Setting::new();
    let top = Tar::new().file("etc/top", "3").file("hidden/top", "3").finish();
    let (_, image) = setting.pull("app:1", &TestImage::gzip(&[base(), implying(), top]));
    let (_rootfs, tree) = merged(&setting.store, &image);
    let expected = BTreeMap::from([
        ("", (0o751, 3, 3)),
        ("etc", (0o2750, 7, 7)),
        ("etc/deep", (0o700, 8, 8)),
        // Nobody describes it.
        ("etc/deep/own", (0o755, 0, 0)),
        ("plain", (0o755, 0, 0)),
        // Removed and made again.
        ("gone", (0o755, 0, 0)),
        ("hidden", (0o711, 12, 12)),
        // What was below is hidden.
        ("hidden/inner", (0o755, 0, 0)),
    ]);
    let actual = expected.keys().map(|path| (*path, facts(&tree, path))).collect::<BTreeMap<_, _>>();
    assert_eq!(actual, expected);
    assert_eq!(fs::metadata(tree.join("etc")).unwrap().mtime(), 1_000_000_000, "its time is the entry's");
    for file in ["etc/deep/old", "etc/deep/new", "etc/top", "hidden/top", "gone/new", "plain/new"] {
        assert!(tree.join(file).is_file(), "{file}");
    }
    let overlay = Overlay::new(setting.store.clone());
    let snapshot = overlay.prepare("one", &image).unwrap();
    assert_eq!(facts(&snapshot.upper, ""), (0o751, 3, 3), "the container's root");
    assert_eq!(setting.store.verify(&image).unwrap(), [], "the layers are as they were");
}

#[test]
fn privileged_a_layer_in_two_images_takes_after_what_is_below_it_in_each() {
    let setting = Setting::new();
    let other = Tar::new().add(&folder("etc/", 0o701, 20), b"").finish();
    let (_, one) = setting.pull("one:1", &TestImage::gzip(&[base(), implying()]));
    let (_, two) = setting.pull("two:1", &TestImage::gzip(&[other, implying()]));
    let (_, alone) = setting.pull("alone:1", &TestImage::gzip(&[implying()]));
    for (image, etc) in [(&one, (0o2750, 7, 7)), (&two, (0o701, 20, 20)), (&alone, (0o755, 0, 0))] {
        let (_rootfs, tree) = merged(&setting.store, image);
        assert_eq!(facts(&tree, "etc"), etc);
    }
    assert_eq!((setting.layer_folders(), covers(setting.root())), (3, 2), "layers are shared");
}

#[test]
fn privileged_attributes_of_the_folder_below_are_kept() {
    let setting = Setting::new();
    let base = Tar::new().add(&folder("etc/", 0o700, 7), b"").finish();
    let (_, image) = setting.pull("app:1", &TestImage::gzip(&[base, Tar::new().file("etc/x", "").finish()]));
    let lower = setting.root().join("layers/sha256").join(image.layers[0].hex()).join("etc");
    for (name, value) in [("user.folder", "value"), ("trusted.overlay.redirect", "/elsewhere")] {
        setxattr(&lower, name, value.as_bytes(), XattrFlags::empty()).unwrap();
    }
    let (_rootfs, tree) = merged(&setting.store, &image);
    let mut value = [0; 16];
    let length = lgetxattr(tree.join("etc"), "user.folder", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"value");
    assert!(tree.join("etc/x").is_file(), "what steers overlayfs is not copied");
}

#[test]
fn privileged_what_gives_folders_their_owners_goes_with_the_layers_and_outlives_starts() {
    let setting = Setting::new();
    let (reference, image) = setting.pull("app:1", &TestImage::gzip(&[base(), implying()]));
    let layers = setting.store.usage();
    let overlay = Overlay::new(setting.store.clone());
    let before = overlay.prepare("one", &image).unwrap();
    let used = setting.store.usage();
    assert!(used.inodes > layers.inodes && used.bytes > layers.bytes, "it is counted");
    assert_eq!(overlay.prepare("two", &image).unwrap().lower, before.lower);
    overlay.remove("two").unwrap();
    drop(overlay);
    let setting = setting.reopened(|_| {});
    assert_eq!(setting.store.usage(), used);
    let overlay = Overlay::new(setting.store.clone());
    assert_eq!(overlay.get("one").unwrap().unwrap(), before, "a running container stands on it");
    assert!(before.lower.iter().all(|folder| folder.is_dir()));
    setting.store.remove_name(&reference).unwrap();
    setting.store.remove(&image.id).unwrap();
    assert_eq!(covers(setting.root()), 1, "the snapshot needs it");
    overlay.remove("one").unwrap();
    assert_eq!((covers(setting.root()), setting.layer_folders()), (0, 0));
    assert_eq!((setting.store.usage().bytes, setting.store.usage().inodes), (0, 0));
}

#[test]
fn privileged_a_lost_cover_is_made_again() {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &TestImage::gzip(&[base(), implying()]));
    let overlay = Overlay::new(setting.store.clone());
    let before = overlay.prepare("one", &image).unwrap();
    drop(overlay);
    let setting = setting.reopened(|root| {
        fs::remove_dir_all(&before.lower[0]).unwrap();
        fs::create_dir(root.join("covers/of-nobody")).unwrap();
    });
    assert_eq!(covers(setting.root()), 0);
    let again = Overlay::new(setting.store.clone()).get("one").unwrap().unwrap();
    assert_eq!(again, before);
    assert_eq!(facts(&again.lower[0], "etc"), (0o2750, 7, 7));
    assert_eq!(fs::metadata(setting.root().join("covers")).unwrap().permissions().mode() & 0o7777, 0o700);
}

#[test]
fn privileged_an_image_volume_has_the_owners_too() {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &TestImage::gzip(&[base(), implying()]));
    let Some(Volume::Merged(folders)) = setting.store.volume(&image, "etc/deep").unwrap() else {
        panic!("it is a folder of several layers")
    };
    assert_eq!((folders.len(), facts(&folders[0], "")), (3, (0o700, 8, 8)));
}
