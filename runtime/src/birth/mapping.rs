//! User namespaces: those that hold the mapping of a mount's owners, in which nobody lives, and the container's own.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;

use cleat_sys::holder::Holder;
use cleat_sys::namespace;
use cleat_sys::process::{Cloned, exit_now};
use rustix::fs::{Mode, OFlags, fstat};

use super::channel::{Channel, Received};
use super::gate::{GO, Go};
use super::rootless;
use crate::Failure;
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::rootfs::Tenant;
use crate::spec::{IdMap, IdMaps, Mount, UserNamespace};

/// A container's user namespace.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Where it was found, for messages.
    pub(super) name: String,
    pub(crate) namespace: OwnedFd,
    /// How it maps ids to ours.
    pub(crate) maps: IdMaps,
}

impl Owner {
    /// Makes or opens the planned namespace; none when it is the caller's own.
    pub(super) fn of(planned: Option<&UserNamespace>) -> Result<Option<Self>, Failure> {
        match planned {
            None => Ok(None),
            Some(UserNamespace::New(maps)) => {
                let namespace = make(maps).step(|| "make a user namespace")?;
                Ok(Some(Self { name: "of the container".into(), namespace, maps: maps.clone() }))
            }
            Some(UserNamespace::At(path, maps)) => Self::at(path, maps.as_ref()),
        }
    }

    fn at(path: &Path, maps: Option<&IdMaps>) -> Result<Option<Self>, Failure> {
        let step = || format!("join namespace {}", path.display());
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let namespace = rustix::fs::open(path, flags, Mode::empty()).step(step)?;
        if is_own(&namespace)? {
            return Ok(None);
        }
        let maps = match maps {
            Some(maps) => maps.clone(),
            None => ask(&namespace).step(step)?,
        };
        Ok(Some(Self { name: path.display().to_string(), namespace, maps }))
    }

    /// Whether nobody in there may change groups. The caller owns the namespace.
    pub(super) fn has_fixed_groups(&self) -> Result<bool, Failure> {
        let step = || format!("look at user namespace {}", self.name);
        ask_in(&self.namespace, |procfs, pid| procfs.read(&format!("{pid}/setgroups")).step(step))
            .map(|text| text.trim() == "deny")
    }

    /// For what is made for the container outside.
    pub(super) fn tenant(&self) -> Tenant<'_> {
        Tenant { namespace: &self.namespace, maps: &self.maps }
    }

    /// The user namespace of the process `pid`, none when it is the caller's own.
    pub(super) fn of_process(pid: i32) -> Result<Option<Self>, Failure> {
        let step = || format!("look at the user namespace of process {pid}");
        let procfs = Procfs::open().step(step)?;
        let namespace = procfs.open_link(&PathBuf::from(format!("{pid}/ns/user"))).step(step)?;
        if is_own(&namespace)? {
            return Ok(None);
        }
        let maps = read_maps(&procfs, pid).step(step)?;
        Ok(Some(Self { name: format!("of process {pid}"), namespace, maps }))
    }
}

/// Whether it is the caller's own user namespace.
fn is_own(namespace: &OwnedFd) -> Result<bool, Failure> {
    let own = Procfs::open().and_then(|procfs| procfs.open_link(Path::new("self/ns/user")));
    let own = own.and_then(|own| Ok(fstat(own)?)).step(|| "look at the own user namespace")?;
    let found = fstat(namespace).step(|| "look at the namespace")?;
    Ok((own.st_dev, own.st_ino) == (found.st_dev, found.st_ino))
}

/// Mappings by the position of their mounts, without those that take the container's. To be made before a pid namespace
/// is joined: procfs numbers processes as the host does.
pub(super) fn make_all(mounts: &[Mount]) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let make = |mount: &Mount| {
        let step = || format!("map the owners of mount {}", mount.target.display());
        let maps = mount.owners.as_ref().and_then(|owners| owners.maps.as_ref());
        maps.map(make).transpose().step(step)
    };
    mounts.iter().map(make).collect()
}

/// A process is born in the namespace, since only such a process names it, and ends once it is held by a descriptor.
fn make(maps: &IdMaps) -> Result<OwnedFd, Failure> {
    let holder = Holder::new(namespace::USER).step(|| "make a user namespace")?;
    let procfs = Procfs::open().step(|| "open /proc")?;
    let file = |name: &str| PathBuf::from(format!("{}/{name}", holder.pid()));
    if rootless::is_needed() {
        map_as_user(&procfs, holder.pid(), maps)?;
    } else {
        procfs.write(&file("uid_map"), &maps.users.to_string()).step(|| "map users")?;
        procfs.write(&file("gid_map"), &maps.groups.to_string()).step(|| "map groups")?;
    }
    procfs.open_link(&file("ns/user")).step(|| "open the user namespace")
}

/// Maps ids of others by the programs that may (newuidmap(1)), and by the kernel's own leave the caller's ids alone
/// (user_namespaces(7), "Defining user and group ID mappings"): then nobody in there can drop a group.
fn map_as_user(procfs: &Procfs, pid: i32, maps: &IdMaps) -> Result<(), Failure> {
    let file = |name: &str| PathBuf::from(format!("{pid}/{name}"));
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if maps.users.is_one_of(own.0) && maps.groups.is_one_of(own.1) {
        procfs.write(&file("setgroups"), "deny").step(|| "give up changing groups")?;
        procfs.write(&file("uid_map"), &maps.users.to_string()).step(|| "map users")?;
        return procfs.write(&file("gid_map"), &maps.groups.to_string()).step(|| "map groups");
    }
    map_by_program("newuidmap", pid, &maps.users)?;
    map_by_program("newgidmap", pid, &maps.groups)
}

fn map_by_program(program: &str, pid: i32, map: &IdMap) -> Result<(), Failure> {
    let step = || format!("map ids by {program}");
    let ids = map.to_string();
    let ran =
        Command::new(program).arg(pid.to_string()).args(ids.split_ascii_whitespace()).output().step(step)?;
    if ran.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&ran.stderr);
    Err(Failure::because(step(), format!("{}: {}", ran.status, said.trim())))
}

/// The mappings of a namespace: a process has to be in it for the kernel to show them.
fn ask(namespace: &OwnedFd) -> Result<IdMaps, Failure> {
    ask_in(namespace, read_maps)
}

/// What `look` sees of a process in the namespace.
fn ask_in<T>(
    namespace: &OwnedFd,
    look: impl FnOnce(&Procfs, i32) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let step = || "ask for its mappings";
    let (ours, theirs) = Channel::pair().step(step)?;
    let (pid, pidfd) = match cleat_sys::process::fork().step(step)? {
        Cloned::Child => {
            drop(ours);
            let told = namespace::join(namespace, namespace::USER).and_then(|()| theirs.send(&GO, &[]));
            // Until the other side is closed, by its end at the latest.
            let waited = told.and_then(|()| theirs.receive::<Go>().map(drop));
            exit_now(waited.is_err().into())
        }
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
    };
    drop(theirs);
    let seen = match ours.receive::<Go>().step(step)? {
        Received::Message(..) => Procfs::open().step(step).and_then(|procfs| look(&procfs, pid)),
        Received::Closed => Err(Failure::because(step(), "it cannot be joined")),
    };
    drop(ours);
    cleat_sys::process::reap(&pidfd).step(step)?;
    seen
}

fn read_maps(procfs: &Procfs, pid: i32) -> Result<IdMaps, Failure> {
    let read = |name: &str| {
        let step = || format!("read {name}");
        let text = procfs.read(&format!("{pid}/{name}")).step(step)?;
        IdMap::parse(&text).ok_or_else(|| Failure::because(step(), "it is no mapping"))
    };
    Ok(IdMaps { users: read("uid_map")?, groups: read("gid_map")? })
}
