//! A pod's user namespace, and the network namespace that it owns, pinned before anything of the pod runs.
//!
//! A network namespace belongs to the user namespace of whoever makes it, and for ever: only when the pod's owns it can the
//! pod's root set it up and mount /sys. Whoever joins the one by its file needs the other by its file, too.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use cleat_network::Netns;
use cleat_sys::holder::Holder;
use cleat_sys::namespace;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::engine::error::{EngineError, Result};
use crate::engine::model::{IdRange, Mode, UserMapping};
use crate::engine::paths::PodPaths;
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;

/// Makes the namespaces of a pod with this mapping. Calls nothing but the kernel, on the caller's thread.
pub(super) fn make(shared: &Shared, pod: &Pod, mapping: &UserMapping, paths: &PodPaths) -> Result<()> {
    let object = || format!("pod {}", pod.id);
    if !shared.host.user_namespaces {
        return Err(EngineError::Unsupported {
            what: format!("the user namespace of {}", object()),
            why: "owners of image layers cannot be mapped here: Linux 5.19, a file system that maps owners below the \
                  image store, and user.max_user_namespaces above 0 are needed"
                .to_owned(),
        });
    }
    let failed = |error: io::Error| EngineError::step("make the user namespace", object(), &error);
    let has_network = pod.config.namespaces.network == Mode::Pod;
    let network = if has_network { namespace::NETWORK } else { 0 };
    let holder = Holder::new(namespace::USER | network).map_err(failed)?;
    let process = Path::new("/proc").join(holder.pid().to_string());
    fs::write(process.join("uid_map"), line(&mapping.users)).map_err(failed)?;
    fs::write(process.join("gid_map"), line(&mapping.groups)).map_err(failed)?;
    pin(&process.join("ns/user"), &paths.userns).map_err(failed)?;
    if has_network {
        Netns::adopt(&process.join("ns/net"), &paths.netns)
            .map_err(|error| EngineError::step("make the network namespace", object(), &error))?;
    }
    Ok(())
}

/// Unpins the namespace; absent is fine.
pub(super) fn unpin(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // EINVAL: no mount is there.
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    super::cleanup::absent_is_fine(fs::remove_file(path))
}

fn pin(namespace: &Path, path: &Path) -> io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o400).open(path)?;
    Ok(mount(Some(namespace), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// A line of `/proc/<pid>/uid_map`.
fn line(range: &IdRange) -> String {
    format!("{} {} {}\n", range.container_id, range.host_id, range.length)
}
