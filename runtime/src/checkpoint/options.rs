//! What a caller can ask of a checkpoint and of a restore, in runc's words.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use cleat_sys::cgroup::Cgroup;

/// What criu is told in both directions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CriuOptions {
    /// The program; without, `criu` is looked for in PATH.
    pub program: Option<PathBuf>,
    /// The folder of the images, made by a dump if it is missing.
    pub images: PathBuf,
    /// The folder of the log; the images' unless given.
    pub work: Option<PathBuf>,
    /// Established TCP connections are taken along.
    pub tcp_established: bool,
    /// Unix sockets may have a peer outside the container.
    pub external_unix_sockets: bool,
    /// The session and the terminal may be from outside the container.
    pub shell_job: bool,
    /// File locks are taken along.
    pub file_locks: bool,
    /// What a later image holds is removed from its parents.
    pub auto_dedup: bool,
    /// Pages stay with the dumping side until they are asked for (userfaultfd).
    pub lazy_pages: bool,
    /// How much criu makes of cgroups itself; its own default without.
    pub cgroups_mode: Option<CgroupsMode>,
}

/// How much of the cgroups' properties criu restores (`--manage-cgroups-mode`; criu.org/CGroups).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CgroupsMode {
    /// None, and no membership either.
    Ignore,
    /// Of cgroups that criu makes.
    Soft,
    /// Of all.
    Full,
    /// Of all; a cgroup that exists is an error.
    Strict,
}

/// What is asked of a dump alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpOptions {
    /// The container goes on afterwards; else it is killed by the dump.
    pub leave_running: bool,
    /// TCP connections that are not established yet are left out.
    pub tcp_skip_in_flight: bool,
    /// Unlinked files may be linked again for the time of the dump.
    pub link_remap: bool,
    /// Memory alone is dumped, and the container goes on.
    pub pre_dump: bool,
    /// The images of an earlier dump, relative to this one's.
    pub parent: Option<PathBuf>,
    /// Where pages go instead of into files.
    pub page_server: Option<PageServer>,
}

/// A page server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageServer {
    /// Name or number.
    pub address: String,
    /// TCP port.
    pub port: u16,
}

/// A container to checkpoint.
#[derive(Debug)]
pub struct Checkpoint<'a> {
    /// Its id.
    pub id: &'a str,
    /// Folder with its `config.json`.
    pub bundle: &'a Path,
    /// Its init, as the caller's pid namespace numbers it.
    pub pid: i32,
    /// Its cgroup.
    pub cgroup: &'a Cgroup,
    /// What its standard streams were at its creation, in the words of `/proc/<pid>/fd`: `pipe:[4711]`. Where that is not
    /// known, none: what they are now counts.
    pub streams: &'a [String],
    /// For criu.
    pub criu: &'a CriuOptions,
    /// For the dump.
    pub dump: &'a DumpOptions,
    /// Gets a zero byte when lazy pages can be asked for.
    pub status: Option<BorrowedFd<'a>>,
}

/// A container to restore. Its root filesystem is a folder that is ready to use.
#[derive(Debug)]
pub struct Restore<'a> {
    /// Its id.
    pub id: &'a str,
    /// Folder with its `config.json`.
    pub bundle: &'a Path,
    /// What takes the place of the pipes that its standard streams were.
    pub streams: [BorrowedFd<'a>; 3],
    /// systemd makes the cgroup (see [`crate::CreateOptions::systemd_cgroup`]).
    pub systemd_cgroup: bool,
    /// Another security profile than at the dump, as TYPE:NAME.
    pub lsm_profile: Option<&'a str>,
    /// Another security context of mounts than at the dump.
    pub lsm_mount_context: Option<&'a str>,
    /// For criu.
    pub criu: &'a CriuOptions,
}
