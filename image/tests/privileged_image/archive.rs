//! Images saved, loaded and imported; Debian's skopeo reads what is written and writes what is read.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use cleat_image::unpack::UnpackLimits;
use cleat_image::{ArchiveError, Commit, Digest, Image, Import, Reference, Store};

use super::fixture::image::{Compression, TestImage};
use super::fixture::tar::Tar;
use super::store::Setting;

fn lower() -> Vec<u8> {
    Tar::new().dir("etc/").file("etc/lower", vec![7; 100_000]).symlink("l", "etc/lower").finish()
}

fn upper() -> Vec<u8> {
    Tar::new().file("etc/.wh.lower", "").file("upper", "2").file("upper", "3").finish()
}

fn load(store: &Store, archive: &[u8]) -> Result<Vec<Arc<Image>>, ArchiveError> {
    let loaded = store.load(archive, &UnpackLimits::default())?;
    Ok(loaded.into_iter().map(|one| one.image).collect())
}

fn save(store: &Store, image: &Arc<Image>, names: &[Reference]) -> Vec<u8> {
    let mut out = Vec::new();
    store.save(&[(Arc::clone(image), names.to_vec())], &mut out).unwrap();
    out
}

fn assert_clean(store: &Store) {
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
}

fn skopeo(arguments: &[&str]) -> String {
    let run = Command::new("timeout").args(["60", "skopeo", "--insecure-policy"]).args(arguments).output();
    let run = run.unwrap();
    assert!(run.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn privileged_what_was_saved_loads_as_what_it_was() {
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let from = Setting::new();
        let image = TestImage::new(&[(lower(), compression), (upper(), compression), (lower(), compression)]);
        let (reference, pulled) = from.pull("app:1", &image);
        let archive = save(&from.store, &pulled, std::slice::from_ref(&reference));
        assert_eq!(archive, save(&from.store, &pulled, std::slice::from_ref(&reference)), "not reproducible");
        let to = Setting::new();
        let loaded = load(&to.store, &archive).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!((&loaded[0].id, &loaded[0].layers), (&pulled.id, &pulled.layers));
        assert_eq!(loaded[0].names, std::slice::from_ref(&reference));
        assert_eq!(to.store.verify(&loaded[0]).unwrap(), []);
        assert_eq!(to.store.file(&loaded[0], "/upper", 10).unwrap().unwrap(), b"3");
        assert_eq!(archive, save(&to.store, &loaded[0], std::slice::from_ref(&reference)));
        if matches!(compression, Compression::None) {
            // The fixture calls every layer that is not zstd gzip; the digests are those of plain layers.
            assert_eq!(loaded[0].manifest, pulled.manifest);
        }
        let again = load(&to.store, &archive).unwrap();
        assert_eq!(again, loaded, "loading twice changes something");
        assert_clean(&to.store);
    }
}

#[test]
fn privileged_skopeo_and_the_store_read_each_other() {
    let setting = Setting::new();
    let (reference, pulled) = setting.pull("app:1", &TestImage::gzip(&[lower(), upper()]));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("saved.tar"), save(&setting.store, &pulled, std::slice::from_ref(&reference))).unwrap();
    for (from, to) in
        [("docker-archive", "dir"), ("oci-archive", "docker-archive"), ("docker-archive", "oci-archive")]
    {
        let name = if to == "dir" { String::new() } else { format!(":{reference}") };
        let (source, target) = (
            format!("{from}:{}", path("saved.tar")),
            format!("{to}:{}{name}", path(&format!("{from}-{to}"))),
        );
        skopeo(&["copy", &source, &target]);
        if to != "dir" {
            let other = Setting::new();
            let loaded = load(&other.store, &fs::read(path(&format!("{from}-{to}"))).unwrap()).unwrap();
            assert_eq!(loaded[0].layers, pulled.layers, "{from} {to}");
            // skopeo writes the configuration anew where it changes Docker's form into OCI's.
            assert!(loaded[0].id == pulled.id || to == "oci-archive", "{from} {to}");
            assert_eq!(other.store.verify(&loaded[0]).unwrap(), []);
            assert_eq!(loaded[0].names, std::slice::from_ref(&reference), "{from} {to}");
        }
    }
    assert!(Path::new(&path("docker-archive-dir/manifest.json")).exists());
}

#[test]
fn privileged_an_archive_that_lies_leaves_nothing() {
    let from = Setting::new();
    let (reference, pulled) = from.pull("app:1", &TestImage::gzip(&[lower(), upper()]));
    let archive = save(&from.store, &pulled, std::slice::from_ref(&reference));
    let to = Setting::new();
    let changed = |at: usize| {
        let mut archive = archive.clone();
        archive[at] ^= 1;
        archive
    };
    let find = |text: &[u8]| archive.windows(text.len()).position(|window| window == text).unwrap();
    let cases = [
        changed(find(b"sha256")),
        changed(find(&[7; 1000]) + 500),
        changed(find(b"\"rootfs\"") + 1),
        archive[..archive.len() / 2].to_vec(),
        archive[..1024].to_vec(),
        Tar::new()
            .file("manifest.json", r#"[{"Config":"c.json","RepoTags":null,"Layers":["l.tar"]}]"#)
            .finish(),
        Tar::new().file("../manifest.json", "[]").finish(),
        Tar::new().file("VERSION", "1.0").finish(),
        Vec::new(),
    ];
    for (number, archive) in cases.iter().enumerate() {
        assert!(load(&to.store, archive).is_err(), "case {number}");
        assert_eq!((to.store.list().len(), to.layer_folders()), (0, 0), "case {number}");
        assert_clean(&to.store);
    }
}

#[test]
fn privileged_archives_of_old_docker_load() {
    let (tar, store) = (lower(), Setting::new());
    let config = format!(
        r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{0}","{0}"]}}}}"#,
        Digest::of(&tar)
    );
    let archive = Tar::new()
        .dir("a/")
        .file("a/VERSION", "1.0")
        .file("a/json", "{}")
        .file("a/layer.tar", &tar)
        .symlink("b/layer.tar", "../a/layer.tar")
        .file("c.json", &config)
        .file("manifest.json", r#"[{"Config":"c.json","RepoTags":["app:1","x.y/app:2"],"Layers":["a/layer.tar","b/layer.tar"]}]"#)
        .file("repositories", "{}")
        .finish();
    let loaded = load(&store.store, &archive).unwrap();
    assert_eq!(loaded[0].id, Digest::of(config.as_bytes()));
    assert_eq!(
        loaded[0].names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["docker.io/library/app:1", "x.y/app:2"]
    );
    assert_eq!(store.layer_folders(), 1);
}

#[test]
fn privileged_a_layer_above_an_image_becomes_an_image() {
    let setting = Setting::new();
    let (_, parent) = setting.pull("app:1", &TestImage::new(&[(lower(), Compression::Gzip)]));
    let name = Reference::parse("made:1").unwrap();
    let order = |name: Option<Reference>| Commit { name, comment: "by hand".into(), ..Commit::default() };
    let commit = |archive: Vec<u8>, name| {
        setting.store.commit(&parent, &archive[..], &order(name), &UnpackLimits::default())
    };
    let made = commit(upper(), Some(name.clone())).unwrap();
    assert_eq!(made.layers, [parent.layers.clone(), vec![Digest::of(&upper())]].concat());
    assert_eq!(setting.store.file(&made, "/upper", 10).unwrap().unwrap(), b"3");
    assert_eq!(setting.store.file(&made, "/etc/lower", 200_000).unwrap(), None);
    assert_eq!(setting.store.verify(&made).unwrap(), []);
    let history = setting.store.history(&made).unwrap();
    assert_eq!((history.len(), history[1].layer.as_ref()), (2, made.layers.last()));
    // What changes nothing is no layer.
    let same = commit(Tar::new().finish(), None).unwrap();
    assert_eq!((&same.layers, setting.layer_folders()), (&parent.layers, 2));
    assert!(commit(upper()[..700].to_vec(), None).is_err());
    // It is as whole as any other, and its layers stay when its parent goes.
    setting.store.remove(&parent.id).unwrap();
    let to = Setting::new();
    let loaded = load(&to.store, &save(&setting.store, &made, &[name])).unwrap();
    assert_eq!((&loaded[0].id, &loaded[0].layers), (&made.id, &made.layers));
    assert_clean(&setting.store);
}

#[test]
fn privileged_a_root_filesystem_becomes_an_image() {
    let setting = Setting::new();
    let import = Import {
        name: Some(Reference::parse("imported:1").unwrap()),
        comment: "by hand".into(),
        ..Import::default()
    };
    let image = setting.store.import(&lower()[..], &import, &UnpackLimits::default()).unwrap();
    assert_eq!((image.names.len(), image.layers.as_slice()), (1, &[Digest::of(&lower())][..]));
    assert_eq!(setting.store.verify(&image).unwrap(), []);
    let history = setting.store.history(&image).unwrap();
    assert_eq!((history.len(), history[0].comment.as_str()), (1, "by hand"));
    assert!(history[0].bytes >= 100_000);
    assert!(
        setting
            .store
            .import(
                &b"no archive at all, but longer than a block".repeat(20)[..],
                &import,
                &UnpackLimits::default()
            )
            .is_err()
    );
    assert_clean(&setting.store);
}
