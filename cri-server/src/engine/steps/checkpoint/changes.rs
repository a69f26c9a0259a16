//! What a container changed of its image: its own layer as a tar, and the paths it removed.
//!
//! The layer belongs to a container that runs: folders may become links and files may shrink at any moment. So every name
//! is opened beneath the descriptor of its folder and never followed, and a file has in the archive the size it was
//! found with.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cleat_image::{Snapshot, SnapshotError, UpperEntry, Walk};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, major, minor, openat};
use rustix::io::Errno;

/// Why a container's changes could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChangesError {
    /// The archive cannot be made, or not finished.
    #[error("write {path}")]
    Archive {
        /// The archive.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The container's layer cannot be read, or something of it not be archived.
    #[error("read what the container has changed")]
    Layer(#[source] SnapshotError),
}

/// Writes the snapshot's changed files to a new archive; gives the paths that were removed, absolute in the container.
pub(super) fn write(snapshot: &Snapshot, path: &Path) -> Result<Vec<String>, ChangesError> {
    let failed = |source| ChangesError::Archive { path: path.to_owned(), source };
    let file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut archive = Archive(tar::Builder::new(BufWriter::new(file)));
    let mut deleted = Vec::new();
    let walked = snapshot.walk(|path, entry| {
        match entry {
            UpperEntry::Present { folder, name, stat, .. } => {
                let path = path.strip_prefix("/").unwrap_or(path);
                match archive.add(folder, name, path, stat) {
                    // It was removed since.
                    Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {}
                    other => other?,
                }
            }
            UpperEntry::Removed | UpperEntry::Hidden => deleted.push(path.to_string_lossy().into_owned()),
        }
        Ok(Walk::Into)
    });
    walked.map_err(ChangesError::Layer)?;
    let written =
        archive.0.into_inner().and_then(|out| out.into_inner().map_err(io::IntoInnerError::into_error));
    written.map_err(failed)?;
    Ok(deleted)
}

struct Archive(tar::Builder<BufWriter<File>>);

impl Archive {
    /// Add `name` in `folder`, which is at `path` and was `stat`.
    fn add(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &Path, stat: &Stat) -> io::Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.0.append_data(&mut header(stat, tar::EntryType::Directory), path, io::empty())
            }
            FileType::RegularFile => self.file(folder, name, path),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(folder, name, Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                self.0.append_link(&mut header(stat, tar::EntryType::Symlink), path, target)
            }
            FileType::CharacterDevice => self.node(stat, tar::EntryType::Char, path),
            FileType::BlockDevice => self.node(stat, tar::EntryType::Block, path),
            FileType::Fifo => self.node(stat, tar::EntryType::Fifo, path),
            // A socket is nothing without who listens on it.
            _ => Ok(()),
        }
    }

    fn file(&mut self, folder: BorrowedFd<'_>, name: &[u8], path: &Path) -> io::Result<()> {
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
        self.0.append_data(&mut header, path, file.chain(io::repeat(0)).take(size))
    }

    fn node(&mut self, stat: &Stat, kind: tar::EntryType, path: &Path) -> io::Result<()> {
        let mut header = header(stat, kind);
        header.set_device_major(major(stat.st_rdev))?;
        header.set_device_minor(minor(stat.st_rdev))?;
        self.0.append_data(&mut header, path, io::empty())
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
    fn a_folder_is_as_deep_as_it_likes() {
        let (entries, _) = changes(|folder| {
            let deep: PathBuf = std::iter::repeat_n("d", 600).collect();
            fs::create_dir_all(folder.join("upper").join(deep)).unwrap();
        });
        assert_eq!(entries.len(), 600);
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
                rustix::fs::mknodat(
                    rustix::fs::CWD,
                    folder.join(path),
                    FileType::CharacterDevice,
                    Mode::empty(),
                    0,
                )
                .unwrap();
            };
            mark("upper/gone");
            let hides = folder.join("upper/hidden");
            rustix::fs::setxattr(&hides, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())
                .unwrap();
        });
        assert_eq!(deleted, ["/gone", "/hidden/old", "/hidden/sub/older"]);
        assert!(entries.contains_key("hidden/new") && !entries.contains_key("gone"));
    }
}
