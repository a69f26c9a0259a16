//! A mount of type `cgroup`: the container's own cgroups in the host's layout, whatever that is.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cleat_sys::cgroup::Cgroup;
use cleat_sys::mount::{self as attribute, Attributes, Propagation, set_attributes};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::attach;
use crate::Failure;
use crate::failure::Step;
use crate::spec::Mount;

/// No hierarchy is of any use for programs, devices and set-user-id files.
const HARDENED: u64 = attribute::NO_SUID | attribute::NO_DEVICES | attribute::NO_EXEC;

/// Mounts the cgroup hierarchies on `target`; gives the topmost mount.
pub(super) fn mount(
    mount: &Mount,
    target: &OwnedFd,
    cgroup: &Cgroup,
    label: Option<&str>,
) -> Result<OwnedFd, Failure> {
    let step = || format!("mount cgroups on {}", mount.target.display());
    let set = mount.attributes.set | HARDENED;
    if cgroup.layout().is_none() {
        // A container without one sees none.
        let options = attach::options(&[("mode", "555")]);
        let empty =
            attach::new_filesystem("tmpfs", "cgroup", &options, set | attribute::READ_ONLY).step(step)?;
        return attach::attach(&empty, target).map(|()| empty).step(step);
    }
    if cgroup.layout().v1().is_empty() {
        let own = cgroup.v2_dir().unwrap_or_default();
        return bind(own, set).and_then(|tree| attach::attach(&tree, target).map(|()| tree)).step(step);
    }
    let mut options = vec![("mode", "755")];
    options.extend(label.map(|label| ("context", label)));
    let options = attach::options(&options);
    let folder = attach::new_filesystem("tmpfs", "cgroup", &options, HARDENED).step(step)?;
    attach::attach(&folder, target).step(step)?;
    for (name, links, dir) in hierarchies(cgroup) {
        place(&folder, &name, dir, set).step(|| format!("{} ({name})", step()))?;
        for link in links {
            rustix::fs::symlinkat(&name, &folder, &link).step(|| format!("{} ({link})", step()))?;
        }
    }
    if set & attribute::READ_ONLY != 0 {
        let read_only = Attributes { set: attribute::READ_ONLY, ..Attributes::default() };
        set_attributes(&folder, &read_only, false).step(step)?;
    }
    Ok(folder)
}

/// Name, names of single controllers that lead to it, and folder of every hierarchy.
pub(crate) fn hierarchies(cgroup: &Cgroup) -> Vec<(String, Vec<String>, PathBuf)> {
    let relative = cgroup.path();
    let relative = relative.trim_start_matches('/');
    let name_of = |dir: &std::path::Path| dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut all: Vec<_> = cgroup
        .layout()
        .v1()
        .iter()
        .map(|hierarchy| {
            let links =
                if hierarchy.controllers.len() > 1 { hierarchy.controllers.clone() } else { Vec::new() };
            (name_of(&hierarchy.dir), links, hierarchy.dir.join(relative))
        })
        .collect();
    if let (Some(root), Some(dir)) = (cgroup.layout().unified(), cgroup.v2_dir()) {
        all.push((name_of(root), Vec::new(), dir));
    }
    all
}

fn place(folder: &OwnedFd, name: &str, dir: PathBuf, set: u64) -> io::Result<()> {
    rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o755))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = rustix::fs::openat2(folder, name, flags, Mode::empty(), ResolveFlags::BENEATH)?;
    attach::attach(&bind(dir, set)?, &target)
}

fn bind(dir: PathBuf, set: u64) -> io::Result<OwnedFd> {
    let tree = attach::clone_path(&dir, false)?;
    // Nothing is ever mounted in there; and a slave of the host's mount could not be checkpointed.
    let propagation = Some(Propagation::Private);
    set_attributes(&tree, &Attributes { set, propagation, ..Attributes::default() }, false)?;
    Ok(tree)
}
