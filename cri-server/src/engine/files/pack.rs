//! A tree as an archive: names, owners, modes, times, links, devices and extended attributes.
//!
//! The tree may belong to a container that runs: folders may become links and files may shrink at any moment. So every name
//! is opened beneath the descriptor of its folder and never followed, and a file has in the archive the size it was found
//! with.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fgetxattr, flistxattr, fstat, major, minor,
    openat2, readlinkat, statat,
};
use rustix::io::Errno;

use super::{FilesError, MAX_DEPTH};

/// Names that fit in an entry's own fields, bytes.
const FIELD_BYTES: usize = 100;

/// The largest extended attribute (xattr(7)), bytes.
const MAX_ATTRIBUTE_BYTES: usize = 64 << 10;

/// What is done at a mount point in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// What is mounted there is part of the tree.
    Yes,
    /// It is an empty folder or file.
    No,
}

/// An archive being written.
pub(crate) struct Packer<W: Write> {
    archive: tar::Builder<W>,
    crossing: Crossing,
    /// Names of files that have several: device and inode.
    linked: HashMap<(u64, u64), Vec<u8>>,
}

impl<W: Write> Packer<W> {
    /// Writes to `out`.
    pub(crate) fn new(out: W, crossing: Crossing) -> Self {
        Self { archive: tar::Builder::new(out), crossing, linked: HashMap::new() }
    }

    /// Adds what `name` is in `folder`, and everything beneath it, as `path` of the archive.
    pub(crate) fn add(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), FilesError> {
        self.entry(folder, name, path, 0)
    }

    /// Adds what `name` is in `folder`, without what is beneath it, as `path` of the archive.
    pub(crate) fn add_alone(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), FilesError> {
        self.alone(folder, name, path).map(drop)
    }

    /// Adds an empty file of nobody's, whose name alone says something.
    pub(crate) fn mark(&mut self, path: &Path) -> Result<(), FilesError> {
        self.append(&Entry::mark(path), io::empty())
    }

    /// Adds everything beneath `folder`, as what is beneath `path` of the archive.
    pub(crate) fn add_beneath(&mut self, folder: BorrowedFd<'_>, path: &Path) -> Result<(), FilesError> {
        self.folder(folder, path, 0)
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<W, FilesError> {
        self.archive.into_inner().map_err(FilesError::Write)
    }

    fn folder(&mut self, folder: BorrowedFd<'_>, path: &Path, depth: usize) -> Result<(), FilesError> {
        if depth > MAX_DEPTH {
            let why = io::Error::other(format!("it is more than {MAX_DEPTH} folders deep"));
            return Err(FilesError::at("walk through", path)(why));
        }
        for name in names(folder).map_err(FilesError::at("list", path))? {
            let name = OsStr::from_bytes(&name);
            match self.entry(folder, name, &path.join(name), depth + 1) {
                // It was removed since.
                Err(FilesError::Missing(_)) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
        depth: usize,
    ) -> Result<(), FilesError> {
        match self.alone(folder, name, path)? {
            Some(opened) => self.folder(opened.as_fd(), path, depth),
            None => Ok(()),
        }
    }

    /// Adds one entry; gives the folder, if it is one.
    fn alone(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<OwnedFd>, FilesError> {
        let stat =
            statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(FilesError::at("look at", path))?;
        let added = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(folder, name, path),
            FileType::RegularFile => self.file(folder, name, path),
            FileType::Symlink => {
                let target = readlinkat(folder, name, Vec::new()).map_err(FilesError::at("read", path))?;
                self.append(
                    &Entry { link: Some(target.into_bytes()), ..Entry::new(&stat, path) },
                    io::empty(),
                )
            }
            FileType::CharacterDevice | FileType::BlockDevice | FileType::Fifo => {
                self.append(&Entry::new(&stat, path), io::empty())
            }
            // A socket is nothing without who listens on it.
            _ => Ok(()),
        };
        added.map(|()| None)
    }

    fn directory(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Option<OwnedFd>, FilesError> {
        let opened = self.open(folder, name, OFlags::RDONLY | OFlags::DIRECTORY);
        let Some(opened) = opened.map_err(FilesError::at("open", path))? else {
            let stat =
                statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(FilesError::at("look at", path))?;
            return self.append(&Entry::new(&stat, path), io::empty()).map(|()| None);
        };
        let stat = fstat(&opened).map_err(FilesError::at("look at", path))?;
        let attributes = attributes(&opened);
        self.append(&Entry { attributes, ..Entry::new(&stat, path) }, io::empty())?;
        Ok(Some(opened))
    }

    fn file(&mut self, folder: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), FilesError> {
        // Without waiting, should it be a FIFO by now.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = self.open(folder, name, flags).map_err(FilesError::at("open", path))?;
        let Some(opened) = opened else {
            let stat =
                statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(FilesError::at("look at", path))?;
            return self.append(&Entry { bytes: 0, ..Entry::new(&stat, path) }, io::empty());
        };
        let stat = fstat(&opened).map_err(FilesError::at("look at", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(());
        }
        let mut entry = Entry { attributes: attributes(&opened), ..Entry::new(&stat, path) };
        if stat.st_nlink > 1 {
            let bytes = path.as_os_str().as_bytes().to_vec();
            let first = self.linked.entry((stat.st_dev, stat.st_ino)).or_insert_with(|| bytes.clone());
            if *first != bytes {
                (entry.link, entry.bytes, entry.is_hard_link) = (Some(first.clone()), 0, true);
                return self.append(&entry, io::empty());
            }
        }
        let size = entry.bytes;
        // What it has lost since is zeroes.
        self.append(&entry, File::from(opened).chain(io::repeat(0)).take(size))
    }

    /// Opens a name of a folder; none where something is mounted that is no part of the tree.
    fn open(&self, folder: BorrowedFd<'_>, name: &OsStr, flags: OFlags) -> Result<Option<OwnedFd>, Errno> {
        let resolve = match self.crossing {
            Crossing::Yes => ResolveFlags::NO_SYMLINKS,
            Crossing::No => ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
        };
        match openat2(folder, name, flags | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::XDEV) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn append(&mut self, entry: &Entry, data: impl Read) -> Result<(), FilesError> {
        let extensions = entry.extensions();
        let extensions = extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
        self.archive
            .append_pax_extensions(extensions)
            .and_then(|()| self.archive.append(&entry.header(), data))
            .map_err(FilesError::Write)
    }
}

/// An entry of the archive, as it will be written.
struct Entry {
    name: Vec<u8>,
    kind: tar::EntryType,
    mode: u32,
    /// User and group.
    owner: (u32, u32),
    mtime: u64,
    /// Of a device.
    number: u64,
    bytes: u64,
    link: Option<Vec<u8>>,
    is_hard_link: bool,
    attributes: Vec<(String, Vec<u8>)>,
}

impl Entry {
    fn new(stat: &Stat, path: &Path) -> Self {
        let mut name = path.as_os_str().as_bytes().to_vec();
        let (kind, bytes) = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => (tar::EntryType::Directory, 0),
            FileType::Symlink => (tar::EntryType::Symlink, 0),
            FileType::CharacterDevice => (tar::EntryType::Char, 0),
            FileType::BlockDevice => (tar::EntryType::Block, 0),
            FileType::Fifo => (tar::EntryType::Fifo, 0),
            _ => (tar::EntryType::Regular, u64::try_from(stat.st_size).unwrap_or_default()),
        };
        if kind == tar::EntryType::Directory && !name.ends_with(b"/") {
            name.push(b'/');
        }
        Self {
            name,
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            mtime: u64::try_from(stat.st_mtime).unwrap_or_default(),
            number: stat.st_rdev,
            bytes,
            link: None,
            is_hard_link: false,
            attributes: Vec::new(),
        }
    }

    /// An empty file.
    fn mark(path: &Path) -> Self {
        Self {
            name: path.as_os_str().as_bytes().to_vec(),
            kind: tar::EntryType::Regular,
            mode: 0o600,
            owner: (0, 0),
            mtime: 0,
            number: 0,
            bytes: 0,
            link: None,
            is_hard_link: false,
            attributes: Vec::new(),
        }
    }

    /// What does not fit in the header's fields, in the words of pax(1).
    fn extensions(&self) -> Vec<(String, Vec<u8>)> {
        let long =
            |key: &str, text: &[u8]| (text.len() > FIELD_BYTES).then(|| (key.to_owned(), text.to_vec()));
        let link = self.link.as_deref().unwrap_or_default();
        long("path", &self.name)
            .into_iter()
            .chain(long("linkpath", link))
            .chain(
                self.attributes.iter().map(|(name, value)| (format!("SCHILY.xattr.{name}"), value.clone())),
            )
            .collect()
    }

    fn header(&self) -> tar::Header {
        let kind = if self.is_hard_link { tar::EntryType::Link } else { self.kind };
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(self.mode);
        header.set_uid(self.owner.0.into());
        header.set_gid(self.owner.1.into());
        header.set_mtime(self.mtime);
        header.set_size(self.bytes);
        let device = matches!(kind, tar::EntryType::Char | tar::EntryType::Block);
        let (major, minor) = if device { (major(self.number), minor(self.number)) } else { (0, 0) };
        // Neither fails for a header of this kind.
        let fields = header.as_ustar_mut().expect("made so");
        fields.set_device_major(major);
        fields.set_device_minor(minor);
        let put = |field: &mut [u8], text: &[u8]| {
            let length = text.len().min(FIELD_BYTES);
            field[..length].copy_from_slice(&text[..length]);
        };
        put(&mut fields.name, &self.name);
        put(&mut fields.linkname, self.link.as_deref().unwrap_or_default());
        header.set_cksum();
        header
    }
}

fn names(folder: BorrowedFd<'_>) -> io::Result<BTreeSet<Vec<u8>>> {
    let mut names = BTreeSet::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_owned();
        if name != b"." && name != b".." {
            names.insert(name);
        }
    }
    Ok(names)
}

/// The attributes that mean something elsewhere: file capabilities and what users have set. Files without any, and those of
/// filesystems without any, are the rule.
fn attributes(file: &OwnedFd) -> Vec<(String, Vec<u8>)> {
    // Without room for any the kernel tells how much they take.
    let Ok(1..) = flistxattr(file, &mut [0_u8; 0][..]) else { return Vec::new() };
    let mut list = vec![0; MAX_ATTRIBUTE_BYTES];
    let Ok(length) = flistxattr(file, &mut list[..]) else { return Vec::new() };
    let names = list[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let kept = names.filter(|name| *name == "security.capability" || name.starts_with("user."));
    kept.filter_map(|name| {
        let mut value = vec![0; MAX_ATTRIBUTE_BYTES];
        let length = fgetxattr(file, name, &mut value[..]).ok()?;
        value.truncate(length);
        Some((name.to_owned(), value))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn packed(folder: &Path, name: &str, path: &str) -> Vec<(String, tar::EntryType, String, String)> {
        let opened = fs::File::open(folder).unwrap();
        let mut packer = Packer::new(Vec::new(), Crossing::Yes);
        packer.add(opened.as_fd(), OsStr::new(name), Path::new(path)).unwrap();
        let bytes = packer.finish().unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let (path, link) = (text(&entry.path_bytes()), entry.link_name_bytes());
            let (link, kind) =
                (link.map(|link| text(&link)).unwrap_or_default(), entry.header().entry_type());
            let mut data = String::new();
            entry.read_to_string(&mut data).unwrap();
            (path, kind, link, data)
        });
        entries.collect()
    }

    #[test]
    fn a_tree_is_in_the_archive_by_the_names_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let long = "n".repeat(150);
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/a"), "one").unwrap();
        fs::hard_link(folder.path().join("d/a"), folder.path().join("d/b")).unwrap();
        symlink(format!("/{long}"), folder.path().join("d/l")).unwrap();
        fs::write(folder.path().join("d").join(&long), "two").unwrap();
        use tar::EntryType as Kind;
        let entry = |path: String, kind, link: String, data: &str| (path, kind, link, data.to_owned());
        for (asked, shown) in [("x", "x"), ("/", ""), (".", ".")] {
            let expected = [
                entry(format!("{shown}/"), Kind::Directory, String::new(), ""),
                entry(format!("{shown}/a"), Kind::Regular, String::new(), "one"),
                entry(format!("{shown}/b"), Kind::Link, format!("{shown}/a"), ""),
                entry(format!("{shown}/l"), Kind::Symlink, format!("/{long}"), ""),
                entry(format!("{shown}/{long}"), Kind::Regular, String::new(), "two"),
            ];
            assert_eq!(packed(folder.path(), "d", asked), expected, "{asked}");
        }
        assert_eq!(
            packed(folder.path(), "d/a", "f"),
            [entry("f".into(), Kind::Regular, String::new(), "one")]
        );
    }

    #[test]
    fn a_folder_too_deep_is_an_error_and_no_overflow() {
        let folder = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = std::iter::repeat_n("d", MAX_DEPTH + 2).collect();
        fs::create_dir_all(folder.path().join(deep)).unwrap();
        let opened = fs::File::open(folder.path()).unwrap();
        let mut packer = Packer::new(io::sink(), Crossing::Yes);
        assert!(packer.add_beneath(opened.as_fd(), Path::new("")).is_err());
    }
}
