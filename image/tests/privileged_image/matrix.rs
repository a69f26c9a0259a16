//! Images that real tools made (`hack/image-matrix`), in every form a registry has them, unpack to the trees that umoci,
//! podman and containerd unpack: names, kinds, contents, modes, owners, times, devices, hard links and extended attributes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use cleat_image::reference::{Algorithm, Hasher};
use cleat_image::{Limits, Puller, Reference};
use rustix::fs::{lgetxattr, llistxattr};

use super::fixture::docker_registry::DockerRegistry;
use super::store::Setting;

/// What can be told of one file. Two trees are the same if these are.
#[derive(Debug, PartialEq, Eq)]
struct Facts {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    /// Seconds; of folders none, since each unpacker decides what filling them does.
    mtime_s: Option<i64>,
    size: u64,
    content: String,
    device: u64,
    xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first name, in the order of names, of the same inode.
    same_as: Option<PathBuf>,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new("timeout").arg("900").arg(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// All of the tree at `root`, by path.
fn facts(root: &Path) -> BTreeMap<PathBuf, Facts> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let place = root.join(&path);
        let metadata = fs::symlink_metadata(&place).unwrap();
        if metadata.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&place).unwrap().map(|entry| path.join(entry.unwrap().file_name())).collect();
            names.sort();
            pending.extend(names.into_iter().rev());
        }
        let linked = !metadata.is_dir() && metadata.nlink() > 1;
        let inode = (metadata.dev(), metadata.ino());
        let same_as = linked.then(|| inodes.entry(inode).or_insert_with(|| path.clone()).clone());
        found.insert(path, facts_of(&place, &metadata, same_as));
    }
    found
}

fn facts_of(place: &Path, metadata: &fs::Metadata, same_as: Option<PathBuf>) -> Facts {
    let kind = metadata.file_type();
    let (kind, content) = if kind.is_dir() {
        ("folder", String::new())
    } else if kind.is_file() {
        ("file", digest(place))
    } else if kind.is_symlink() {
        ("link", fs::read_link(place).unwrap().as_os_str().as_bytes().escape_ascii().to_string())
    } else if kind.is_char_device() {
        ("character device", String::new())
    } else if kind.is_block_device() {
        ("block device", String::new())
    } else {
        ("pipe", String::new())
    };
    Facts {
        kind,
        mode: if kind == "link" { 0 } else { metadata.mode() & 0o7777 },
        owner: (metadata.uid(), metadata.gid()),
        mtime_s: (kind != "folder").then(|| metadata.mtime()),
        size: if kind == "folder" { 0 } else { metadata.size() },
        content,
        device: metadata.rdev(),
        xattrs: xattrs(place),
        same_as,
    }
}

fn digest(file: &Path) -> String {
    let (mut file, mut buffer) = (fs::File::open(file).unwrap(), vec![0; 1 << 20]);
    let mut hasher = Hasher::new(Algorithm::Sha256);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hasher.finish().to_string(),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Attributes that a layer can bring along; those of overlays and of the host's security modules are not its.
fn xattrs(place: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let (mut names, mut value) = (vec![0; 4096], vec![0; 4096]);
    let length = llistxattr(place, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let names = names.filter(|name| name.starts_with(b"user.") || *name == b"security.capability");
    let read = |name: &[u8]| {
        let length = lgetxattr(place, name, &mut value[..]).unwrap();
        (std::ffi::OsStr::from_bytes(name).to_owned(), value[..length].to_vec())
    };
    names.map(read).collect()
}

/// A form that an image is put into a registry in.
struct Form {
    name: &'static str,
    /// How skopeo makes it in a folder; empty: it is not needed, the layers are as the layout has them.
    made: &'static [&'static str],
    /// How it is put into the registry: skopeo would pack layers again that it finds plain.
    sent: &'static [&'static str],
    /// What the layers' media types end with.
    layers: &'static str,
}

const ZSTD: &[&str] = &["--dest-compress", "--dest-compress-format", "zstd"];
const CHUNKED: &[&str] = &["--dest-compress", "--dest-compress-format", "zstd:chunked"];
const AS_IT_IS: &[&str] = &["--preserve-digests"];
const FORMS: [Form; 5] = [
    Form { name: "oci-gzip", made: &[], sent: &["--format", "oci"], layers: ".tar+gzip" },
    Form { name: "oci-zstd", made: ZSTD, sent: AS_IT_IS, layers: ".tar+zstd" },
    Form { name: "oci-zstd-chunked", made: CHUNKED, sent: AS_IT_IS, layers: ".tar+zstd" },
    Form { name: "docker-gzip", made: &[], sent: &["--format", "v2s2"], layers: ".tar.gzip" },
    Form { name: "oci-plain", made: &["--dest-decompress"], sent: AS_IT_IS, layers: ".tar" },
];

/// Folders of others that a layer of umoci's image implies and has no entries of.
const IMPLIED: [&str; 2] = ["etc", "dir"];

/// What `tool` gives for what umoci gives. containerd and podman take times before 1970 for 1970. podman sets the mode of a root
/// that no layer describes by a rule of its own, and unpacks each layer by itself: what the layer implies is root's.
fn as_given_by(tool: &str, mut facts: BTreeMap<PathBuf, Facts>) -> BTreeMap<PathBuf, Facts> {
    if tool != "umoci" {
        facts.values_mut().for_each(|facts| facts.mtime_s = facts.mtime_s.map(|time| time.max(0)));
    }
    if tool == "podman" {
        facts.get_mut(Path::new("")).expect("a root").mode = 0o555;
        let is_there = facts.contains_key(Path::new("etc/implying"));
        for path in IMPLIED.iter().filter(|_| is_there) {
            let implied = facts.get_mut(Path::new(path)).expect("what it implies");
            assert_ne!((implied.owner, implied.mode, &implied.xattrs), ((0, 0), 0o755, &BTreeMap::new()));
            (implied.owner, implied.mode, implied.xattrs) = ((0, 0), 0o755, BTreeMap::new());
        }
    }
    facts
}

fn assert_same(what: &str, actual: &BTreeMap<PathBuf, Facts>, expected: &BTreeMap<PathBuf, Facts>) {
    for path in expected.keys().chain(actual.keys()) {
        assert_eq!(actual.get(path), expected.get(path), "{path:?} {what}");
    }
}

/// Copy the image of `layout` into the registry in a form.
fn push(registry: &DockerRegistry, layout: &Path, form: &Form) -> Reference {
    let name = layout.file_name().unwrap().to_str().unwrap();
    let reference = registry.reference(&format!("{name}:{}", form.name));
    let target = format!("docker://{reference}");
    let mut source = format!("oci:{}:matrix", layout.display());
    let changed = tempfile::tempdir_in(layout.parent().unwrap()).unwrap();
    if !form.made.is_empty() {
        let folder = format!("dir:{}", changed.path().display());
        let arguments = [&["--insecure-policy", "copy"], form.made, &[&source, &folder]].concat();
        run("skopeo", &arguments);
        source = folder;
    }
    let options = ["--insecure-policy", "copy", "--dest-tls-verify=false"];
    run("skopeo", &[&options[..], form.sent, &[&source, &target]].concat());
    reference
}

/// The tree of an image that is pulled, which is what came.
fn pull(
    registry: &DockerRegistry,
    reference: &Reference,
    layers: usize,
    media: &str,
) -> BTreeMap<PathBuf, Facts> {
    let setting = Setting::new();
    let puller = Puller::new(setting.store.clone(), registry.registries(""), Limits::default());
    let image = setting.runtime.block_on(puller.pull(reference, None)).unwrap();
    setting.runtime.block_on(puller.shutdown());
    let manifest = setting.store.manifest_json(&image.id).unwrap().unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let types =
        manifest["layers"].as_array().unwrap().iter().map(|layer| layer["mediaType"].as_str().unwrap());
    assert!(types.clone().all(|kind| kind.ends_with(media)), "{reference}: {:?}", types.collect::<Vec<_>>());
    assert_eq!(image.layers.len(), layers, "{reference}");
    assert_eq!(setting.store.verify(&image).unwrap(), [], "{reference}");
    let rootfs = setting.store.open_rootfs(&image).unwrap();
    facts(&PathBuf::from(format!("/proc/self/fd/{}/.", rootfs.as_fd().as_raw_fd())))
}

#[test]
fn privileged_what_real_tools_made_unpacks_as_others_unpack_it() {
    let base = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/image-matrix");
    run(script.to_str().unwrap(), &[base.path().to_str().unwrap()]);
    let registry = DockerRegistry::start();
    for (name, layers) in [("umoci", 127), ("buildah", 3)] {
        let trees = base.path().join("trees").join(name);
        let expected = facts(&trees.join("umoci"));
        assert!(expected.len() > 30 && expected.values().any(|facts| facts.same_as.is_some()));
        for tool in ["podman", "containerd"] {
            let given = as_given_by(tool, facts(&trees.join("umoci")));
            assert_same(&format!("of {name} by {tool}"), &facts(&trees.join(tool)), &given);
        }
        // skopeo 1.9 writes zstd:chunked out of an archive's files and not of its bytes, which gives the same archive only
        // for what Go's tar wrote: for others its blobs are not what the configuration says.
        for form in FORMS.iter().filter(|form| form.made != CHUNKED || name == "buildah") {
            let reference = push(&registry, &base.path().join(name), form);
            let actual = pull(&registry, &reference, layers, form.layers);
            assert_same(&format!("of {name} as {}", form.name), &actual, &expected);
        }
    }
}
