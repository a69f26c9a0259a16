//! The archive: a tar of one folder and some documents.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{CHANGED, IMAGES, LOG, STATISTICS};

/// Where an archive is written before it has its name: beside it, so that renaming is all that is left.
pub(super) fn beside(location: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(location.file_name().unwrap_or_default());
    name.push(".new");
    location.with_file_name(name)
}

/// Writes the archive of a checkpoint's `folder` to the file `new`, which its owner alone may read: it holds the
/// container's memory. On disk when this returns.
pub(super) fn write(new: &Path, folder: &Path, documents: &[(&str, Vec<u8>)]) -> io::Result<()> {
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    let mut archive = tar::Builder::new(io::BufWriter::new(made));
    // criu's images are files of ours; nothing is followed all the same.
    archive.follow_symlinks(false);
    archive.mode(tar::HeaderMode::Complete);
    archive.append_dir(IMAGES, folder.join(IMAGES))?;
    let mut images: Vec<_> = fs::read_dir(folder.join(IMAGES))?.collect::<io::Result<_>>()?;
    images.sort_by_key(fs::DirEntry::file_name);
    for image in images.into_iter().filter(|image| image.file_type().is_ok_and(|kind| kind.is_file())) {
        append(&mut archive, &Path::new(IMAGES).join(image.file_name()), &image.path())?;
    }
    for (name, document) in documents {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(document.len() as u64);
        archive.append_data(&mut header, name, &document[..])?;
    }
    for name in [CHANGED, LOG, STATISTICS] {
        match append(&mut archive, Path::new(name), &folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    let file = archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()
}

fn append(archive: &mut tar::Builder<impl io::Write>, name: &Path, path: &Path) -> io::Result<()> {
    archive.append_file(name, &mut File::open(path)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_archive_has_everything_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(IMAGES)).unwrap();
        fs::write(folder.path().join("checkpoint/pages-1.img"), "memory").unwrap();
        fs::write(folder.path().join(LOG), "fine").unwrap();
        let new = beside(&folder.path().join("x.tar"));
        assert_eq!(new.file_name().unwrap(), ".x.tar.new");
        write(&new, folder.path(), &[("config.dump", b"{}".to_vec())]).unwrap();
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o7777, 0o600);
        let mut archive = tar::Archive::new(File::open(new).unwrap());
        let names: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        let expected = ["checkpoint", "checkpoint/pages-1.img", "config.dump", LOG];
        assert_eq!(names, expected.map(PathBuf::from));
    }
}
