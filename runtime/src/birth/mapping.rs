//! User namespaces that nobody lives in: they hold the mapping of a mount's owners.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use cleat_sys::namespace;
use cleat_sys::process::{Clone, Cloned, clone3, exit_now};

use super::channel::Channel;
use super::gate::Go;
use crate::Failure;
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::spec::{IdMaps, Mount};

/// Mappings by the position of their mounts. To be made before a pid namespace is joined: procfs numbers processes as
/// the host does.
pub(super) fn make_all(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let make = |mount: &Mount| {
        let step = || format!("map the owners of mount {}", mount.target.display());
        mount.owners.as_ref().map(|owners| make(&owners.maps)).transpose().step(step)
    };
    mounts.iter().map(make).collect()
}

/// A process is born in the namespace, since only such a process names it, and ends once it is held by a descriptor.
fn make(maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = Channel::pair().step(|| "connect with a child")?;
    let how = Clone { namespaces: namespace::USER, ..Clone::default() };
    let (pid, pidfd) = match clone3(&how).step(|| "make a user namespace")? {
        Cloned::Child => {
            drop(ours);
            // Until the other side is closed, by its end at the latest.
            exit_now(theirs.receive::<Go>().is_err().into())
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    let namespace = hold(pid, maps);
    drop(ours);
    cleat_sys::process::reap(&pidfd).step(|| "wait for a child")?;
    namespace
}

fn hold(pid: i32, maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let procfs = Procfs::open().step(|| "open /proc")?;
    let file = |name: &str| PathBuf::from(format!("{pid}/{name}"));
    procfs.write(&file("uid_map"), &maps.users).step(|| "map users")?;
    procfs.write(&file("gid_map"), &maps.groups).step(|| "map groups")?;
    procfs.open_link(&file("ns/user")).step(|| "open the user namespace")
}
