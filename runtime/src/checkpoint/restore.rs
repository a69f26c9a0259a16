//! Making a container anew from a checkpoint.
//!
//! ```text
//! 1 cgroup with its limits
//! 2 mount points                 in a mount namespace that goes again
//! 3 criu, born in the cgroup     in a mount namespace of its own, where the root filesystem is a mount
//! 4 it restores                  init becomes our child; hooks as for a creation
//! ```
//! No mount is made in the host's namespace: whatever happens, none is left there.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use cleat_sys::cgroup::{Cgroup, Layout};
use cleat_sys::namespace;
use cleat_sys::process::Clone;

use super::criu::{Criu, Program};
use super::dump::{hierarchies, make_folder, open_folder};
use super::options::Restore;
use super::request::{self, Stage};
use super::rpc::{CgroupRoot, Kind, Notify, Request};
use super::{DESCRIPTORS, forget, plan, verdict};
use crate::birth::{self, read_json};
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::spec::Plan;
use crate::{Failure, HookState, Target, cgroups, hooks, rootfs};

/// A restored container.
#[derive(Debug)]
pub struct Restored {
    /// Its init in the caller's pid namespace: a child of the caller's, who has to reap it.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master side of its terminal.
    pub console: Option<OwnedFd>,
    /// What later requests on it need.
    pub target: Target,
}

/// criu at its start, and the folders that it is to find.
struct Started {
    criu: Criu,
    images: OwnedFd,
    work: Option<OwnedFd>,
}

/// What criu tells while it works.
#[derive(Default)]
struct Heard {
    pid: Option<i32>,
    console: Option<OwnedFd>,
}

/// Makes the container. On failure nothing is left of it.
pub(super) fn restore(asked: &Restore<'_>) -> Result<Restored, Failure> {
    let program = Program::find(asked.criu.program.as_deref())?;
    program.check()?;
    let mut plan = plan(asked.id, asked.bundle, asked.systemd_cgroup)?;
    let root = &plan.root.path;
    plan.root.path = fs::canonicalize(root).step(|| format!("find {}", root.display()))?;
    let streams = read_json(&asked.criu.images.join(DESCRIPTORS))?;
    let namespaces = open_namespaces(&plan)?;
    rootfs::make_places(&plan)?;
    let layout = Layout::detect().step(|| "look at the host's cgroups")?;
    let (cgroup, scope) = birth::cgroup_of(&plan, &layout)?;
    // Held until init is in the scope.
    let _placeholder = birth::make_cgroup(&cgroup, scope)?;
    let run = || {
        cgroups::limit(&cgroup, &plan.resources)?;
        let Started { criu, images, work } = start(asked, &plan, &program, &cgroup, &namespaces)?;
        let stage = Stage {
            images: images.as_raw_fd(),
            work: work.as_ref().map(AsRawFd::as_raw_fd),
            externals: request::externals(&plan, &hierarchies(&cgroup)),
            root: plan.root.path.to_string_lossy().into_owned(),
            namespaces: namespaces.iter().map(|(kind, file)| (*kind, file.as_raw_fd())).collect(),
            streams,
            cgroup_roots: cgroup_roots(criu.pid)?,
        };
        converse(asked, &plan, criu, &stage, &cgroup)
    };
    run().map_err(|failure| birth::abandon(&cgroup, None, failure))
}

/// The namespaces that restored processes get by descriptor.
fn open_namespaces(plan: &Plan) -> Result<Vec<(u64, OwnedFd)>, Failure> {
    if plan.namespaces.join.iter().any(|(kind, _)| *kind == namespace::CGROUP) {
        return Err(Failure::because("check linux.namespaces", "criu cannot join a cgroup namespace"));
    }
    let inherited = plan.namespaces.join.iter().filter(|(kind, _)| request::key_of(*kind).is_some());
    inherited
        .map(|(kind, path)| {
            let file = File::open(path).step(|| format!("open namespace {}", path.display()))?;
            // Above the standard streams, which will be replaced.
            let file = rustix::io::fcntl_dupfd_cloexec(&file, 3).step(|| "copy a namespace's descriptor")?;
            Ok((*kind, file))
        })
        .collect()
}

/// Starts criu in a mount namespace of its own, whose mounts nobody else sees: the root filesystem has to be a mount for
/// it, and it mounts in its working folder, which therefore is opened there too.
fn start(
    asked: &Restore<'_>,
    plan: &Plan,
    program: &Program,
    cgroup: &Cgroup,
    namespaces: &[(u64, OwnedFd)],
) -> Result<Started, Failure> {
    let born = || {
        rootfs::mount_root_on_itself(plan)?;
        let images = open_folder(&asked.criu.images)?;
        let work = asked.criu.work.as_deref().map(|path| make_folder(path, 0o700)).transpose()?;
        Ok(Started { criu: born_in(cgroup, asked.streams, program, namespaces)?, images, work })
    };
    rootfs::in_workshop(born).step(|| "work in a mount namespace of its own")?
}

/// Starts criu where the restored processes will be: they are born in its cgroup, and have its streams.
fn born_in(
    cgroup: &Cgroup,
    streams: [BorrowedFd<'_>; 3],
    program: &Program,
    namespaces: &[(u64, OwnedFd)],
) -> Result<Criu, Failure> {
    let folder = cgroup.v2_dir_fd().step(|| "open the container's cgroup")?;
    let how = Clone { cgroup: folder.as_ref().map(OwnedFd::as_fd), ..Clone::default() };
    let inherited: Vec<_> = namespaces.iter().map(|(_, file)| file.as_fd()).collect();
    // Above those that they will replace.
    let copies = streams.map(|stream| rustix::io::fcntl_dupfd_cloexec(stream, 3));
    let prepare = || {
        cleat_sys::process::die_with_parent().step(|| "tie criu to its caller")?;
        cgroup.join_self().step(|| format!("join cgroup {}", cgroup.path()))?;
        (0..).zip(copies).try_for_each(|(number, stream)| {
            let step = || format!("set up stream {number}");
            cleat_sys::descriptors::make_standard_stream(&stream.step(step)?, number).step(step)
        })
    };
    Criu::start(program, &how, &inherited, prepare)
}

/// In which cgroup of each hierarchy criu is.
fn cgroup_roots(criu: i32) -> Result<Vec<CgroupRoot>, Failure> {
    let step = || "look at criu's cgroups";
    let text = Procfs::open().and_then(|procfs| procfs.read(&format!("{criu}/cgroup"))).step(step)?;
    Ok(request::cgroup_roots(&text))
}

fn converse(
    asked: &Restore<'_>,
    plan: &Plan,
    criu: Criu,
    stage: &Stage,
    cgroup: &Cgroup,
) -> Result<Restored, Failure> {
    let step = "restore the container";
    let options = Some(request::restore(asked, plan, stage));
    let request = Request { kind: Kind::Restore.into(), options, ..Request::default() };
    let log = asked.criu.work.as_ref().unwrap_or(&asked.criu.images).join(request::RESTORE_LOG);
    forget(&log)?;
    let mut heard = Heard::default();
    let answer = criu.ask(&request, |point, descriptor| heard.hear(asked, plan, point, descriptor));
    let ended_well = criu.finish()?;
    verdict(answer, Kind::Restore, &log, step)?;
    let pid = heard.pid.filter(|_| ended_well);
    let pid = pid.ok_or_else(|| Failure::because(step, "criu failed after its work was done"))?;
    // It is our child: until we reap it the number is its own.
    let pidfd = cleat_sys::process::open_pidfd(pid).step(|| "open the restored init")?;
    let target = Target::reopen(&pidfd, cgroup, plan.seccomp.as_ref())?;
    Ok(Restored { pid, pidfd, console: heard.console, target })
}

impl Heard {
    fn hear(
        &mut self,
        asked: &Restore<'_>,
        plan: &Plan,
        point: &Notify,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), Failure> {
        match point.script.as_deref() {
            Some("setup-namespaces") => return run_hooks(asked, plan, point.pid),
            Some("post-restore") => self.pid = point.pid,
            Some("orphan-pts-master") => self.console = descriptor,
            _ => {}
        }
        Ok(())
    }
}

/// What engines put into a new network namespace, they put there now; init is not there yet.
fn run_hooks(asked: &Restore<'_>, plan: &Plan, pid: Option<i32>) -> Result<(), Failure> {
    let state = HookState {
        oci_version: crate::OCI_VERSION,
        id: asked.id,
        status: "creating",
        pid,
        bundle: asked.bundle,
        annotations: &plan.annotations,
    };
    hooks::run("createRuntime", &plan.hooks.create_runtime, &state, None)
}
