//! Who a command runs as, by the accounts that the container has now: its program may have added some.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

use super::Place;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Identity, UserChoice};
use crate::spec;

/// The largest /etc/passwd or /etc/group that is read: they are the container's to fill.
const LIMIT_BYTES: u64 = 1 << 20;

/// Attempts at a resolution the kernel gave up because something was renamed somewhere meanwhile (EAGAIN).
const MAX_RESOLUTIONS: u32 = 128;

/// Decides whom `choice` means in the container.
pub(super) async fn identity(place: &Place<'_>, choice: &UserChoice) -> Result<Identity> {
    let (process, choice, object) = (place.process.clone(), choice.clone(), place.object());
    place
        .shared
        .blocking(move |_| {
            let failed = |error: io::Error| EngineError::step("read the accounts", &object, &error);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(CWD, format!("/proc/{}/root", process.pid()), flags, Mode::empty())
                .map_err(|errno| failed(errno.into()))?;
            // What was opened is this process's only if the number still is: the handle tells.
            if process.has_ended() {
                return Err(failed(Errno::SRCH.into()));
            }
            let read = |path| read(root.as_fd(), path).map_err(failed);
            let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
            spec::identity(&choice, "", passwd.as_deref(), group.as_deref())
                .map_err(|error| EngineError::invalid("the user", &error))
        })
        .await
}

/// A file of the container; none where it has none. It is looked for in the container's own root alone: what is mounted
/// over a part of it may be on a server that does not answer, and counts as absent.
fn read(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<Vec<u8>>> {
    // Looked at before it is opened: opening a device has effects.
    let Some(found) = find(root, path)? else { return Ok(None) };
    if !FileType::from_raw_mode(fstat(&found)?.st_mode).is_file() {
        return Ok(None);
    }
    // The very file that was looked at, whatever has its name by now.
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd()))?;
    let mut text = Vec::new();
    file.take(LIMIT_BYTES + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LIMIT_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("/{path} is larger than 1 MiB")));
    }
    Ok(Some(text))
}

fn find(root: BorrowedFd<'_>, path: &str) -> io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..MAX_RESOLUTIONS {
        match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(found) => return Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP) => return Ok(None),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::AGAIN.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_looked_for_beneath_the_root_only() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("etc")).unwrap();
        std::fs::write(folder.path().join("etc/real"), "x").unwrap();
        symlink("/etc/real", folder.path().join("etc/inside")).unwrap();
        symlink("../../../../etc/passwd", folder.path().join("etc/outside")).unwrap();
        let root = File::open(folder.path()).unwrap();
        for (path, found) in
            [("etc/real", true), ("etc/inside", true), ("etc/outside", false), ("etc", false)]
        {
            assert_eq!(read(root.as_fd(), path).unwrap().is_some(), found, "{path}");
        }
        File::create(folder.path().join("etc/large")).unwrap().set_len(LIMIT_BYTES + 1).unwrap();
        assert!(read(root.as_fd(), "etc/large").is_err());
    }
}
