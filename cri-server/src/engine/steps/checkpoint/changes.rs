//! What a container changed of its image: its own layer as a tar, and the paths it removed.
//!
//! The layer belongs to a container that runs: folders may become links and files may shrink at any moment. So every name
//! is opened beneath the descriptor of its folder and never followed, and a file has in the archive the size it was
//! found with.

use std::collections::BTreeSet;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cleat_image::Snapshot;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, major, minor, openat, statat};
use rustix::io::Errno;

/// How deep folders are walked: each level holds a descriptor. A path of that many names does not fit into PATH_MAX
/// unless they are very short.
const MAX_DEPTH: usize = 256;
/// Overlay's mark of a folder that hides those of the same name beneath it (overlayfs.rst, "whiteouts and opaque
/// directories").
const OPAQUE: &CStr = c"trusted.overlay.opaque";

type Archive = tar::Builder<BufWriter<File>>;

/// Writes the snapshot's changed files to a new archive; gives the paths that were removed, absolute in the container.
pub(super) fn write(snapshot: &Snapshot, path: &Path) -> io::Result<Vec<String>> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    let mut walk = Walk {
        archive: tar::Builder::new(BufWriter::new(file)),
        lower: &snapshot.lower,
        deleted: Vec::new(),
    };
    let root = openat(CWD, &snapshot.upper, folder_flags(), Mode::empty())?;
    walk.folder(root, Path::new(""), false)?;
    let Walk { archive, deleted, .. } = walk;
    archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(deleted.iter().map(|path| format!("/{}", path.to_string_lossy())).collect())
}

struct Walk<'a> {
    archive: Archive,
    lower: &'a [PathBuf],
    deleted: Vec<PathBuf>,
}

impl Walk<'_> {
    /// Goes through a folder. `hides`: it, or one above, hides what the image has there.
    fn folder(&mut self, folder: OwnedFd, path: &Path, hides: bool) -> io::Result<()> {
        if path.components().count() > MAX_DEPTH {
            return Err(io::Error::other(format!(
                "{} is more than {MAX_DEPTH} folders deep",
                path.display()
            )));
        }
        let names = names(&folder)?;
        let hides = hides || is_opaque(&folder);
        if hides && path != Path::new("") {
            let kept = |name: &Vec<u8>| names.contains(name);
            let hidden = names_beneath(self.lower, path)?;
            self.deleted.extend(
                hidden.iter().filter(|name| !kept(name)).map(|name| path.join(OsStr::from_bytes(name))),
            );
        }
        for name in &names {
            match self.entry(&folder, name, path, hides) {
                // It was removed since.
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: &OwnedFd, name: &[u8], parent: &Path, hides: bool) -> io::Result<()> {
        let path = parent.join(OsStr::from_bytes(name));
        let stat = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            // Overlay's mark of a removed file.
            FileType::CharacterDevice if stat.st_rdev == 0 => self.deleted.push(path),
            FileType::Directory => {
                let opened = openat(folder, name, folder_flags(), Mode::empty())?;
                let mut header = header(&fstat(&opened)?, tar::EntryType::Directory);
                self.archive.append_data(&mut header, &path, io::empty())?;
                self.folder(opened, &path, hides)?;
            }
            FileType::RegularFile => self.file(folder, name, &path)?,
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes())).to_owned();
                self.archive.append_link(&mut header(&stat, tar::EntryType::Symlink), &path, target)?;
            }
            FileType::CharacterDevice => self.node(&stat, tar::EntryType::Char, &path)?,
            FileType::BlockDevice => self.node(&stat, tar::EntryType::Block, &path)?,
            FileType::Fifo => self.node(&stat, tar::EntryType::Fifo, &path)?,
            // A socket is nothing without who listens on it.
            _ => {}
        }
        Ok(())
    }

    fn file(&mut self, folder: &OwnedFd, name: &[u8], path: &Path) -> io::Result<()> {
        // Without waiting, should it be a FIFO by now.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(openat(folder, name, flags, Mode::empty())?);
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let mut header = header(&stat, tar::EntryType::Regular);
        let size = u64::try_from(stat.st_size).map_err(io::Error::other)?;
        header.set_size(size);
        // What it has lost since is zeroes.
        self.archive.append_data(&mut header, path, file.chain(io::repeat(0)).take(size))
    }

    fn node(&mut self, stat: &Stat, kind: tar::EntryType, path: &Path) -> io::Result<()> {
        let mut header = header(stat, kind);
        header.set_device_major(major(stat.st_rdev))?;
        header.set_device_minor(minor(stat.st_rdev))?;
        self.archive.append_data(&mut header, path, io::empty())
    }
}

fn header(stat: &Stat, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(stat.st_uid.into());
    header.set_gid(stat.st_gid.into());
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn names(folder: &OwnedFd) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

fn is_opaque(folder: &OwnedFd) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(folder, OPAQUE, &mut value[..]) == Ok(1) && value == *b"y"
}

/// The names that the image's layers have in a folder, the topmost layer first.
fn names_beneath(layers: &[PathBuf], path: &Path) -> io::Result<BTreeSet<Vec<u8>>> {
    let (mut found, mut removed) = (BTreeSet::new(), BTreeSet::new());
    for layer in layers {
        let Some(folder) = open_beneath(layer, path)? else { continue };
        for name in names(&folder)? {
            let stat = statat(&folder, &*name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_mark =
                FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0;
            if is_mark {
                removed.insert(name);
            } else if !removed.contains(&name) {
                found.insert(name);
            }
        }
        if is_opaque(&folder) {
            break;
        }
    }
    Ok(found)
}

/// The layer's folder of that path; none when it has no folder there.
fn open_beneath(layer: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    let root = openat(CWD, layer, folder_flags(), Mode::empty())?;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(&root, path, folder_flags(), Mode::empty(), resolve) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn changes(prepare: impl FnOnce(&Path)) -> (BTreeMap<String, (tar::EntryType, String)>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["upper", "lower"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        prepare(folder.path());
        let snapshot = Snapshot {
            key: "c".into(),
            image: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
            lower: vec![folder.path().join("lower")],
            upper: folder.path().join("upper"),
            work: folder.path().join("work"),
        };
        let path = folder.path().join(super::super::CHANGED);
        let deleted = write(&snapshot, &path).unwrap();
        let mut archive = tar::Archive::new(File::open(path).unwrap());
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let (path, kind) =
                (entry.path().unwrap().to_string_lossy().into_owned(), entry.header().entry_type());
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (path, (kind, text))
        });
        (entries.collect(), deleted)
    }

    #[test]
    fn files_links_and_folders_are_in_the_archive() {
        let long = "n".repeat(200);
        let (entries, deleted) = changes(|folder| {
            fs::create_dir(folder.join("upper/etc")).unwrap();
            fs::write(folder.join("upper/etc/conf"), "mine").unwrap();
            fs::write(folder.join("upper").join(&long), "long").unwrap();
            symlink("/etc/shadow", folder.join("upper/link")).unwrap();
        });
        assert_eq!(entries["etc/conf"], (tar::EntryType::Regular, "mine".into()));
        assert_eq!(entries[&long].1, "long");
        assert_eq!(entries["link"], (tar::EntryType::Symlink, String::new()), "a link is not followed");
        assert!(entries.contains_key("etc") || entries.contains_key("etc/"), "{entries:?}");
        assert!(deleted.is_empty());
    }

    #[test]
    fn a_folder_too_deep_is_an_error_and_no_overflow() {
        let folder = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 2).collect();
        fs::create_dir_all(folder.path().join(deep)).unwrap();
        let snapshot = Snapshot {
            key: "c".into(),
            image: format!("sha256:{}", "0".repeat(64)).parse().unwrap(),
            lower: Vec::new(),
            upper: folder.path().to_owned(),
            work: folder.path().join("work"),
        };
        let out = tempfile::tempdir().unwrap();
        assert!(write(&snapshot, &out.path().join("x")).is_err());
    }

    /// Making the marks takes root.
    #[test]
    fn privileged_what_was_removed_is_listed_also_where_a_folder_hides_others() {
        let (entries, deleted) = changes(|folder| {
            for path in ["lower/hidden/sub", "upper/hidden/sub"] {
                fs::create_dir_all(folder.join(path)).unwrap();
            }
            for path in ["lower/hidden/old", "lower/hidden/sub/older", "lower/gone", "upper/hidden/new"] {
                fs::write(folder.join(path), "").unwrap();
            }
            let mark = |path: &str| {
                rustix::fs::mknodat(CWD, folder.join(path), FileType::CharacterDevice, Mode::empty(), 0)
                    .unwrap();
            };
            mark("upper/gone");
            let hides = folder.join("upper/hidden");
            rustix::fs::setxattr(&hides, OPAQUE, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        });
        assert_eq!(deleted, ["/gone", "/hidden/old", "/hidden/sub/older"]);
        assert!(entries.contains_key("hidden/new") && !entries.contains_key("gone"));
    }
}
