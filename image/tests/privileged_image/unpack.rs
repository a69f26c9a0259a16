//! Archives become folders, and nothing but folders: the good ones exactly, the evil ones never outside.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cleat_image::Digest;
use cleat_image::reference::Algorithm;
use cleat_image::unpack::{UnpackError, UnpackLimits, Unpacked, unpack_layer};
use rustix::fs::lgetxattr;

use super::fixture::tar::{Head, Tar, seal};

/// A folder to unpack into, with a neighbour that has to stay as it is.
struct Sandbox {
    base: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("layer")).unwrap();
        fs::create_dir(base.path().join("outside")).unwrap();
        fs::write(base.path().join("outside/victim"), "untouched").unwrap();
        Self { base }
    }

    fn unpack(&self, tar: &[u8]) -> Result<Unpacked, UnpackError> {
        self.unpack_within(tar, &UnpackLimits::default())
    }

    fn unpack_within(&self, tar: &[u8], limits: &UnpackLimits) -> Result<Unpacked, UnpackError> {
        let folder = fs::File::open(self.path("")).unwrap();
        unpack_layer(tar, tar.len() as u64, folder.as_fd(), Algorithm::Sha256, limits)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.base.path().join("layer").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    /// Nothing but the layer's folder may have changed.
    fn assert_outside_untouched(&self) {
        let mut names: Vec<_> =
            fs::read_dir(self.base.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["layer", "outside"]);
        let outside: Vec<_> = fs::read_dir(self.base.path().join("outside")).unwrap().collect();
        assert_eq!(outside.len(), 1);
        let victim = self.base.path().join("outside/victim");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
        let metadata = fs::metadata(&victim).unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o7777), (1, 0o644));
    }
}

fn xattr(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 256];
    let length = lgetxattr(path, name, &mut value[..]).ok()?;
    value.truncate(length);
    Some(value)
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

#[test]
fn privileged_everything_an_archive_describes_is_there() {
    let sandbox = Sandbox::new();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let long = format!("deep/{}/{}", "n".repeat(200), "m".repeat(100));
    let tar = Tar::new()
        .add(&Head { mode: 0o711, uid: 7, ..Head::new(b'5', "./") }, b"")
        .dir("bin/")
        .add(&Head { mode: 0o4755, uid: 10, gid: 20, ..Head::new(b'0', "bin/su") }, b"program")
        .hard_link("bin/su2", "bin/su")
        .symlink("sbin", "bin")
        .file("sbin/through-link", "x")
        .add(&Head { device: (1, 3), mode: 0o666, ..Head::new(b'3', "dev/null") }, b"")
        .add(&Head { mode: 0o600, ..Head::new(b'6', "pipe") }, b"")
        .pax(&[("mtime", b"1234567890.5"), ("SCHILY.xattr.user.note", b"hello"), ("uid", b"3000000000")])
        .file("noted", "")
        .pax(&[("SCHILY.xattr.security.capability", &capability)])
        .file("capable", "")
        .pax(&[("path", long.as_bytes())])
        .file("short", "long")
        .add(&Head { mtime: 5, mode: 0o1777, ..Head::new(b'5', "tmp") }, b"")
        .file("tmp/late", "changes the folder's time")
        .finish();
    let unpacked = sandbox.unpack(&tar).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(&tar));
    let stat = |path: &str| fs::symlink_metadata(sandbox.path(path)).unwrap();
    assert_eq!((stat("").mode() & 0o7777, stat("").uid()), (0o711, 7));
    assert_eq!(
        (stat("bin/su").mode() & 0o7777, stat("bin/su").uid(), stat("bin/su").gid()),
        (0o4755, 10, 20)
    );
    assert_eq!(stat("bin/su2").ino(), stat("bin/su").ino());
    assert_eq!(sandbox.read("bin/through-link"), "x");
    assert_eq!((stat("dev/null").rdev(), stat("dev").mode() & 0o7777), (rustix::fs::makedev(1, 3), 0o755));
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(
        (stat("noted").mtime(), stat("noted").mtime_nsec(), stat("noted").uid()),
        (1_234_567_890, 500_000_000, 3_000_000_000)
    );
    assert_eq!(xattr(&sandbox.path("noted"), "user.note").unwrap(), b"hello");
    assert_eq!(xattr(&sandbox.path("capable"), "security.capability").unwrap(), capability);
    assert_eq!(sandbox.read(&long), "long");
    assert_eq!((stat("tmp").mtime(), stat("tmp").mode() & 0o7777), (5, 0o1777));
    assert_eq!(stat("bin").mtime(), 1_000_000_000);
    sandbox.assert_outside_untouched();
}

#[test]
fn privileged_figures_are_what_the_disk_says() {
    let sandbox = Sandbox::new();
    let replaced = Tar::new()
        .dir("a")
        .file("a/f", vec![1; 50_000])
        .file("a/f", "less")
        .dir("e")
        .file("e/x", "y")
        .file("e", "now a file")
        .symlink("l", "a")
        .finish();
    let plain =
        Tar::new().dir("a").file("a/f", vec![1; 50_000]).file("b/c/g", vec![2; 5000]).hard_link("h", "a/f");
    for (name, tar) in [("replaced", replaced), ("plain", plain.finish())] {
        let sandbox = Sandbox::new();
        let unpacked = sandbox.unpack(&tar).unwrap();
        let du = |flag: &str| {
            let out =
                std::process::Command::new("du").args(["-s", flag]).arg(sandbox.path("")).output().unwrap();
            let text = String::from_utf8(out.stdout).unwrap();
            text.split_whitespace().next().unwrap().parse::<u64>().unwrap()
        };
        assert_eq!(unpacked.bytes, du("--block-size=1"), "{name}");
        assert_eq!(unpacked.inodes, du("--inodes"), "{name}");
    }
    sandbox.assert_outside_untouched();
}

#[test]
fn privileged_sparse_files_keep_their_holes() {
    let mut old = Head { size: 4, ..Head::new(b'S', "old") }.block();
    old[257..265].copy_from_slice(b"ustar  \0");
    old[345..500].fill(0);
    old[386..398].copy_from_slice(b"00000200000\0");
    old[398..410].copy_from_slice(b"00000000004\0");
    old[483..495].copy_from_slice(b"00000400000\0");
    seal(&mut old);
    let map = b"1\n65536\n4\n";
    let mut data = map.to_vec();
    data.resize(512, 0);
    data.extend(b"data");
    let sandbox = Sandbox::new();
    let tar = Tar::new()
        .padded(&old)
        .padded(b"data")
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"new"),
            ("GNU.sparse.realsize", b"131072"),
        ])
        .file("GNUSparseFile.0/new", &data)
        .pax(&[
            ("GNU.sparse.map", b"65536,4"),
            ("GNU.sparse.size", b"131072"),
            ("GNU.sparse.name", b"middle"),
        ])
        .file("GNUSparseFile.0/middle", "data")
        .file("after", "found")
        .finish();
    sandbox.unpack(&tar).unwrap();
    for name in ["old", "new", "middle"] {
        let bytes = fs::read(sandbox.path(name)).unwrap();
        assert_eq!(bytes.len(), 131_072, "{name}");
        assert_eq!(&bytes[65_536..65_540], b"data", "{name}");
        assert!(fs::metadata(sandbox.path(name)).unwrap().blocks() < 32, "{name} has no hole");
    }
    assert_eq!(sandbox.read("after"), "found");
}

#[test]
fn privileged_whiteouts_take_overlays_form_in_any_order() {
    let sandbox = Sandbox::new();
    let tar = Tar::new()
        .file("a/.wh.gone", "")
        .dir("opaque")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/kept", "x")
        .file(".wh.first-hidden", "")
        .dir("first-hidden")
        .file(".wh.implied", "")
        .file("implied/file", "x")
        .dir("then-hidden")
        .file(".wh.then-hidden", "")
        .file("own", "x")
        .file(".wh.own", "")
        .file(".wh..wh.plnk/1.2", "aufs")
        .file("b/.wh..wh..opq", "")
        .finish();
    let unpacked = sandbox.unpack(&tar).unwrap();
    assert!(!unpacked.opaque_root);
    assert!(is_whiteout(&sandbox.path("a/gone")));
    for folder in ["opaque", "first-hidden", "implied", "then-hidden", "b"] {
        assert_eq!(
            xattr(&sandbox.path(folder), "trusted.overlay.opaque").as_deref(),
            Some(&b"y"[..]),
            "{folder}"
        );
    }
    assert_eq!(sandbox.read("implied/file"), "x");
    assert_eq!(sandbox.read("own"), "x");
    assert!(!sandbox.path(".wh..wh.plnk").exists() && !sandbox.path("opaque/.wh..wh..opq").exists());
    assert!(Sandbox::new().unpack(&Tar::new().file(".wh..wh..opq", "").finish()).unwrap().opaque_root);
}

#[test]
fn privileged_evil_archives_are_refused() {
    type Check = fn(&UnpackError) -> bool;
    let escape: Check = |error| matches!(error, UnpackError::Escape(_));
    let whiteout: Check = |error| matches!(error, UnpackError::Whiteout(_));
    let link: Check = |error| matches!(error, UnpackError::LinkTarget { .. } | UnpackError::Escape(_));
    let tar_error: Check = |error| matches!(error, UnpackError::Tar(_));
    let huge = "x".repeat(1 << 20);
    let cases: Vec<(&str, Vec<u8>, Check)> = vec![
        ("dot-dot", Tar::new().file("../outside/victim", "evil").finish(), escape),
        ("dot-dot inside", Tar::new().file("a/../../outside/victim", "evil").finish(), escape),
        ("pax dot-dot", Tar::new().pax(&[("path", b"../outside/victim")]).file("a", "evil").finish(), escape),
        ("whiteout of the parent", Tar::new().file("a/.wh...", "").finish(), whiteout),
        ("whiteout of nothing", Tar::new().file("a/.wh.", "").finish(), whiteout),
        ("hard link out", Tar::new().hard_link("l", "../outside/victim").finish(), link),
        ("hard link, absolute", Tar::new().hard_link("l", "/outside/victim").finish(), link),
        (
            "hard link by a link",
            Tar::new().symlink("up", "../outside").hard_link("l", "up/victim").finish(),
            link,
        ),
        ("hard link to a lower layer", Tar::new().hard_link("l", "bin/missing").finish(), link),
        ("hard link to what is hidden", Tar::new().file(".wh.x", "").hard_link("l", "x").finish(), link),
        ("huge pax", Tar::new().pax(&[("comment", huge.as_bytes())]).file("a", "").finish(), tar_error),
        (
            "huge attribute",
            Tar::new().pax(&[("SCHILY.xattr.user.a", &huge.as_bytes()[..65_537])]).file("a", "").finish(),
            tar_error,
        ),
        (
            "huge path",
            Tar::new().pax(&[("path", &huge.as_bytes()[..4097])]).file("a", "").finish(),
            tar_error,
        ),
        ("uid -1", Tar::new().pax(&[("uid", b"4294967295")]).file("a", "").finish(), tar_error),
        ("uid beyond 32 bits", Tar::new().pax(&[("uid", b"4294967296")]).file("a", "").finish(), tar_error),
        (
            "size beyond the end",
            Tar::new().padded(&Head { size: 1 << 30, ..Head::new(b'0', "a") }.block()).cut(),
            tar_error,
        ),
        ("unknown type", Tar::new().add(&Head::new(b'Z', "a"), b"").finish(), tar_error),
        ("NUL in a path", Tar::new().pax(&[("path", b"a\0b")]).file("a", "").finish(), tar_error),
        ("root as a file", Tar::new().file("./", "").symlink("/", "x").finish(), |e| {
            matches!(e, UnpackError::Root)
        }),
        ("below a file", Tar::new().file("a", "").file("a/b", "").finish(), |e| {
            matches!(e, UnpackError::NotADirectory(_))
        }),
        ("link loop", Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "").finish(), |e| {
            matches!(e, UnpackError::NotADirectory(_))
        }),
    ];
    for (name, tar, check) in cases {
        let sandbox = Sandbox::new();
        let error = sandbox.unpack(&tar).expect_err(name);
        assert!(check(&error), "{name}: {error:?}");
        sandbox.assert_outside_untouched();
    }
}

#[test]
fn privileged_links_never_lead_outside() {
    let sandbox = Sandbox::new();
    let outside = sandbox.base.path().join("outside");
    let absolute = outside.to_str().unwrap();
    let tar = Tar::new()
        .symlink("relative", "../outside")
        .file("relative/victim", "inside")
        .symlink("absolute", absolute)
        .file("absolute/victim", "inside")
        .dir("swapped")
        .file("swapped/first", "x")
        .symlink("swapped", "../outside")
        .file("swapped/second", "x")
        .symlink("far", "../../../../../../../../../../tmp")
        .file("far/victim", "inside")
        .symlink("file", "../outside/victim")
        .file("file", "replaces the link")
        .add(&Head { mode: 0o777, ..Head::new(b'5', "relative") }, b"")
        .finish();
    sandbox.unpack(&tar).unwrap();
    sandbox.assert_outside_untouched();
    assert_eq!(sandbox.read("outside/victim"), "inside");
    assert_eq!(sandbox.read(&format!("{}/victim", &absolute[1..])), "inside");
    assert_eq!(sandbox.read("tmp/victim"), "inside");
    assert_eq!(
        sandbox.read("outside/second"),
        "x",
        "the folder that was replaced is not written to any more"
    );
    assert_eq!(sandbox.read("file"), "replaces the link");
    assert!(fs::symlink_metadata(sandbox.path("relative")).unwrap().is_dir());
}

#[test]
fn privileged_an_image_cannot_forge_overlays_attributes() {
    let sandbox = Sandbox::new();
    let tar = Tar::new()
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ])
        .dir("a")
        .pax(&[("SCHILY.xattr.trusted.overlay.metacopy", b"")])
        .file("b", "")
        .finish();
    sandbox.unpack(&tar).unwrap();
    for (path, name) in [("a", "redirect"), ("a", "opaque"), ("b", "metacopy")] {
        assert_eq!(xattr(&sandbox.path(path), &format!("trusted.overlay.{name}")), None);
    }
}

#[test]
fn privileged_limits_hold() {
    let many = (0..50).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), "")).finish();
    let sandbox = Sandbox::new();
    let few = UnpackLimits { max_entries: 49, ..UnpackLimits::default() };
    assert!(matches!(sandbox.unpack_within(&many, &few), Err(UnpackError::TooManyEntries(49))));
    // Each of these makes two thousand folders of names of two thousand bytes.
    let deep = |number: u32| format!("{number}/{}file", "d/".repeat(2000));
    let folders = |tar: Tar, number| tar.pax(&[("path", deep(number).as_bytes())]).file("x", "");
    let implying = (0..8).fold(Tar::new(), folders).finish();
    assert!(matches!(Sandbox::new().unpack(&implying), Err(UnpackError::TooManyImplied)));
    let bomb = super::fixture::image::compress(
        &Tar::new().file("zeros", vec![0; 8 << 20]).finish(),
        super::fixture::image::Compression::Gzip,
    );
    let strict = UnpackLimits { ratio_slack_bytes: 1 << 20, max_ratio: 10, ..UnpackLimits::default() };
    assert!(matches!(Sandbox::new().unpack_within(&bomb, &strict), Err(UnpackError::Tar(_))));
    assert!(Sandbox::new().unpack(&bomb).is_ok());
    assert_eq!(fs::metadata(sandbox.path("f0")).unwrap().permissions().mode() & 0o777, 0o644);
}
