//! What a tree does not hold of the archive it came from, and the archive made again from both.
//!
//! A tree forgets the order of its entries, their headers to the byte, and entries that later ones replaced. So beside
//! each tree there is a folder with
//! - `recipe`: the archive with the data of the tree's files taken out, compressed. Reading it with the same parser tells
//!   where each file's data belongs and how long it is;
//! - `lost/<n>`: what was in the way of a later entry, and `lost.index`, which says where it was until which entry.
//!
//! The result is worth nothing until its digest is compared with the layer's diff id.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2, renameat, statat,
};
use rustix::io::Errno;

use super::error::UnpackError;
use super::path::{self, Role};
use super::tar::{Archive, Entry, Kind, MAX_PATH_BYTES, Segment, TarError};

const RECIPE: &str = "recipe";
const LOST: &str = "lost";
const LOST_INDEX: &str = "lost.index";
/// Headers repeat themselves, so that the fastest level makes a tenth of them.
const LEVEL: i32 = 1;
/// Most entries that may be replaced: no archiver writes any, and their list is kept in memory when they are needed.
const MAX_LOST: u64 = 65_536;
/// Size of the buffer for a file's data.
const BUFFER_BYTES: usize = 256 << 10;

/// A recipe being written.
pub(super) struct Recipe {
    pub(super) record: zstd::stream::write::Encoder<'static, File>,
    pub(super) lost: Lost,
}

/// Where what is not data of a file goes; nowhere if the archive need not be reproduced.
pub(super) struct Recording(pub(super) Option<zstd::stream::write::Encoder<'static, File>>);

/// Where replaced entries go.
pub(super) struct Lost {
    kept: OwnedFd,
    parts: Option<(OwnedFd, BufWriter<File>)>,
    count: u64,
}

/// Why an archive could not be made again.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// What was kept of it is missing or damaged.
    #[error("read what was kept of the layer's archive")]
    Kept(#[source] io::Error),
    /// What was kept of it is no archive.
    #[error("parse what was kept of the layer's archive")]
    Tar(#[source] TarError),
    /// A file is not what it was.
    #[error("read {path:?} of the layer")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: Errno,
    },
    /// The receiver failed.
    #[error("write the layer's archive")]
    Write(#[source] io::Error),
}

impl Recipe {
    /// Begin in the empty folder `kept`.
    pub(super) fn create(kept: BorrowedFd<'_>) -> Result<Self, UnpackError> {
        let file =
            create(kept, RECIPE).map_err(|error| UnpackError::io("create", RECIPE.as_bytes(), error))?;
        let record =
            zstd::stream::write::Encoder::new(file, LEVEL).map_err(|error| UnpackError::kept(&error))?;
        let kept = kept.try_clone_to_owned().map_err(|error| UnpackError::kept(&error))?;
        Ok(Self { record, lost: Lost { kept, parts: None, count: 0 } })
    }
}

impl Write for Recording {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(bytes.len()), |record| record.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Recording {
    pub(super) fn finish(self) -> Result<(), UnpackError> {
        let finished = self.0.map_or(Ok(()), |record| record.finish().map(drop));
        finished.map_err(|error| UnpackError::kept(&error))
    }
}

impl Lost {
    /// Keep `name` in `parent`, which is `path` in the layer and in the way of entry `number`; false if there is nothing
    /// in it that the recipe does not have.
    pub(super) fn take(
        &mut self,
        number: u64,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Result<bool, UnpackError> {
        let failed = |operation| move |error| UnpackError::io(operation, path, error);
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed("examine")(error)),
        };
        let has_data = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => stat.st_size > 0,
            kind => kind == FileType::Directory,
        };
        // Beyond the limit the archive is not to be had again; its digest will tell.
        if !has_data || self.count == MAX_LOST {
            return Ok(false);
        }
        let count = self.count;
        let (folder, index) = self.parts().map_err(failed("keep what is replaced of"))?;
        renameat(parent, name, &*folder, count.to_string()).map_err(failed("move out of the way"))?;
        let length = u32::try_from(path.len()).unwrap_or(u32::MAX);
        let record = [&number.to_le_bytes()[..], &length.to_le_bytes(), path].concat();
        index.write_all(&record).and_then(|()| index.flush()).map_err(|error| UnpackError::kept(&error))?;
        self.count += 1;
        Ok(true)
    }

    fn parts(&mut self) -> Result<&mut (OwnedFd, BufWriter<File>), Errno> {
        let parts = match self.parts.take() {
            Some(parts) => parts,
            None => {
                mkdirat(&self.kept, LOST, Mode::RWXU)?;
                (
                    open_folder(self.kept.as_fd(), LOST)?,
                    BufWriter::new(create(self.kept.as_fd(), LOST_INDEX)?),
                )
            }
        };
        Ok(self.parts.insert(parts))
    }
}

fn create(folder: BorrowedFd<'_>, name: &str) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
}

fn open_folder(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Write the archive that `tree` and `kept` were made from to `out`. Compare its digest with the layer's diff id: files
/// may have been damaged since.
pub fn reproduce(tree: BorrowedFd<'_>, kept: BorrowedFd<'_>, out: impl Write) -> Result<(), RecipeError> {
    let source = Originals { tree, replaced: Replaced::read(kept)? };
    let file = open_file(kept, RECIPE).map_err(|error| RecipeError::Kept(error.into()))?;
    let recipe = zstd::stream::read::Decoder::new(file).map_err(RecipeError::Kept)?;
    let mut archive = Archive::recording(BufReader::with_capacity(BUFFER_BYTES, recipe), out);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut number = 0;
    while let Some(entry) = archive.next_entry().map_err(of_tar)? {
        number += 1;
        let Some(path) = path_of_data(&entry, archive.remaining()) else { continue };
        archive.supply(|out| source.copy(&path, number, &entry, (&mut buffer, out)))?;
    }
    archive.drain().map_err(of_tar)
}

fn of_tar(error: TarError) -> RecipeError {
    match error {
        TarError::Record(error) => RecipeError::Write(error),
        TarError::Read(error) => RecipeError::Kept(error),
        error => RecipeError::Tar(error),
    }
}

/// Where the entry's data went, if it has any and it is not in the recipe.
fn path_of_data(entry: &Entry, stored_bytes: u64) -> Option<Vec<u8>> {
    match path::classify(&entry.path) {
        Ok(Role::Plain(place)) if entry.kind == Kind::File && stored_bytes > 0 => Some(place.path()),
        _ => None,
    }
}

/// The files that have an archive's data.
struct Originals<'a> {
    tree: BorrowedFd<'a>,
    replaced: Replaced,
}

impl Originals<'_> {
    /// Copy the data of `entry`, which is number `number` and was put at `path`.
    fn copy(
        &self,
        path: &[u8],
        number: u64,
        entry: &Entry,
        (buffer, out): (&mut [u8], &mut impl Write),
    ) -> Result<(), RecipeError> {
        let failed = |source| RecipeError::File { path: super::error::lossless(path), source };
        let file = match self.replaced.find(path, number) {
            Some((folder, name)) => open_original(folder, &name),
            None => open_original(self.tree, path),
        };
        let file = file.map_err(failed)?;
        let whole = [Segment { offset: 0, length: entry.size }];
        for segment in entry.segments.as_deref().unwrap_or(&whole) {
            let (mut at, end) = (segment.offset, segment.offset + segment.length);
            while at < end {
                let length = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
                let read = rustix::io::retry_on_intr(|| rustix::io::pread(&file, &mut buffer[..length], at));
                let read = read.map_err(failed)?;
                if read == 0 {
                    return Err(failed(Errno::NODATA));
                }
                out.write_all(&buffer[..read]).map_err(RecipeError::Write)?;
                at += read as u64;
            }
        }
        Ok(())
    }
}

fn open_original(folder: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    let found =
        openat2(folder, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    // Looked at before it is opened: opening a device has effects.
    if FileType::from_raw_mode(fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    openat2(folder, path, flags, Mode::empty(), resolve)
}

fn open_file(folder: BorrowedFd<'_>, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(folder, name, flags, Mode::empty()).map(File::from)
}

/// What was replaced: by path, the entries it was in the way of, and its number in `lost`.
#[derive(Default)]
struct Replaced {
    folder: Option<OwnedFd>,
    by_path: HashMap<Vec<u8>, Vec<(u64, u64)>>,
}

impl Replaced {
    fn read(kept: BorrowedFd<'_>) -> Result<Self, RecipeError> {
        let failed = |error: Errno| RecipeError::Kept(error.into());
        let folder = match open_folder(kept, LOST) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return Ok(Self::default()),
            Err(error) => return Err(failed(error)),
        };
        let mut index = BufReader::new(open_file(kept, LOST_INDEX).map_err(failed)?);
        let mut by_path: HashMap<_, Vec<_>> = HashMap::new();
        for count in 0..MAX_LOST {
            if index.fill_buf().map_err(RecipeError::Kept)?.is_empty() {
                break;
            }
            let (number, path) = read_lost(&mut index).map_err(RecipeError::Kept)?;
            by_path.entry(path).or_default().push((number, count));
        }
        Ok(Self { folder: Some(folder), by_path })
    }

    /// What entry `number` put at `path`, if it, or a folder above it, was replaced later.
    fn find(&self, path: &[u8], number: u64) -> Option<(BorrowedFd<'_>, Vec<u8>)> {
        let folder = self.folder.as_ref()?;
        let ends = (0..path.len()).filter(|at| path[*at] == b'/').chain([path.len()]);
        let later = ends.flat_map(|end| {
            let records = self.by_path.get(&path[..end]).map(Vec::as_slice).unwrap_or_default();
            records.iter().filter(|(by, _)| *by > number).map(move |(by, count)| (*by, *count, end))
        });
        let (_, count, end) = later.min()?;
        Some((folder.as_fd(), [count.to_string().as_bytes(), &path[end..]].concat()))
    }
}

fn read_lost(index: &mut impl Read) -> io::Result<(u64, Vec<u8>)> {
    let (mut number, mut length) = ([0; 8], [0; 4]);
    index.read_exact(&mut number)?;
    index.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    // A folder made on the way to an entry may have a longer path than any entry: by what links add.
    if length > 2 * MAX_PATH_BYTES {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut path = vec![0; length];
    index.read_exact(&mut path)?;
    Ok((u64::from_le_bytes(number), path))
}
