//! Images as volumes: the folders named are those that the whole image's overlay would show.

use std::fs;
use std::path::PathBuf;

use cleat_image::{Image, Overlay, Snapshotter, Volume};

use super::fixture::image::TestImage;
use super::fixture::tar::{Head, Tar};
use super::store::Setting;

fn layers() -> [Vec<u8>; 4] {
    [
        Tar::new()
            .file("data/base", "0")
            .file("gone/old", "0")
            .file("opaque/old", "0")
            .file("was/file", "0")
            .finish(),
        Tar::new().file("data/one", "1").symlink("link", "data/sub").file("data/sub/x", "1").finish(),
        Tar::new().file(".wh.gone", "").file("opaque/.wh..wh..opq", "").file("opaque/new", "2").finish(),
        Tar::new()
            .file("gone/new", "3")
            .file("was", "3")
            .symlink("out", "../../../../data")
            .symlink("loop", "loop")
            .add(&Head { device: (1, 3), ..Head::new(b'3', "null") }, b"")
            .finish(),
    ]
}

/// The file names a volume shows, its folders merged by hand.
fn names(volume: &Volume) -> Vec<String> {
    let folders = match volume {
        Volume::Single(path) if path.is_file() => return vec![fs::read_to_string(path).unwrap()],
        Volume::Single(path) => vec![path.clone()],
        Volume::Merged(paths) => paths.clone(),
    };
    let list = |path: &PathBuf| {
        let names =
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect::<Vec<_>>()
    };
    let mut names: Vec<_> = folders.iter().flat_map(list).collect();
    names.sort();
    names
}

#[test]
fn privileged_a_part_of_an_image_is_what_the_whole_shows() {
    let setting = Setting::new();
    let (_, image) = setting.pull("volume:1", &TestImage::gzip(&layers()));
    let shown = |path: &str| setting.store.volume(&image, path).unwrap().map(|volume| names(&volume));
    let cases: [(&str, Option<&[&str]>); 17] = [
        ("data", Some(&["base", "one", "sub"])),
        ("./data//", Some(&["base", "one", "sub"])),
        ("data/sub", Some(&["x"])),
        ("link", Some(&["x"])),
        ("out", Some(&["base", "one", "sub"])),
        ("gone", Some(&["new"])),
        ("opaque", Some(&["new"])),
        ("data/base", Some(&["0"])),
        ("was", Some(&["3"])),
        ("was/file", None),
        ("missing", None),
        ("data/base/x", None),
        ("loop", None),
        ("null", None),
        ("/data", None),
        ("../data", None),
        ("data/../data", None),
    ];
    for (path, expected) in cases {
        let expected = expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(shown(path), expected, "{path}");
    }
    let Some(Volume::Merged(all)) = setting.store.volume(&image, "").unwrap() else { panic!("one layer") };
    assert_eq!(all.len(), 4);
}

#[test]
fn privileged_a_snapshot_holds_the_layers_of_its_volumes() {
    let setting = Setting::new();
    let (_, image) = setting.pull("app:1", &TestImage::gzip(&[Tar::new().file("a", "1").finish()]));
    let (_, volume) = setting.pull("volume:1", &TestImage::gzip(&[Tar::new().file("v", "1").finish()]));
    let overlay = Overlay::new(setting.store.clone());
    let hold = |image: &Image| overlay.hold("container", image);
    assert!(hold(&volume).is_err(), "there is no snapshot yet");
    overlay.prepare("container", &image).unwrap();
    hold(&volume).unwrap();
    hold(&volume).unwrap();
    let Some(Volume::Single(path)) = setting.store.volume(&volume, "").unwrap() else {
        panic!("several layers")
    };
    setting.store.remove(&volume.id).unwrap();
    assert!(path.join("v").exists());
    assert_eq!(overlay.get("container").unwrap().unwrap().lower.len(), 1, "it is no part of the root");
    let setting = {
        drop(overlay);
        setting.reopened(|_| {})
    };
    assert!(path.join("v").exists());
    Overlay::new(setting.store.clone()).remove("container").unwrap();
    assert!(!path.exists());
}
