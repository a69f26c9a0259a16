//! Where a path leads in a container's root.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, openat2, readlinkat, statat};
use rustix::io::Errno;

use super::FilesError;

/// Attempts at a resolution that the kernel gave up because something was renamed meanwhile (EAGAIN).
const MAX_RESOLUTIONS: u32 = 128;

/// A container's root folder.
#[derive(Debug)]
pub(crate) struct Root {
    folder: OwnedFd,
}

/// A name in a folder of a container: the links on the way are resolved, that of the name itself is not.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folder.
    pub folder: OwnedFd,
    /// What is looked for in it; `.` for the folder itself.
    pub name: OsString,
}

/// What is at a place.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its type, mode, size and times.
    pub stat: Stat,
    /// Where it leads if it is a link: absolute, in the container.
    pub target: Option<PathBuf>,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Root {
    /// The root that `folder` is open at.
    pub(crate) fn new(folder: OwnedFd) -> Self {
        Self { folder }
    }

    /// Opens `path` as the container would. Links of /proc that lead to other processes' roots are not followed.
    pub(super) fn open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let mut last = Errno::AGAIN;
        for _ in 0..MAX_RESOLUTIONS {
            match openat2(&self.folder, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => last = Errno::AGAIN,
                result => return result,
            }
        }
        Err(last)
    }

    /// The place that `path` names. A trailing slash or dot asks for what a link leads to.
    pub(crate) fn place(&self, path: &Path) -> Result<Place, FilesError> {
        let (parent, name) = split(path);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = self.open(&parent, flags).map_err(|errno| match errno {
            Errno::NOTDIR | Errno::LOOP => FilesError::Missing(path.to_owned()),
            errno => FilesError::at("open the folder of", path)(errno),
        })?;
        Ok(Place { folder, name })
    }

    /// The folder that `path` leads to, to put something into.
    pub(crate) fn folder(&self, path: &Path) -> Result<OwnedFd, FilesError> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|errno| match errno {
            Errno::NOTDIR => FilesError::NotAFolder(path.to_owned()),
            errno => FilesError::at("open", path)(errno),
        })
    }

    /// What is at `path`.
    pub(crate) fn look(&self, path: &Path) -> Result<Found, FilesError> {
        let place = self.place(path)?;
        let stat = statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(FilesError::at("look at", path))?;
        let target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Some(self.target(path, &place)?),
            _ => None,
        };
        Ok(Found { stat, target })
    }

    /// Where the link at a place leads: as the kernel resolves it, or in words where it leads nowhere.
    fn target(&self, path: &Path, place: &Place) -> Result<PathBuf, FilesError> {
        if let Ok(end) = self.open(path, OFlags::PATH)
            && let (Some(root), Some(end)) = (name_of(self.as_fd()), name_of(end.as_fd()))
            && let Ok(inside) = end.strip_prefix(root)
        {
            return Ok(Path::new("/").join(inside));
        }
        let read =
            readlinkat(&place.folder, &place.name, Vec::new()).map_err(FilesError::at("read", path))?;
        let (parent, _) = split(path);
        Ok(cleaned(&Path::new("/").join(parent).join(OsStr::from_bytes(read.as_bytes()))))
    }
}

/// The kernel's name of what a descriptor stands for.
fn name_of(descriptor: BorrowedFd<'_>) -> Option<PathBuf> {
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()
}

/// The folder of a path, and its last name.
fn split(path: &Path) -> (PathBuf, OsString) {
    let text = path.as_os_str().as_bytes();
    let asks_for_folder = text.ends_with(b"/") || text.ends_with(b"/.") || text == b"." || text.is_empty();
    let path = cleaned(&Path::new("/").join(path));
    match path.file_name() {
        Some(name) if !asks_for_folder => (path.parent().unwrap_or(&path).to_owned(), name.to_owned()),
        _ => (path, ".".into()),
    }
}

/// An absolute path without dots, as its words say: `..` takes away the name before it.
fn cleaned(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        for (path, parent, name) in [
            ("/etc/passwd", "/etc", "passwd"),
            ("etc/passwd", "/etc", "passwd"),
            ("/etc/", "/etc", "."),
            ("/etc/.", "/etc", "."),
            ("/", "/", "."),
            ("", "/", "."),
            ("/a/../../b", "/", "b"),
        ] {
            assert_eq!(split(Path::new(path)), (parent.into(), name.into()), "{path}");
        }
    }

    #[test]
    fn links_lead_nowhere_outside() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        let inside = tempfile::tempdir().unwrap();
        fs::create_dir(inside.path().join("etc")).unwrap();
        fs::write(inside.path().join("etc/file"), "1234").unwrap();
        for (name, target) in [
            ("absolute", "/etc/file"),
            ("climbing", "../../../etc/file"),
            ("out", outside.path().to_str().unwrap()),
            ("proc", "/proc/self/root"),
            ("folder", "etc"),
        ] {
            symlink(target, inside.path().join(name)).unwrap();
        }
        let root = Root::new(fs::File::open(inside.path()).unwrap().into());
        for name in ["absolute", "climbing"] {
            assert_eq!(root.look(Path::new(name)).unwrap().target, Some("/etc/file".into()), "{name}");
        }
        // What leads outside is a name inside that is not there.
        assert_eq!(root.look(Path::new("out")).unwrap().target, Some(outside.path().to_owned()));
        let missing = |path: &str| matches!(root.look(Path::new(path)), Err(FilesError::Missing(_)));
        assert!(missing("out/secret") && missing("proc/etc") && missing("nosuch") && missing("etc/file/x"));
        assert_eq!(root.look(Path::new("folder/file")).unwrap().stat.st_size, 4);
        let kind = |path: &str| FileType::from_raw_mode(root.look(Path::new(path)).unwrap().stat.st_mode);
        assert_eq!((kind("folder"), kind("folder/")), (FileType::Symlink, FileType::Directory));
        assert!(matches!(root.folder(Path::new("etc/file")), Err(FilesError::NotAFolder(_))));
    }
}
