//! A cgroup's folder in one hierarchy, held open: several of its files for one walk to it.
//!
//! A walk through a cgroup filesystem is dear: each name of the path is validated under a lock (`kernfs_dop_revalidate` of
//! fs/kernfs/dir.c), which no walk without references can do.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, open, openat};

use super::{Cgroup, CgroupError};

/// The folder.
#[derive(Debug)]
pub struct Folder {
    folder: OwnedFd,
    path: PathBuf,
}

impl Cgroup {
    /// Opens its folder in the hierarchy that has `controller`.
    pub fn folder(&self, controller: &str) -> Result<Folder, CgroupError> {
        let path = self.dir(controller)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(&path, flags, Mode::empty()) {
            Ok(folder) => Ok(Folder { folder, path }),
            Err(errno) => Err(CgroupError::Read { path, source: errno.into() }),
        }
    }
}

impl Folder {
    /// The content of `file`. For lists of processes there is [`Cgroup::processes`].
    pub fn read(&self, file: &str) -> Result<String, CgroupError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let opened = openat(&self.folder, file, flags, Mode::empty()).map_err(io::Error::from);
        opened
            .and_then(|opened| read_record(opened.into()))
            .map_err(|source| CgroupError::Read { path: self.path.join(file), source })
    }
}

/// Reads a cgroup file of one record, as all are but the lists of processes. These have no size to ask for, and most fit
/// into one read(2), which gives less than asked for only at the end of the record (`seq_read_iter` of fs/seq_file.c).
pub(super) fn read_record(mut file: File) -> io::Result<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                text.extend_from_slice(&buffer[..length]);
                if length < buffer.len() {
                    break;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(text).map_err(|_| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn a_record_is_read_to_its_end_whatever_its_length() {
        for length in [0, 1, 4095, 4096, 4097, 10_000] {
            let memory = rustix::fs::memfd_create("record", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            let mut file = File::from(memory);
            file.write_all(&vec![b'x'; length]).unwrap();
            file.rewind().unwrap();
            assert_eq!(read_record(file).unwrap().len(), length);
        }
    }

    #[test]
    fn files_are_found_in_the_folder() {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = PathBuf::from("/proc/sys/kernel");
        let folder = Folder { folder: open(&path, flags, Mode::empty()).unwrap(), path };
        assert_eq!(folder.read("ostype").unwrap(), "Linux\n");
        let absent = folder.read("absent").unwrap_err();
        assert!(absent.is_absence() && absent.to_string().ends_with("/proc/sys/kernel/absent"), "{absent}");
    }
}
