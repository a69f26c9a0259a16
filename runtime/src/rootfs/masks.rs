//! Paths that are hidden (`maskedPaths`) and paths that cannot be written (`readonlyPaths`).
//!
//! Both are mounts on descriptors resolved beneath the root, and a path of procfs has to be in procfs: an image or a
//! shared volume cannot lead them elsewhere (CVE-2025-31133, CVE-2019-19921). What hides a file is the host's
//! /dev/null, checked by its number.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use cleat_sys::mount::{self as attribute, Attributes, set_attributes};
use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, makedev};

use super::{Tree, attach, tree};
use crate::Failure;
use crate::failure::Step;
use crate::procfs;
use crate::spec::Plan;

/// Hides and protects what the plan says; a path that does not exist needs neither.
pub(super) fn apply(tree: &Tree, plan: &Plan) -> Result<(), Failure> {
    let has_procfs =
        plan.mounts.iter().any(|mount| mount.is_filesystem("proc") && mount.target == Path::new("/proc"));
    let find = |path: &Path, step: &dyn Fn() -> String| match tree.find(path) {
        Ok(target) if has_procfs && path.starts_with("/proc") => check_procfs(target).map(Some).step(step),
        Ok(target) => Ok(Some(target)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Failure::new(step(), &error)),
    };
    for path in &plan.readonly_paths {
        let step = || format!("make {} read-only", path.display());
        if let Some(target) = find(path, &step)? {
            protect(&target).step(step)?;
        }
    }
    let mut cover = Cover { label: plan.mount_label.as_deref(), null: None, empty: None };
    for path in &plan.masked_paths {
        let step = || format!("hide {}", path.display());
        if let Some(target) = find(path, &step)? {
            cover.hide(&target).step(step)?;
        }
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn check_procfs(target: OwnedFd) -> io::Result<OwnedFd> {
    if fstatfs(&target)?.f_type != procfs::MAGIC {
        return Err(io::Error::other("it is not in procfs"));
    }
    Ok(target)
}

fn protect(target: &OwnedFd) -> io::Result<()> {
    let copy = attach::clone_descriptor(target, true)?;
    let read_only = Attributes { set: attribute::READ_ONLY, ..Attributes::default() };
    set_attributes(&copy, &read_only, true)?;
    attach::attach(&copy, target)
}

/// What is put on top of things to hide, each kind made when first needed.
struct Cover<'a> {
    label: Option<&'a str>,
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl Cover<'_> {
    fn hide(&mut self, target: &OwnedFd) -> io::Result<()> {
        if !tree::is_folder(target)? {
            let null = match self.null.take() {
                Some(null) => null,
                None => open_null()?,
            };
            let copy = attach::clone_descriptor(self.null.insert(null), false)?;
            return attach::attach(&copy, target);
        }
        if let Some(empty) = &self.empty {
            // One empty filesystem serves all: the first stays in place, the others are copies of it.
            return attach::attach(&attach::clone_descriptor(empty, false)?, target);
        }
        let mut options = [("nr_blocks", "1"), ("nr_inodes", "1")].to_vec();
        options.extend(self.label.map(|label| ("context", label)));
        let attributes =
            attribute::READ_ONLY | attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_EXEC;
        let empty = attach::new_filesystem("tmpfs", "tmpfs", &attach::options(&options), attributes)?;
        attach::attach(&empty, target)?;
        self.empty = Some(empty);
        Ok(())
    }
}

/// The host's /dev/null, and nothing else of that name.
fn open_null() -> io::Result<OwnedFd> {
    let null =
        rustix::fs::open("/dev/null", OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    let stat = fstat(&null)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != makedev(1, 3) {
        return Err(io::Error::other("the host's /dev/null is not the null device"));
    }
    Ok(null)
}
