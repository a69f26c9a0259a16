//! The layers of an image seen together, as overlayfs does, to tell whose a folder is that the topmost layer which has it
//! only implies.
//!
//! overlayfs shows a folder with the attributes of the topmost layer that has it. Where that layer has no entry for it,
//! those mean nothing, and the right ones are those of the nearest layer below that describes it, unless something in
//! between hides that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{
    Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags, fchmod, fchown, fgetxattr,
    flistxattr, fsetxattr, fstat, futimens, open, openat2,
};
use rustix::io::Errno;

use super::StoreError;
use super::additional::LayerPlace;
use crate::tree::is_opaque;
use crate::unpack::{implied, is_kept};

/// Most bytes of paths of folders that all layers of an image may imply together, as they are all in memory.
const MAX_IMPLIED_BYTES: usize = 64 << 20;
/// Size of the largest extended attribute, and of the largest list of names of them (XATTR_SIZE_MAX, XATTR_LIST_MAX).
const MAX_XATTR_BYTES: usize = 64 << 10;

/// The layers, topmost first.
pub(super) struct Stack {
    layers: Vec<Layer>,
    /// For each folder that was looked at, the layers (by their number) whose folders overlayfs merges there.
    merged: HashMap<Vec<u8>, Rc<[usize]>>,
}

struct Layer {
    root: OwnedFd,
    /// Folders that no entry of it describes.
    implied: BTreeSet<Vec<u8>>,
}

/// What of a folder an entry describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    mode: u32,
    owner: (u32, u32),
    /// By name, those that an image can give.
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    mtime: (i64, i64),
}

/// What a layer has at a path whose folder it has part in.
enum Seen {
    Nothing,
    Folder {
        hides_lower: bool,
    },
    /// A whiteout, or something else that is no folder.
    Other,
}

impl Stack {
    /// The layers at `places`, the topmost first.
    pub(super) fn open(places: &[LayerPlace]) -> Result<Self, StoreError> {
        let mut layers = Vec::new();
        let mut bytes = 0;
        for place in places {
            let root = open_folder(&place.tree)?;
            // Beside a layer of before archives were reproduced there is nothing.
            let implied = match open_folder(&place.kept) {
                Ok(kept) => implied(kept.as_fd()).map_err(|error| {
                    StoreError::io("read what a layer implies, beside it,", &place.kept, error)
                })?,
                Err(StoreError::Io { source: Errno::NOENT, .. }) => BTreeSet::new(),
                Err(error) => return Err(error),
            };
            bytes += implied.iter().map(Vec::len).sum::<usize>();
            if bytes > MAX_IMPLIED_BYTES {
                return Err(StoreError::io("see together the layers down to", &place.tree, Errno::NOMEM));
            }
            layers.push(Layer { root, implied });
        }
        let all = (0..layers.len()).collect();
        Ok(Self { layers, merged: HashMap::from([(Vec::new(), all)]) })
    }

    /// The folders that would be shown with other attributes than they have, and all above them, each with what it has.
    pub(super) fn misshown(&mut self) -> Result<BTreeMap<Vec<u8>, Attributes>, StoreError> {
        let implied: BTreeSet<_> =
            self.layers.iter().flat_map(|layer| layer.implied.iter().cloned()).collect();
        let mut found = BTreeMap::new();
        for path in implied {
            let failed =
                |error| StoreError::io("look through the layers of an image at", to_path(&path), error);
            if self.is_misshown(&path).map_err(failed)? {
                for end in ends(&path) {
                    let above = self.attributes(&path[..end]).map_err(failed)?;
                    found.extend(above.map(|own| (path[..end].to_vec(), own)));
                }
                found.extend(self.attributes(b"").map_err(failed)?.map(|own| (Vec::new(), own)));
            }
        }
        Ok(found)
    }

    fn is_misshown(&mut self, path: &[u8]) -> Result<bool, Errno> {
        match self.whose(path)? {
            Some((topmost, own)) if topmost != own => {
                Ok(!self.read(topmost, path)?.looks_as(&self.read(own, path)?))
            }
            _ => Ok(false),
        }
    }

    /// The folder's own attributes; none if it is not to be seen.
    fn attributes(&mut self, path: &[u8]) -> Result<Option<Attributes>, Errno> {
        self.whose(path)?.map(|(_, own)| self.read(own, path)).transpose()
    }

    /// The layer that overlayfs takes a folder's attributes from, and the one whose they are; none if no folder is to be
    /// seen there.
    fn whose(&mut self, path: &[u8]) -> Result<Option<(usize, usize)>, Errno> {
        let merged = self.merged(path)?;
        let Some(topmost) = merged.first() else { return Ok(None) };
        let describing = merged.iter().find(|number| !self.layers[**number].implied.contains(path));
        Ok(Some((*topmost, *describing.unwrap_or(topmost))))
    }

    fn read(&self, number: usize, path: &[u8]) -> Result<Attributes, Errno> {
        Attributes::read(open_beneath(self.layers[number].root.as_fd(), path)?.as_fd())
    }

    /// The layers whose folders are merged at `path`, the topmost first; empty if no folder is to be seen there.
    fn merged(&mut self, path: &[u8]) -> Result<Rc<[usize]>, Errno> {
        let mut above = Rc::clone(&self.merged[&b""[..]]);
        for end in ends(path) {
            let path = &path[..end];
            above = match self.merged.get(path) {
                Some(known) => Rc::clone(known),
                None => {
                    let found: Rc<[usize]> = self.merged_of(&above, path)?.into();
                    self.merged.insert(path.to_vec(), Rc::clone(&found));
                    found
                }
            };
        }
        Ok(above)
    }

    fn merged_of(&self, candidates: &[usize], path: &[u8]) -> Result<Vec<usize>, Errno> {
        let mut found = Vec::new();
        for number in candidates {
            match look(self.layers[*number].root.as_fd(), path)? {
                Seen::Nothing => {}
                Seen::Other => break,
                Seen::Folder { hides_lower } => {
                    found.push(*number);
                    if hides_lower {
                        break;
                    }
                }
            }
        }
        Ok(found)
    }
}

impl Attributes {
    fn read(folder: BorrowedFd<'_>) -> Result<Self, Errno> {
        let stat = fstat(folder)?;
        Ok(Self {
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            xattrs: xattrs(folder)?,
            mtime: (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        })
    }

    /// Give them to `folder`. Owner before attributes and mode: a change of owner takes away the setgid bit.
    pub(super) fn apply(&self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let (uid, gid) = self.owner;
        fchown(folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        for (name, value) in &self.xattrs {
            fsetxattr(folder, &name[..], value, XattrFlags::empty())?;
        }
        fchmod(folder, Mode::from_raw_mode(self.mode))?;
        let time = Timespec { tv_sec: self.mtime.0, tv_nsec: self.mtime.1 };
        futimens(folder, &Timestamps { last_access: time, last_modification: time })
    }

    /// Whether nobody could tell the two apart. A folder's time does not count: it is that of the last change in it, and
    /// which one that is differs between all who unpack.
    fn looks_as(&self, other: &Self) -> bool {
        (self.mode, self.owner, &self.xattrs) == (other.mode, other.owner, &other.xattrs)
    }
}

/// Where the path and each folder above it end, the highest first; of the root, which is empty, only it.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()])
}

fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<Seen, Errno> {
    match open_beneath(root, path) {
        Ok(folder) => Ok(Seen::Folder { hides_lower: is_opaque(&folder)? }),
        Err(Errno::NOENT) => Ok(Seen::Nothing),
        // A path longer than the kernel resolves at once was reached over links, and is another folder's.
        Err(Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(Seen::Other),
        Err(error) => Err(error),
    }
}

fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(root, path, flags, Mode::empty(), resolve)
}

fn open_folder(path: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|error| StoreError::io("open the folder", path, error))
}

fn xattrs(folder: BorrowedFd<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let mut names = vec![0; MAX_XATTR_BYTES];
    let length = match flistxattr(folder, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error),
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| is_kept(name)) {
        let mut value = vec![0; MAX_XATTR_BYTES];
        let length = fgetxattr(folder, name, &mut value[..])?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

fn to_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
