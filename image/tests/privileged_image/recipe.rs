//! An archive that was unpacked can be had again, byte for byte.

use std::fs;
use std::os::fd::AsFd;

use cleat_image::Digest;
use cleat_image::reference::Algorithm;
use cleat_image::unpack::{Destination, UnpackLimits, reproduce, unpack_layer};

use super::fixture::image::TestImage;
use super::fixture::tar::{Head, Tar, seal};
use super::store::Setting;

/// Unpack and reproduce; where the tree is, and what came out.
fn round_trip(tar: &[u8]) -> Vec<u8> {
    let base = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        fs::create_dir(base.path().join(name)).unwrap();
        fs::File::open(base.path().join(name)).unwrap()
    };
    let (tree, kept) = (folder("tree"), folder("kept"));
    let destination = Destination { tree: tree.as_fd(), kept: Some(kept.as_fd()) };
    let limits = UnpackLimits::default();
    let unpacked = unpack_layer(tar, tar.len() as u64, destination, Algorithm::Sha256, &limits).unwrap();
    assert_eq!((unpacked.diff_id, unpacked.tar_bytes), (Digest::of(tar), tar.len() as u64));
    let mut out = Vec::new();
    reproduce(tree.as_fd(), kept.as_fd(), &mut out).unwrap();
    out
}

fn gnu_sparse() -> Vec<u8> {
    let mut block = Head { size: 7, ..Head::new(b'S', "sparse") }.block();
    block[257..265].copy_from_slice(b"ustar  \0");
    block[386..398].copy_from_slice(b"00000010000\0");
    block[398..410].copy_from_slice(b"00000000007\0");
    block[483..495].copy_from_slice(b"00000100000\0");
    seal(&mut block);
    Tar::new().padded(&block).padded(b"content").file("after", "x").finish()
}

#[test]
fn privileged_an_archive_is_reproduced_to_the_byte() {
    let odd_padding = {
        let mut tar = Tar::new().file("a", "odd").finish();
        tar[600..700].fill(b'#');
        tar.extend(b"behind the end");
        tar
    };
    let pax: [(&str, &[u8]); 3] =
        [("path", b"from/pax"), ("mtime", b"1.5"), ("SCHILY.xattr.trusted.dropped", b"\0\xff")];
    let cases = [
        Tar::new().finish(),
        Tar::new().cut(),
        Tar::new().file("no end", "1").cut(),
        odd_padding,
        gnu_sparse(),
        Tar::new().dir("d/").file("d/one", vec![7; 700_000]).hard_link("d/two", "d/one").finish(),
        Tar::new().pax(&pax).file("short", "by pax").finish(),
        Tar::new().file("a/.wh.gone", "a whiteout with data").file(".wh..wh.plnk/1", "aufs").finish(),
        Tar::new().symlink("lib", "usr/lib").dir("usr/lib/").file("lib/x", "through a link").finish(),
        Tar::new().file("twice", "first").file("twice", "second").file("twice", "").finish(),
        Tar::new()
            .file("d/a", "1")
            .file("d/b", "2")
            .file("d", "now a file")
            .dir("d/")
            .file("d/a", "3")
            .finish(),
        Tar::new().file("a", "1").hard_link("b", "a").file("a", "2").file("b", "3").finish(),
        Tar::new().file("lib/y", "in a folder").symlink("lib", "usr").file("usr/z", "1").finish(),
    ];
    for (number, tar) in cases.iter().enumerate() {
        assert!(round_trip(tar) == *tar, "case {number}");
    }
}

#[test]
fn privileged_a_damaged_layer_is_found_and_fetched_again_alone() {
    let setting = Setting::new();
    let good = Tar::new().file("good", "1").finish();
    let image = TestImage::gzip(&[good, Tar::new().file("bad", "right").finish()]);
    let (_, pulled) = setting.pull("app:1", &image);
    assert_eq!(setting.store.verify(&pulled).unwrap(), []);
    let layer = setting.root().join("layers/sha256").join(pulled.layers[1].hex());
    fs::write(layer.join("bad"), "wrong").unwrap();
    assert_eq!(setting.store.verify(&pulled).unwrap(), [pulled.layers[1].clone()]);
    let fetched = setting.registry.count("/blobs/");
    let (_, again) = setting.pull("app:1", &image);
    assert_eq!(setting.registry.count("/blobs/") - fetched, 2, "the configuration and the damaged layer");
    assert_eq!(setting.store.verify(&again).unwrap(), []);
    assert_eq!(fs::read(layer.join("bad")).unwrap(), b"right");
    assert_eq!(fs::read_dir(setting.root().join("tmp")).unwrap().count(), 0);
}
