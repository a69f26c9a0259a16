//! One entry of an archive, put together from its header and extension headers.

use super::header::Header;
use super::pax::Records;
use super::{Extension, MAX_PATH_BYTES, TarError};

/// One entry. Nothing in it has been checked against a file system yet.
pub struct Entry {
    /// Path as written, not empty, without NUL, at most [`MAX_PATH_BYTES`] long.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner; never `u32::MAX`, which `chown(2)` takes for "unchanged".
    pub uid: u32,
    /// Group; never `u32::MAX`.
    pub gid: u32,
    /// Modification time: seconds since the epoch, and nanoseconds upwards from there.
    pub mtime: (i64, u32),
    /// Size of a regular file in bytes, holes included.
    pub size: u64,
    /// Where the stored data of a sparse file belongs; ascending, within `size`.
    pub segments: Option<Vec<Segment>>,
    /// Extended attributes as written.
    pub xattrs: Vec<Xattr>,
    pub(super) pax: Records,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link with this target, any text.
    Symlink(Vec<u8>),
    /// One more name for the entry at this path.
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A regular file in GNU's sparse form; becomes [`Kind::File`] once its map is read.
    GnuSparse,
}

/// A piece of a sparse file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Xattr {
    /// Its full name, `security.capability`.
    pub name: Vec<u8>,
    /// Its value, at most 64 KiB.
    pub value: Vec<u8>,
}

impl Entry {
    pub(super) fn set_sparse(&mut self, (size, segments): (u64, Vec<Segment>)) {
        self.kind = Kind::File;
        self.size = size;
        self.segments = Some(segments);
        if let Some(name) = self.pax.sparse.name.take() {
            self.path = name;
        }
    }
}

/// Put an entry together: PAX records before long names before the header's own fields.
pub(super) fn assemble(header: Header, extension: Extension) -> Result<Entry, TarError> {
    let Extension { long_name, long_link, mut pax } = extension;
    let path = name(pax.path.take().or(long_name).unwrap_or(header.name), "path")?;
    if pax.sparse.name.as_deref().is_some_and(|name| name.is_empty() || name.contains(&0)) {
        return Err(TarError::Name("path"));
    }
    let link = pax.link.take().or(long_link).unwrap_or(header.link);
    let (major, minor) = (header.major, header.minor);
    let kind = match header.kind {
        // Before ustar, a folder was a file whose name ended in a slash.
        0 | b'0' if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink(name(link, "link target")?),
        b'2' => Kind::Symlink(name(link, "link target")?),
        b'3' => Kind::CharDevice { major, minor },
        b'4' => Kind::BlockDevice { major, minor },
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'S' => Kind::GnuSparse,
        flag => {
            return Err(TarError::Type {
                flag: flag.into(),
                path: String::from_utf8_lossy(&path).into_owned(),
            });
        }
    };
    Ok(Entry {
        path,
        kind,
        mode: header.mode,
        uid: owner(pax.uid.unwrap_or(header.uid), "uid")?,
        gid: owner(pax.gid.unwrap_or(header.gid), "gid")?,
        mtime: pax.mtime.unwrap_or((header.mtime_s, 0)),
        size: pax.size.unwrap_or(header.size),
        segments: None,
        xattrs: std::mem::take(&mut pax.xattrs),
        pax,
    })
}

fn name(bytes: Vec<u8>, what: &'static str) -> Result<Vec<u8>, TarError> {
    if bytes.is_empty() || bytes.contains(&0) {
        return Err(TarError::Name(what));
    }
    if bytes.len() > MAX_PATH_BYTES {
        return Err(TarError::TooLong { what, bytes: bytes.len() as u64, limit: MAX_PATH_BYTES as u64 });
    }
    Ok(bytes)
}

fn owner(id: u64, what: &'static str) -> Result<u32, TarError> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or(TarError::Number(what))
}
