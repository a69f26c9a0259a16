//! What every implementation of [`Snapshotter`] has to do: one suite, run for each by a line at the end. It asks nothing but
//! the trait, and the mount that a [`Snapshot`] names.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use cleat_image::{Image, Removed, Snapshot, SnapshotError, Snapshotter, Store};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::fixture::disk::with_own_mounts;
use super::fixture::image::TestImage;
use super::fixture::tar::{Head, Tar};
use super::store::Setting;

fn lower() -> Vec<u8> {
    Tar::new()
        .add(&Head { mode: 0o751, uid: 3, ..Head::new(b'5', "./") }, b"")
        .dir("etc/")
        .file("etc/kept", "lower")
        .file("etc/gone", "lower")
        .dir("hidden/")
        .file("hidden/old", "lower")
        .finish()
}

fn upper() -> Vec<u8> {
    Tar::new()
        .file("etc/.wh.gone", "")
        .file("etc/added", "upper")
        .file("hidden/.wh..wh..opq", "")
        .file("hidden/new", "upper")
        .finish()
}

/// An image of two layers, and one of the lower of them.
fn image() -> TestImage {
    TestImage::gzip(&[lower(), upper()])
}

/// See the snapshot as its container does.
fn mounted(snapshot: &Snapshot, look: impl FnOnce(&Path) + Send) {
    let lower = snapshot.lower.iter().map(|folder| folder.to_str().unwrap()).collect::<Vec<_>>().join(":");
    let (upper, work) = (snapshot.upper.display(), snapshot.work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    with_own_mounts(|| {
        let folder = tempfile::tempdir().unwrap();
        let options = std::ffi::CString::new(options).unwrap();
        mount("overlay", folder.path(), "overlay", MountFlags::empty(), &*options).unwrap();
        look(folder.path());
        unmount(folder.path(), UnmountFlags::empty()).unwrap();
    });
}

type Make<S> = fn(Store) -> S;

fn keys_are_plain_names<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let snapshots = make(setting.store.clone());
    for key in ["", ".", "..", "../x", "a/b", ".a", "a b", "a\0", &"k".repeat(129)] {
        let refused = |result: Result<(), SnapshotError>| {
            assert!(matches!(result, Err(SnapshotError::Key(_))), "{key:?}");
        };
        refused(snapshots.prepare(key, &image).map(drop));
        refused(snapshots.hold(key, &image));
        refused(snapshots.get(key).map(drop));
        refused(snapshots.remove(key));
        refused(snapshots.usage(key).map(drop));
    }
    snapshots.prepare(&"k".repeat(128), &image).unwrap();
}

fn preparing_again_gives_the_same<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let (_, other) = setting.pull("other:1", &TestImage::gzip(&[lower()]));
    let snapshots = make(setting.store.clone());
    let at_once = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| snapshots.prepare("one", &image).unwrap())).collect();
        all.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(at_once.windows(2).all(|pair| pair[0] == pair[1]), "{at_once:?}");
    assert_eq!(snapshots.get("one").unwrap().as_ref(), at_once.first());
    assert_eq!((at_once[0].key.as_str(), &at_once[0].image), ("one", &image.id));
    let exists = snapshots.prepare("one", &other);
    assert!(matches!(exists, Err(SnapshotError::Exists { image: ref of, .. }) if *of == image.id));
    assert_eq!(snapshots.get("two").unwrap(), None);
    let two = snapshots.prepare("two", &other).unwrap();
    assert_ne!((&two.upper, &two.work), (&at_once[0].upper, &at_once[0].work));
    assert_eq!(snapshots.list().unwrap(), ["one", "two"]);
}

fn a_container_sees_its_image_and_its_own_changes<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let snapshots = make(setting.store.clone());
    let [one, two] = ["one", "two"].map(|key| snapshots.prepare(key, &image).unwrap());
    mounted(&one, |root| {
        let own = fs::metadata(root).unwrap();
        assert_eq!((own.mode() & 0o7777, own.uid()), (0o751, 3), "the root is the image's");
        let read = |path: &str| fs::read_to_string(root.join(path)).ok();
        assert_eq!(read("etc/kept").as_deref(), Some("lower"));
        assert_eq!(read("etc/added").as_deref(), Some("upper"));
        assert_eq!((read("etc/gone"), read("hidden/old")), (None, None), "the upper layer hides them");
        assert_eq!(read("hidden/new").as_deref(), Some("upper"));
        fs::write(root.join("etc/kept"), "changed").unwrap();
        fs::remove_file(root.join("etc/added")).unwrap();
    });
    mounted(&one, |root| {
        assert_eq!(fs::read_to_string(root.join("etc/kept")).unwrap(), "changed", "it is still there");
        assert!(!root.join("etc/added").exists());
    });
    mounted(&two, |root| {
        assert_eq!(fs::read_to_string(root.join("etc/kept")).unwrap(), "lower", "it was another's change");
        assert!(root.join("etc/added").exists());
    });
    assert_eq!(setting.store.verify(&image).unwrap(), [], "the layers are as they were");
}

fn an_image_without_layers_is_an_empty_root<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("empty:1", &TestImage::gzip(&[]));
    let snapshot = make(setting.store.clone()).prepare("one", &image).unwrap();
    assert!(!snapshot.lower.is_empty());
    mounted(&snapshot, |root| {
        assert_eq!(fs::metadata(root).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    });
}

fn a_snapshot_outlives_its_image_and_releases_it<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let (_, volume) = setting.pull("volume:1", &TestImage::gzip(&[Tar::new().file("data", "1").finish()]));
    let snapshots = make(setting.store.clone());
    let snapshot = snapshots.prepare("one", &image).unwrap();
    snapshots.hold("one", &volume).unwrap();
    snapshots.hold("one", &volume).unwrap();
    assert!(matches!(snapshots.hold("none", &volume), Err(SnapshotError::NotFound(_))));
    for gone in [&image, &volume] {
        assert!(matches!(setting.store.remove(&gone.id).unwrap(), Removed::Deleted { .. }));
    }
    assert_eq!(setting.layer_folders(), 3, "layers of a snapshot and of what it holds stay");
    mounted(&snapshot, |root| assert!(root.join("etc/kept").exists()));
    let missing = snapshots.prepare("two", &removed(&setting));
    assert!(matches!(missing, Err(SnapshotError::LayerMissing { .. })), "{missing:?}");
    assert_eq!(snapshots.list().unwrap(), ["one"]);
    snapshots.remove("one").unwrap();
    assert_eq!((setting.layer_folders(), setting.store.usage().bytes), (0, 0));
}

/// An image that is nowhere any more.
fn removed(setting: &Setting) -> Arc<Image> {
    let (_, image) = setting.pull("gone:1", &TestImage::gzip(&[Tar::new().file("gone", "1").finish()]));
    setting.store.remove(&image.id).unwrap();
    image
}

fn what_was_written_is_measured<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let snapshots = make(setting.store.clone());
    let snapshot = snapshots.prepare("one", &image).unwrap();
    let fresh = snapshots.usage("one").unwrap();
    mounted(&snapshot, |root| {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/b/file"), vec![1; 40_960]).unwrap();
        fs::hard_link(root.join("a/b/file"), root.join("a/b/again")).unwrap();
    });
    let used = snapshots.usage("one").unwrap();
    assert_eq!(used.inodes - fresh.inodes, 3, "a file with two names counts once");
    assert!((40_960..100_000).contains(&(used.bytes - fresh.bytes)), "{used:?} {fresh:?}");
    assert!(matches!(snapshots.usage("none"), Err(SnapshotError::NotFound(_))));
}

fn removal_takes_everything<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let snapshots = make(setting.store.clone());
    let snapshot = snapshots.prepare("one", &image).unwrap();
    mounted(&snapshot, |root| {
        fs::create_dir_all(root.join("closed/inner")).unwrap();
        fs::write(root.join("closed/inner/fixed"), "1").unwrap();
        fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o0)).unwrap();
    });
    let file = fs::File::open(snapshot.upper.join("closed/inner/fixed")).unwrap();
    rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::IMMUTABLE).unwrap();
    snapshots.remove("one").unwrap();
    assert!(!snapshot.upper.exists() && !snapshot.work.exists());
    assert_eq!((snapshots.get("one").unwrap(), snapshots.list().unwrap()), (None, Vec::<String>::new()));
    snapshots.remove("one").unwrap();
    snapshots.remove("never-was").unwrap();
    assert_eq!(fs::read_dir(setting.root().join("tmp")).unwrap().count(), 0);
    assert_eq!(setting.store.verify(&image).unwrap(), [], "the image stays");
}

fn snapshots_are_found_after_a_restart<S: Snapshotter>(make: Make<S>) {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &image());
    let snapshots = make(setting.store.clone());
    let before = snapshots.prepare("one", &image).unwrap();
    snapshots.prepare("two", &image).unwrap();
    snapshots.remove("two").unwrap();
    mounted(&before, |root| fs::write(root.join("own"), "1").unwrap());
    drop(snapshots);
    let setting = setting.reopened(|_| {});
    let snapshots = make(setting.store.clone());
    assert_eq!(
        (snapshots.list().unwrap(), snapshots.get("one").unwrap()),
        (vec!["one".into()], Some(before.clone()))
    );
    mounted(&before, |root| assert!(root.join("own").exists() && root.join("etc/kept").exists()));
}

/// The suite for the snapshots that `$make` makes in a store.
macro_rules! suite {
    ($name:ident, $make:expr) => {
        mod $name {
            #[test]
            fn privileged_keys_are_plain_names() {
                super::keys_are_plain_names($make);
            }

            #[test]
            fn privileged_preparing_again_gives_the_same() {
                super::preparing_again_gives_the_same($make);
            }

            #[test]
            fn privileged_a_container_sees_its_image_and_its_own_changes() {
                super::a_container_sees_its_image_and_its_own_changes($make);
            }

            #[test]
            fn privileged_an_image_without_layers_is_an_empty_root() {
                super::an_image_without_layers_is_an_empty_root($make);
            }

            #[test]
            fn privileged_a_snapshot_outlives_its_image_and_releases_it() {
                super::a_snapshot_outlives_its_image_and_releases_it($make);
            }

            #[test]
            fn privileged_what_was_written_is_measured() {
                super::what_was_written_is_measured($make);
            }

            #[test]
            fn privileged_removal_takes_everything() {
                super::removal_takes_everything($make);
            }

            #[test]
            fn privileged_snapshots_are_found_after_a_restart() {
                super::snapshots_are_found_after_a_restart($make);
            }
        }
    };
}

suite!(overlay, cleat_image::Overlay::new);
