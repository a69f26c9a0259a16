//! A container's own layer as an archive in OCI's form: what it has changed, and whiteouts for what it took away.
//!
//! The layer may belong to a container that runs. What vanishes while it is read is left out, a file is as long as it was
//! found, and every name is opened beneath the descriptor of its folder ([`super::Packer`]).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use cleat_image::{Snapshot, SnapshotError, UpperEntry, Walk};
use rustix::fs::{Mode, OFlags, Stat, fstat, open};

use super::{Crossing, FilesError, Packer};

/// Begins the name of what stands for something removed (image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// Stands for the removal of everything below in its folder (layer.md, "Opaque Whiteout").
const OPAQUE: &str = ".wh..wh..opq";

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayerError {
    /// The container's layer cannot be read, or something of it not be archived.
    #[error("read what the container has changed")]
    Walk(#[source] SnapshotError),
    /// The root of it cannot be read.
    #[error("open the container's layer")]
    Root(#[source] io::Error),
    /// The archive cannot be written.
    #[error("write the layer")]
    Write(#[source] FilesError),
}

/// Writes the snapshot's own layer to `out`. The paths in `hidden`, which are absolute, are left out, and so are folders on
/// the way to them that are there for nothing else. A name that would stand for a whiteout cannot be in a layer.
pub(crate) fn write_layer(
    snapshot: &Snapshot,
    hidden: &BTreeSet<Vec<u8>>,
    out: impl Write,
) -> Result<(), LayerError> {
    let mut layer = Layer { packer: Packer::new(out, Crossing::No), hidden, on_the_way: BTreeMap::new() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = open(&snapshot.upper, flags, Mode::empty()).map_err(|errno| LayerError::Root(errno.into()))?;
    let stat = fstat(&root).map_err(|errno| LayerError::Root(errno.into()))?;
    if attributes(&stat) != USUAL {
        layer.packer.add_alone(root.as_fd(), OsStr::new("."), Path::new(".")).map_err(LayerError::Write)?;
    }
    let walked = snapshot.walk(|path, entry| layer.entry(path, &entry).map_err(io::Error::other));
    walked.map_err(LayerError::Walk)?;
    let mut out = layer.packer.finish().map_err(LayerError::Write)?;
    out.flush().map_err(|error| LayerError::Write(FilesError::Write(error)))
}

/// Mode, owner and group of a folder that nobody says anything about.
const USUAL: (u32, u32, u32) = (0o755, 0, 0);

fn attributes(stat: &Stat) -> (u32, u32, u32) {
    (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid)
}

/// A layer being written.
struct Layer<'a, W: Write> {
    packer: Packer<W>,
    hidden: &'a BTreeSet<Vec<u8>>,
    /// Folders that are written when something in them is: what they are in, and their names.
    on_the_way: BTreeMap<PathBuf, (OwnedFd, Vec<u8>)>,
}

impl<W: Write> Layer<'_, W> {
    fn entry(&mut self, path: &Path, entry: &UpperEntry<'_>) -> Result<Walk, FilesError> {
        if self.hidden.contains(path.as_os_str().as_bytes()) {
            return Ok(Walk::Past);
        }
        match entry {
            UpperEntry::Removed => {
                self.write_way(path)?;
                self.packer.mark(&whiteout(path))?;
            }
            // The folder that hides it is a new one, or is opaque.
            UpperEntry::Hidden => {}
            UpperEntry::Present { name, .. } if name.starts_with(WHITEOUT) => return Ok(Walk::Past),
            UpperEntry::Present { folder, name, stat, below, is_opaque } => {
                let usual = below.map_or(USUAL, attributes);
                if !is_opaque && attributes(stat) == usual && self.leads_to_hidden(path) {
                    let folder = folder.try_clone_to_owned().map_err(FilesError::at("hold", path))?;
                    self.on_the_way.insert(path.to_owned(), (folder, name.to_vec()));
                    return Ok(Walk::Into);
                }
                self.write_way(path)?;
                self.add(*folder, name, path)?;
                if *is_opaque {
                    self.packer.mark(&inside(path).join(OPAQUE))?;
                }
            }
        }
        Ok(Walk::Into)
    }

    /// Whether a hidden path is beneath this one.
    fn leads_to_hidden(&self, path: &Path) -> bool {
        let beneath = [path.as_os_str().as_bytes(), b"/"].concat();
        self.hidden.range(beneath.clone()..).next().is_some_and(|first| first.starts_with(&beneath))
    }

    /// Writes the folders above `path` that wait for something in them.
    fn write_way(&mut self, path: &Path) -> Result<(), FilesError> {
        let above: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
        for folder in above.iter().rev() {
            if let Some((parent, name)) = self.on_the_way.remove(folder) {
                self.add(parent.as_fd(), &name, folder)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &Path) -> Result<(), FilesError> {
        match self.packer.add_alone(folder, OsStr::from_bytes(name), inside(path)) {
            // It was removed since.
            Err(FilesError::Missing(_)) => Ok(()),
            other => other,
        }
    }
}

/// A path of the container as one of an archive.
fn inside(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// What stands for the removal of `path`.
fn whiteout(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().as_bytes();
    inside(path).with_file_name(OsStr::from_bytes(&[WHITEOUT, name].concat()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// The names in the archive of the layer that `prepare` makes in `upper`, above `lower`.
    fn names(hidden: &[&str], prepare: impl FnOnce(&Path)) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        for name in ["upper", "lower"] {
            fs::create_dir(folder.path().join(name)).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        prepare(folder.path());
        let snapshot = Snapshot {
            key: "c".into(),
            image: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
            lower: vec![folder.path().join("lower")],
            upper: folder.path().join("upper"),
            work: folder.path().join("work"),
        };
        let hidden = hidden.iter().map(|path| path.as_bytes().to_vec()).collect();
        let mut written = Vec::new();
        write_layer(&snapshot, &hidden, &mut written).unwrap();
        let mut archive = tar::Archive::new(&written[..]);
        let entries = archive.entries().unwrap();
        // Where the tests are not run as root, folders are somebody's: the root is told then.
        let names = entries.map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned());
        names.filter(|name| name != "./").collect()
    }

    #[test]
    fn an_untouched_container_has_an_empty_layer() {
        let nothing = names(&["/etc/hosts", "/proc", "/run/x/secret"], |base| {
            for folder in ["upper/etc", "upper/proc"] {
                fs::create_dir_all(base.join(folder)).unwrap();
            }
            fs::write(base.join("upper/etc/hosts"), "").unwrap();
            fs::create_dir(base.join("lower/etc")).unwrap();
        });
        assert_eq!(nothing, [""; 0]);
    }

    #[test]
    fn folders_on_the_way_to_mount_points_come_with_what_is_in_them() {
        let told = names(&["/etc/hosts", "/a/b/c"], |base| {
            fs::create_dir_all(base.join("lower/etc")).unwrap();
            fs::create_dir_all(base.join("upper/etc")).unwrap();
            fs::create_dir_all(base.join("upper/a/b/c")).unwrap();
            for file in ["upper/etc/hosts", "upper/etc/passwd", "upper/a/b/own", "upper/a/b/c/not"] {
                fs::write(base.join(file), "").unwrap();
            }
        });
        assert_eq!(told.iter().filter(|name| name.contains("hosts") || name.contains("not")).count(), 0);
        for pair in [["etc/", "etc/passwd"], ["a/", "a/b/"], ["a/b/", "a/b/own"]] {
            let at = pair.map(|name| told.iter().position(|other| other == name));
            assert!(at[0].is_some() && at[0] < at[1], "{pair:?} in {told:?}");
        }
    }

    #[test]
    fn a_file_called_as_a_whiteout_takes_nothing_away() {
        let told = names(&[], |base| {
            for file in ["upper/.wh.passwd", "upper/file"] {
                fs::write(base.join(file), "").unwrap();
            }
        });
        assert_eq!(told, ["file"]);
    }

    #[test]
    fn a_removal_is_named_after_what_was_removed() {
        assert_eq!(whiteout(Path::new("/etc/passwd")), Path::new("etc/.wh.passwd"));
        assert_eq!(whiteout(Path::new("/a")), Path::new(".wh.a"));
    }

    /// Making the marks takes root.
    #[test]
    fn privileged_removals_become_whiteouts() {
        use rustix::fs::{CWD, FileType, XattrFlags, mknodat, setxattr};
        let told = names(&[], |base| {
            for folder in ["lower/d", "upper/d", "upper/n"] {
                fs::create_dir_all(base.join(folder)).unwrap();
            }
            for file in ["lower/gone", "lower/d/old", "upper/d/new"] {
                fs::write(base.join(file), "").unwrap();
            }
            mknodat(CWD, base.join("upper/gone"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            // Nothing is below what this one would take away.
            mknodat(CWD, base.join("upper/n/x"), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            setxattr(base.join("upper/d"), "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
        });
        assert_eq!(told, ["d/", "d/.wh..wh..opq", ".wh.gone", "n/", "d/new"]);
    }
}
