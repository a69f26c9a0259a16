//! An archive into a tree, beneath a container's root: what is there is replaced, folders are merged.
//!
//! The archive's names are resolved as the container would resolve them, links included, and end beneath its root whatever
//! they say. A name is made in the descriptor of its folder, so that nothing can be put in between.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{FilesError, Root};

/// Mode of a folder that entries lie in but no entry describes.
const IMPLIED_MODE: u32 = 0o755;

/// How an archive is unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unpacking {
    /// Who owns everything; without one, whom the archive names.
    pub owner: Option<(u32, u32)>,
}

/// Unpacks `archive` into `folder`, a path in `root`.
pub(crate) fn unpack(
    root: &Root,
    folder: &Path,
    archive: impl Read,
    unpacking: Unpacking,
) -> Result<(), FilesError> {
    drop(root.folder(folder)?);
    let mut archive = tar::Archive::new(archive);
    let mut tree = Tree { root, folder, unpacking, folders: Vec::new() };
    for entry in archive.entries().map_err(FilesError::Archive)? {
        tree.entry(&mut entry.map_err(FilesError::Archive)?)?;
    }
    tree.finish()
}

struct Tree<'a> {
    root: &'a Root,
    /// Where it goes, in the root.
    folder: &'a Path,
    unpacking: Unpacking,
    /// Folders of the archive, whose times what is made in them would change.
    folders: Vec<(OwnedFd, u64)>,
}

/// What an entry says of its owner, mode and time.
struct Looks {
    owner: (u32, u32),
    mode: u32,
    mtime: u64,
    attributes: Vec<(String, Vec<u8>)>,
}

impl Tree<'_> {
    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), FilesError> {
        let path = relative(&entry.path_bytes())?;
        let looks = self.looks(entry)?;
        let kind = entry.header().entry_type();
        if path.as_os_str().is_empty() {
            // The folder it goes into is not the archive's to describe.
            return Ok(());
        }
        let (parent, name) = self.place(&path)?;
        let failed =
            |operation: &'static str| FilesError::at::<io::Error>(operation, self.folder.join(&path));
        if kind == tar::EntryType::Directory {
            return self.directory(&parent, &name, &path, &looks);
        }
        self.make_room(&parent, &name, &path)?;
        match kind {
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                let flags =
                    OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&parent, &name, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from);
                let mut file = File::from(made.map_err(failed("make"))?);
                io::copy(entry, &mut file).map_err(failed("write"))?;
                describe(&file, &looks).map_err(failed("describe"))?;
                set_mtime(&file, looks.mtime).map_err(failed("set the time of"))
            }
            tar::EntryType::Link => self.hard_link(entry, &parent, &name, &path),
            _ => {
                let link = entry.link_name_bytes().map(|link| link.into_owned());
                node(entry.header(), link.as_deref(), &parent, &name, &looks).map_err(failed("make"))
            }
        }
    }

    fn looks(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Looks, FilesError> {
        let header = entry.header();
        let id = |id: io::Result<u64>| {
            let id = id.map_err(FilesError::Archive)?;
            u32::try_from(id).map_err(|error| FilesError::Archive(io::Error::other(error)))
        };
        let owner = match self.unpacking.owner {
            Some(owner) => owner,
            None => (id(header.uid())?, id(header.gid())?),
        };
        let (mode, mtime) = (
            header.mode().map_err(FilesError::Archive)? & 0o7777,
            header.mtime().map_err(FilesError::Archive)?,
        );
        let mut attributes = Vec::new();
        for extension in entry.pax_extensions().map_err(FilesError::Archive)?.into_iter().flatten() {
            let extension = extension.map_err(FilesError::Archive)?;
            let name = extension.key().ok().and_then(|key| key.strip_prefix("SCHILY.xattr."));
            // Any other attribute means something to this host.
            let kept = name.filter(|name| *name == "security.capability" || name.starts_with("user."));
            attributes.extend(kept.map(|name| (name.to_owned(), extension.value_bytes().to_vec())));
        }
        Ok(Looks { owner, mode, mtime, attributes })
    }

    /// The folder that `path` of the archive lies in, made where it is missing, and its last name.
    fn place(&self, path: &Path) -> Result<(OwnedFd, OsString), FilesError> {
        let parent = path.parent().unwrap_or(Path::new(""));
        let name = path.file_name().unwrap_or_default().to_owned();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let whole = self.folder.join(parent);
        match self.root.open(&whole, flags) {
            Ok(folder) => Ok((folder, name)),
            Err(Errno::NOENT) if !parent.as_os_str().is_empty() => {
                let (above, missing) = self.place(parent)?;
                match mkdirat(&above, &missing, Mode::from_raw_mode(IMPLIED_MODE)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(FilesError::at("make", whole)(errno)),
                }
                Ok((self.root.open(&whole, flags).map_err(FilesError::at("open", whole))?, name))
            }
            Err(Errno::NOTDIR) => Err(FilesError::OtherKind(whole)),
            Err(errno) => Err(FilesError::at("open", whole)(errno)),
        }
    }

    /// Takes away what is to be replaced; a folder is not.
    fn make_room(&self, parent: &OwnedFd, name: &OsStr, path: &Path) -> Result<(), FilesError> {
        match unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR) => Err(FilesError::OtherKind(self.folder.join(path))),
            Err(errno) => Err(FilesError::at("replace", self.folder.join(path))(errno)),
        }
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
        looks: &Looks,
    ) -> Result<(), FilesError> {
        let whole = self.folder.join(path);
        match mkdirat(parent, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(FilesError::at("make", whole)(errno)),
        }
        // A link to a folder is one, as it is to who unpacks in the container.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let opened = self.root.open(&whole, flags).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::NOENT => FilesError::OtherKind(whole.clone()),
            errno => FilesError::at("open", whole.clone())(errno),
        })?;
        describe(&opened, looks).map_err(FilesError::at("describe", whole))?;
        self.folders.push((opened, looks.mtime));
        Ok(())
    }

    fn hard_link(
        &self,
        entry: &tar::Entry<'_, impl Read>,
        parent: &OwnedFd,
        name: &OsStr,
        path: &Path,
    ) -> Result<(), FilesError> {
        let link = entry.link_name_bytes().unwrap_or_default();
        let target = relative(&link)?;
        let (folder, file) = self.place(&target)?;
        linkat(&folder, &file, parent, name, AtFlags::empty())
            .map_err(FilesError::at("link", self.folder.join(path)))
    }

    fn finish(self) -> Result<(), FilesError> {
        for (folder, mtime) in self.folders.iter().rev() {
            set_mtime(folder, *mtime).map_err(FilesError::at("set the times of", self.folder))?;
        }
        Ok(())
    }
}

/// An entry's name without a leading slash or dots; one that climbs is refused.
fn relative(name: &[u8]) -> Result<PathBuf, FilesError> {
    let path = PathBuf::from(OsString::from_vec(name.to_vec()));
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => return Err(FilesError::Climbs(path)),
        }
    }
    Ok(clean)
}

/// Makes what is neither file nor folder.
fn node(
    header: &tar::Header,
    link: Option<&[u8]>,
    parent: &OwnedFd,
    name: &OsStr,
    looks: &Looks,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(looks.mode);
    let device = || -> io::Result<_> {
        let (major, minor) = (header.device_major()?, header.device_minor()?);
        Ok(makedev(major.unwrap_or_default(), minor.unwrap_or_default()))
    };
    match header.entry_type() {
        tar::EntryType::Symlink => {
            symlinkat(OsStr::from_bytes(link.unwrap_or_default()), parent, name)?;
        }
        tar::EntryType::Char => mknodat(parent, name, FileType::CharacterDevice, mode, device()?)?,
        tar::EntryType::Block => mknodat(parent, name, FileType::BlockDevice, mode, device()?)?,
        tar::EntryType::Fifo => mknodat(parent, name, FileType::Fifo, mode, 0)?,
        // What comes with other entries (a comment, an index) is nothing to make.
        _ => return Ok(()),
    }
    let (uid, gid) = looks.owner;
    chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)?;
    if header.entry_type() != tar::EntryType::Symlink {
        // The mode that it was made with was masked. The descriptor is of what is there now, were it a link.
        let opened = openat(parent, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        rustix::fs::chmod(format!("/proc/self/fd/{}", opened.as_raw_fd()), mode)?;
    }
    Ok(utimensat(parent, name, &times(looks.mtime), AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The owner first: changing it takes set-user-id bits and capabilities away.
fn describe(file: &impl AsFd, looks: &Looks) -> io::Result<()> {
    let (uid, gid) = looks.owner;
    fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    fchmod(file, Mode::from_raw_mode(looks.mode))?;
    for (name, value) in &looks.attributes {
        match fsetxattr(file, name.as_str(), value, XattrFlags::empty()) {
            // A memory filesystem may have none.
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn set_mtime(file: &impl AsFd, mtime: u64) -> io::Result<()> {
    Ok(futimens(file, &times(mtime))?)
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or_default(), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, kind, text) in entries {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_mode(0o640);
            header.set_mtime(5);
            let own = fs::metadata("/proc/self").unwrap();
            header.set_uid(own.uid().into());
            header.set_gid(own.gid().into());
            let fields = header.as_ustar_mut().unwrap();
            fields.name[..name.len()].copy_from_slice(name.as_bytes());
            let is_file = *kind == tar::EntryType::Regular;
            if !is_file {
                fields.linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            let data = if is_file { text.as_bytes() } else { b"" };
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append(&header, data).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn into(folder: &Path, at: &str, entries: &[(&str, tar::EntryType, &str)]) -> Result<(), FilesError> {
        let root = Root::new(fs::File::open(folder).unwrap().into());
        unpack(&root, Path::new(at), &archive(entries)[..], Unpacking::default())
    }

    use tar::EntryType as Kind;

    #[test]
    fn files_replace_files_and_folders_are_merged() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("to/d")).unwrap();
        for (name, text) in [("to/d/old", "old"), ("to/file", "old"), ("outside", "kept")] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        symlink("/outside", folder.path().join("to/link")).unwrap();
        into(
            folder.path(),
            "/to",
            &[
                ("d/", Kind::Directory, ""),
                ("d/new", Kind::Regular, "new"),
                ("file", Kind::Regular, "new"),
                ("link", Kind::Regular, "mine"),
                ("a/b/c", Kind::Regular, "implied"),
                ("also", Kind::Link, "d/new"),
                ("there", Kind::Symlink, "../outside"),
            ],
        )
        .unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        for (name, text) in [
            ("to/d/old", "old"),
            ("to/d/new", "new"),
            ("to/file", "new"),
            ("to/link", "mine"),
            ("outside", "kept"),
            ("to/a/b/c", "implied"),
            ("to/also", "new"),
            ("to/there", "kept"),
        ] {
            assert_eq!(read(name), text, "{name}");
        }
        let metadata = fs::metadata(folder.path().join("to/file")).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.mtime()), (0o640, 5));
        assert_eq!(fs::metadata(folder.path().join("to/d")).unwrap().mtime(), 5);
    }

    #[test]
    fn nothing_is_made_outside() {
        let outside = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("to")).unwrap();
        let climbing = [("../x", Kind::Regular, "evil")];
        assert!(matches!(into(folder.path(), "/to", &climbing), Err(FilesError::Climbs(_))));
        let hard = [("x", Kind::Link, "../../../etc/passwd")];
        assert!(matches!(into(folder.path(), "/to", &hard), Err(FilesError::Climbs(_))));
        let out = outside.path().to_str().unwrap();
        let through = [("out", Kind::Symlink, out), ("out/x", Kind::Regular, "evil")];
        // The link is made, and leads to a name in the root, where there is nothing.
        assert!(into(folder.path(), "/to", &through).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        symlink("/to", folder.path().join("in")).unwrap();
        into(folder.path(), "/in", &[("/absolute", Kind::Regular, "inside")]).unwrap();
        assert!(folder.path().join("to/absolute").exists());
    }

    #[test]
    fn folders_and_files_do_not_replace_each_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("f"), "").unwrap();
        for entry in [("d", Kind::Regular, ""), ("f", Kind::Directory, ""), ("f/x", Kind::Regular, "")] {
            let refused = into(folder.path(), "/", &[entry]).unwrap_err();
            assert!(matches!(refused, FilesError::OtherKind(_)), "{refused}");
        }
        assert!(matches!(into(folder.path(), "/f", &[]), Err(FilesError::NotAFolder(_))));
        assert!(matches!(into(folder.path(), "/nosuch", &[]), Err(FilesError::Missing(_))));
    }
}
