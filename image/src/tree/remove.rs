//! Removing a tree, whatever it is and whatever modes and flags it has.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{AtFlags, IFlags, Mode, OFlags, chmodat, ioctl_getflags, ioctl_setflags, openat, unlinkat};
use rustix::io::Errno;

use super::{Pending, TreeError, entries, to_path};

enum Step {
    Empty(Pending),
    Remove(Pending),
}

/// Remove `name` in `parent` with everything below it. What is not there is no error.
pub(crate) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), TreeError> {
    let failed = |source| TreeError { operation: "remove", path: to_path(name), source };
    match unlink(parent, name, AtFlags::empty()) {
        Ok(()) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(failed(error)),
    }
    let mut steps = vec![Step::Empty(Pending::new(parent, name)?)];
    while let Some(step) = steps.pop() {
        match step {
            Step::Empty(folder) => empty(folder, &mut steps)?,
            Step::Remove(folder) => {
                unlink(folder.anchor.as_fd(), &folder.path, AtFlags::REMOVEDIR)
                    .map_err(|error| folder.failed("remove folder", error))?;
            }
        }
    }
    Ok(())
}

/// Remove what is in the folder, its sub-folders excepted: those come next, and the folder itself after them.
fn empty(folder: Pending, steps: &mut Vec<Step>) -> Result<(), TreeError> {
    let fd = Rc::new(match open(&folder) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(folder.failed("open folder", error)),
    });
    let found = entries(&*fd).map_err(|error| folder.failed("list folder", error))?;
    steps.push(Step::Remove(folder.clone()));
    for (name, is_folder) in found {
        if !is_folder {
            match unlink(fd.as_fd(), &name, AtFlags::empty()) {
                Ok(()) => continue,
                // The file system did not say what it is (d_type unknown).
                Err(Errno::ISDIR) => {}
                Err(error) => return Err(folder.child(&fd, &name).failed("remove", error)),
            }
        }
        steps.push(Step::Empty(folder.child(&fd, &name)));
    }
    Ok(())
}

fn open(folder: &Pending) -> Result<OwnedFd, Errno> {
    match folder.open() {
        Err(Errno::ACCESS) => {
            chmodat(&folder.anchor, &folder.path[..], Mode::RWXU, AtFlags::empty())?;
            folder.open()
        }
        result => result,
    }
}

/// Unlink; where flags forbid it (`chattr +i`, `+a` on the entry or its folder), take the flags away and try once more.
fn unlink(parent: BorrowedFd<'_>, name: &[u8], flags: AtFlags) -> Result<(), Errno> {
    match unlinkat(parent, name, flags) {
        Err(Errno::NOENT) => Ok(()),
        Err(Errno::PERM) => {
            let above = name.iter().rposition(|byte| *byte == b'/').map_or(&b"."[..], |slash| &name[..slash]);
            clear_flags(parent, above)?;
            clear_flags(parent, name)?;
            unlinkat(parent, name, flags)
        }
        result => result,
    }
}

fn clear_flags(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(parent, name, flags, Mode::empty()) {
        Ok(file) => file,
        // Only files and folders have flags.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(()),
        Err(error) => return Err(error),
    };
    match ioctl_getflags(&file) {
        Ok(flags) if flags.intersects(IFlags::IMMUTABLE | IFlags::APPEND) => {
            ioctl_setflags(&file, flags - IFlags::IMMUTABLE - IFlags::APPEND)
        }
        Ok(_) | Err(Errno::NOTTY | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_tree_deeper_than_any_path_goes_and_its_neighbours_stay() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("kept")).unwrap();
        fs::write(base.path().join("kept/file"), "x").unwrap();
        let root = fs::File::open(base.path()).unwrap();
        rustix::fs::mkdirat(&root, "tree", Mode::RWXU).unwrap();
        let mut here = openat(&root, "tree", OFlags::DIRECTORY, Mode::empty()).unwrap();
        for depth in 0..3000 {
            rustix::fs::mkdirat(&here, "dd", Mode::RWXU).unwrap();
            if depth % 500 == 0 {
                rustix::fs::symlinkat("../../../kept", &here, "link").unwrap();
            }
            here = openat(&here, "dd", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        symlink("kept", base.path().join("link")).unwrap();
        remove(root.as_fd(), b"tree").unwrap();
        remove(root.as_fd(), b"link").unwrap();
        remove(root.as_fd(), b"never was").unwrap();
        let left: Vec<_> =
            fs::read_dir(base.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["kept"]);
        assert_eq!(fs::read(base.path().join("kept/file")).unwrap(), b"x");
    }

    #[test]
    fn modes_do_not_hinder_removal() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("tree/closed/inner")).unwrap();
        fs::set_permissions(base.path().join("tree/closed"), fs::Permissions::from_mode(0o0)).unwrap();
        remove(fs::File::open(base.path()).unwrap().as_fd(), b"tree").unwrap();
        assert!(!base.path().join("tree").exists());
    }
}
