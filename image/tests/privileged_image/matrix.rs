//! An image that real tools made (`hack/image-matrix`), in every form a registry has it, unpacks to the tree that umoci
//! unpacks: names, kinds, contents, modes, owners, times, devices, hard links and extended attributes.

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
use cleat_image::{Limits, Puller};
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
    let output = Command::new("timeout").arg("300").arg(program).args(arguments).output().unwrap();
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

#[test]
fn privileged_what_real_tools_made_unpacks_as_umoci_unpacks_it() {
    let base = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../hack/image-matrix");
    run(script.to_str().unwrap(), &[base.path().to_str().unwrap()]);
    let expected = facts(&base.path().join("tree/rootfs"));
    assert!(expected.len() > 40 && expected.values().any(|facts| facts.same_as.is_some()));

    let registry = DockerRegistry::start();
    let layout = format!("oci:{}:matrix", base.path().join("layout").display());
    let forms: [(&str, &[&str]); 4] = [
        ("oci-gzip", &["--format", "oci"]),
        ("oci-zstd", &["--format", "oci", "--dest-compress-format", "zstd"]),
        ("docker-gzip", &["--format", "v2s2"]),
        ("oci-plain", &["--format", "oci"]),
    ];
    for (form, options) in forms {
        let reference = registry.reference(&format!("matrix:{form}"));
        // skopeo decompresses on the way into a folder, and compresses on the way into a registry only what it changes.
        let plain = format!("dir:{}", base.path().join("plain").display());
        let mut source = layout.clone();
        if form == "oci-plain" {
            run("skopeo", &["--insecure-policy", "copy", "--dest-decompress", &layout, &plain]);
            source.clone_from(&plain);
        }
        let target = format!("docker://{reference}");
        let mut arguments = vec!["--insecure-policy", "copy", "--dest-tls-verify=false"];
        arguments.extend(options);
        arguments.extend([source.as_str(), &target]);
        run("skopeo", &arguments);

        let setting = Setting::new();
        let puller = Puller::new(setting.store.clone(), registry.registries(""), Limits::default());
        let image = setting.runtime.block_on(puller.pull(&reference, None)).unwrap();
        setting.runtime.block_on(puller.shutdown());
        assert_eq!(image.layers.len(), 127, "{form}");
        let rootfs = setting.store.open_rootfs(&image).unwrap();
        let root = PathBuf::from(format!("/proc/self/fd/{}/.", rootfs.as_fd().as_raw_fd()));
        let actual = facts(&root);
        let paths = expected.keys().chain(actual.keys()).collect::<std::collections::BTreeSet<_>>();
        for path in paths {
            assert_eq!(actual.get(path), expected.get(path), "{path:?} as {form}");
        }
        assert_eq!(setting.store.verify(&image).unwrap(), [], "{form}");
    }
}
