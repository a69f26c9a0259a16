//! The store and its snapshots: what stays, what goes, and what is found after a crash.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cleat_image::{Image, Limits, Overlay, Puller, Reference, Removed, Snapshotter, Store, StoreError};

use super::fixture::image::{Compression, TestImage};
use super::fixture::registry::Registry;
use super::fixture::tar::{Head, Tar};

/// A registry, a store, and images pulled from the one into the other.
pub(crate) struct Setting {
    pub(crate) registry: Registry,
    folder: tempfile::TempDir,
    pub(crate) store: Store,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Setting {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        Self { registry: Registry::start(), folder, store, runtime }
    }

    pub(crate) fn pull(&self, name: &str, image: &TestImage) -> (Reference, Arc<Image>) {
        let reference = self.registry.push(name, image);
        let puller = Puller::new(self.store.clone(), self.registry.registries(), Limits::default());
        let pulled = self.runtime.block_on(puller.pull(&reference, None)).unwrap();
        self.runtime.block_on(puller.shutdown());
        (reference, pulled)
    }

    pub(crate) fn root(&self) -> &Path {
        self.store.root()
    }

    pub(crate) fn layer_folders(&self) -> usize {
        fs::read_dir(self.root().join("layers/sha256")).unwrap().count()
    }

    /// Close the store and open it again, above those at `additional`.
    pub(crate) fn reopened_above(self, additional: &[PathBuf]) -> Self {
        let Self { registry, folder, store, runtime } = self;
        let root = store.root().to_owned();
        drop(store);
        let store = open_again(&root, additional);
        Self { registry, folder, store, runtime }
    }

    /// Close the store; its folder stays as long as what is returned.
    pub(crate) fn closed(self) -> Closed {
        Closed { root: self.root().to_owned(), _folder: self.folder }
    }

    /// Close the store and open it again, with `between` in between.
    pub(crate) fn reopened(self, between: impl FnOnce(&Path)) -> Self {
        let Self { registry, folder, store, runtime } = self;
        let root = store.root().to_owned();
        drop(store);
        between(&root);
        let store = open_again(&root, &[]);
        Self { registry, folder, store, runtime }
    }
}

/// Open a store that was open a moment ago: a child that another test has forked meanwhile has its lock too, until it executes
/// its program.
pub(crate) fn open_again(root: &Path, additional: &[PathBuf]) -> Store {
    let limit = Instant::now() + Duration::from_secs(20);
    loop {
        match Store::open_above(root, additional) {
            Err(StoreError::InUse(_)) if Instant::now() < limit => {
                std::thread::sleep(Duration::from_millis(5))
            }
            opened => return opened.unwrap(),
        }
    }
}

/// The folder of a store that nobody has open.
pub(crate) struct Closed {
    pub(crate) root: PathBuf,
    _folder: tempfile::TempDir,
}

fn base() -> Vec<u8> {
    Tar::new()
        .add(&Head { mode: 0o751, uid: 3, ..Head::new(b'5', "./") }, b"")
        .file("etc/passwd", "root:x:0:0::/root:/bin/sh\n")
        .file("etc/gone", "lower")
        .symlink("etc/link", "/etc/passwd")
        .symlink("etc/out", "../../../../etc/hostname")
        .add(&Head { device: (1, 5), ..Head::new(b'3', "dev/zero") }, b"")
        .add(&Head::new(b'6', "etc/fifo"), b"")
        .finish()
}

fn upper() -> Vec<u8> {
    Tar::new()
        .add(&Head { mode: 0o701, uid: 5, ..Head::new(b'5', "./") }, b"")
        .file("etc/.wh.gone", "")
        .file("etc/group", "root:x:0:\n")
        .finish()
}

#[test]
fn privileged_a_second_process_is_refused() {
    let setting = Setting::new();
    assert!(matches!(Store::open(setting.root()), Err(StoreError::InUse(_))));
    let again = setting.reopened(|_| {});
    assert!(again.folder.path().exists());
}

#[test]
fn privileged_files_are_read_from_the_merged_image() {
    let setting = Setting::new();
    let (_, one) = setting.pull("one:1", &TestImage::gzip(&[base()]));
    let (_, two) = setting.pull("two:1", &TestImage::gzip(&[base(), upper()]));
    let read = |image: &Image, path: &str| setting.store.file(image, path, 1000);
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    for image in [&one, &two] {
        for path in ["/etc/passwd", "/etc/link", "etc/../etc/passwd", "/../../etc/passwd"] {
            assert!(read(image, path).unwrap().unwrap().starts_with(b"root:"), "{path}");
        }
        assert_eq!(read(image, "/etc/missing").unwrap(), None);
        assert_eq!(read(image, "/etc/passwd/x").unwrap(), None);
        assert_eq!(read(image, "/etc/out").unwrap(), None);
        for path in ["/etc/fifo", "/dev/zero", "/etc"] {
            assert!(matches!(read(image, path), Err(StoreError::NotAFile { .. })), "{path}");
        }
        assert!(matches!(setting.store.file(image, "/etc/passwd", 3), Err(StoreError::FileTooLarge { .. })));
    }
    assert_eq!(read(&one, "/etc/gone").unwrap().unwrap(), b"lower");
    assert_eq!(read(&two, "/etc/gone").unwrap(), None);
    let rootfs = setting.store.open_rootfs(&two).unwrap();
    assert_eq!(rootfs.read("/etc/group", 100).unwrap().unwrap(), b"root:x:0:\n");
    assert_eq!(mounts(), before, "a mount is to be seen");
}

#[test]
fn privileged_images_are_found_after_a_restart() {
    let setting = Setting::new();
    let image = TestImage::new(&[(base(), Compression::Zstd), (upper(), Compression::None)]);
    let (reference, pulled) = setting.pull("app:1", &image);
    let usage = setting.store.usage();
    assert_eq!(pulled.id, image.id());
    assert_eq!(pulled.names, std::slice::from_ref(&reference));
    assert_eq!(pulled.size_bytes, usage.bytes + (image.config.len() + image.manifest.len()) as u64);
    let setting = setting.reopened(|_| {});
    assert_eq!(setting.store.list().to_vec(), [Arc::clone(&pulled)]);
    assert_eq!(setting.store.resolve(&reference.to_string()), Some(Arc::clone(&pulled)));
    assert_eq!(setting.store.resolve(&pulled.id.hex()[..12]), Some(pulled.clone()));
    assert_eq!(setting.store.resolve(&pulled.digests[0].to_string()), Some(pulled.clone()));
    assert_eq!(setting.store.config_json(&pulled.id).unwrap().unwrap(), image.config);
    assert_eq!(setting.store.manifest_json(&pulled.id).unwrap().unwrap(), image.manifest);
    assert_eq!(setting.store.usage(), usage);
}

#[test]
fn privileged_layers_go_with_their_last_user() {
    let setting = Setting::new();
    let (_, one) = setting.pull("one:1", &TestImage::gzip(&[base()]));
    let alone = setting.store.usage();
    let (_, two) = setting.pull("two:1", &TestImage::gzip(&[base(), upper()]));
    assert_eq!(setting.layer_folders(), 2, "the shared layer is there once");
    assert!(setting.store.usage().bytes < 2 * alone.bytes + alone.bytes);
    let overlay = Overlay::new(setting.store.clone());
    overlay.prepare("container", &two).unwrap();
    assert!(matches!(setting.store.remove(&two.id).unwrap(), Removed::Deleted { .. }));
    assert_eq!(setting.store.remove(&two.id).unwrap(), Removed::Nothing);
    assert_eq!(setting.layer_folders(), 2, "the snapshot needs both");
    assert!(overlay.get("container").unwrap().is_some());
    overlay.remove("container").unwrap();
    assert_eq!(setting.layer_folders(), 1);
    assert_eq!(setting.store.usage(), alone);
    setting.store.remove(&one.id).unwrap();
    assert_eq!(setting.layer_folders(), 0);
    assert_eq!((setting.store.usage().bytes, setting.store.usage().inodes), (0, 0));
    assert_eq!(fs::read_dir(setting.root().join("tmp")).unwrap().count(), 0);
}

#[test]
fn privileged_names_come_and_go() {
    let setting = Setting::new();
    let (reference, image) = setting.pull("app:1", &TestImage::gzip(&[base()]));
    let second = Reference::parse("docker.io/library/app:2").unwrap();
    setting.store.tag(&image.id, &second).unwrap();
    assert_eq!(setting.store.find(&second).unwrap().id, image.id);
    assert_eq!(setting.store.remove_name(&reference).unwrap(), Removed::Untagged(reference.clone()));
    assert_eq!(setting.store.remove_name(&reference).unwrap(), Removed::Nothing);
    setting.store.set_pinned(&image.id, true).unwrap();
    assert!(setting.store.get(&image.id).unwrap().pinned);
    assert!(matches!(setting.store.remove_name(&second), Err(StoreError::Pinned(_))));
    assert!(matches!(setting.store.remove(&image.id), Err(StoreError::Pinned(_))));
    setting.store.set_pinned(&image.id, false).unwrap();
    // The tag moves to another image; the first one is left with its digest.
    let (moved, newer) = setting.pull("other:1", &TestImage::gzip(&[upper()]));
    setting.store.tag(&newer.id, &second).unwrap();
    let dangling = setting.store.get(&image.id).unwrap();
    assert!(dangling.names.is_empty() && dangling.digests.len() == 1);
    assert_eq!(setting.store.find(&second).unwrap().id, newer.id);
    assert!(matches!(setting.store.remove_name(&dangling.digests[0]).unwrap(), Removed::Deleted { .. }));
    setting.store.remove_name(&second).unwrap();
    assert!(matches!(setting.store.remove_name(&moved).unwrap(), Removed::Deleted { .. }));
    assert!(setting.store.list().is_empty());
}

#[test]
fn privileged_what_a_crash_left_is_swept() {
    let setting = Setting::new();
    let (_, kept) = setting.pull("kept:1", &TestImage::gzip(&[base()]));
    let (_, broken) = setting.pull("broken:1", &TestImage::gzip(&[base(), upper()]));
    Overlay::new(setting.store.clone()).prepare("kept", &kept).unwrap();
    let setting = setting.reopened(|root| {
        fs::create_dir_all(root.join("tmp/7/half/a/layer")).unwrap();
        fs::create_dir_all(root.join("layers/sha256").join("0".repeat(64)).join("x")).unwrap();
        fs::create_dir_all(root.join("snapshots/orphan/upper")).unwrap();
        fs::remove_dir_all(root.join("layers/sha256").join(broken.layers[1].hex())).unwrap();
    });
    assert_eq!(fs::read_dir(setting.root().join("tmp")).unwrap().count(), 0);
    assert_eq!(setting.layer_folders(), 1);
    assert_eq!(
        setting.store.list().to_vec(),
        [kept],
        "the image that lost a layer is gone, the other is not"
    );
    assert_eq!(Overlay::new(setting.store.clone()).list().unwrap(), ["kept"]);
    assert!(!setting.root().join("snapshots/orphan").exists());
    // It can be pulled again, and fetches only what is missing.
    let before = setting.registry.count("/blobs/");
    setting.pull("broken:1", &TestImage::gzip(&[base(), upper()]));
    assert_eq!(setting.registry.count("/blobs/") - before, 2, "the configuration and one layer");
}

#[test]
fn privileged_an_overlay_has_each_layer_once() {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &TestImage::gzip(&[base(), upper(), base()]));
    let snapshot = Overlay::new(setting.store.clone()).prepare("one", &image).unwrap();
    assert_eq!(snapshot.lower.len(), 2, "overlayfs refuses a folder that occurs twice");
    assert!(snapshot.lower[0].ends_with(image.layers[2].hex()));
    assert!(snapshot.lower[1].ends_with(image.layers[1].hex()));
}
