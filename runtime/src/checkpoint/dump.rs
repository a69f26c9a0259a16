//! Taking a checkpoint.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cleat_sys::cgroup::{Cgroup, Mode};
use cleat_sys::process::Clone;
use rustix::fs::OFlags;

use super::criu::{Criu, Program};
use super::options::Checkpoint;
use super::request::{self, External, Found};
use super::rpc::{Features, Kind, Notify, Request};
use super::{DESCRIPTORS, NULL, forget, plan, verdict};
use crate::Failure;
use crate::failure::Step;
use crate::procfs::Procfs;
use crate::rootfs::{self, Tree};
use crate::spec::Plan;

const STEP: &str = "checkpoint the container";

/// Takes the checkpoint. On failure the container runs on.
pub(super) fn dump(asked: &Checkpoint<'_>) -> Result<(), Failure> {
    let program = Program::find(asked.criu.program.as_deref())?;
    program.check()?;
    require_features(asked, &program)?;
    check_freezer(asked.cgroup)?;
    let plan = plan(asked.id, asked.bundle, false)?;
    // Root of a user namespace reaches into the folder, by criu's descriptors alone, when it is restored.
    let mode = if plan.namespaces.user.is_some() { 0o711 } else { 0o700 };
    let images = make_folder(&asked.criu.images, mode)?;
    let work = asked.criu.work.as_deref().map(|path| make_folder(path, 0o700)).transpose()?;
    check_parent(&images, asked)?;
    let found = look(asked, &plan, &images, work.as_ref())?;
    if !asked.dump.pre_dump {
        keep_streams(asked)?;
    }
    let kind = if asked.dump.pre_dump { Kind::PreDump } else { Kind::Dump };
    let options = Some(request::dump(asked, &plan, &found));
    let request = Request { kind: kind.into(), options, ..Request::default() };
    let log = asked.criu.work.as_ref().unwrap_or(&asked.criu.images).join(request::DUMP_LOG);
    forget(&log)?;
    let criu = start(&program)?;
    let answer = criu.ask(&request, |point, _| hear(asked, point));
    // After a first dump it waits for the next one, and takes our end for a failure.
    let ended = criu.finish()?;
    verdict(answer, kind, &log, STEP)?;
    if ended || asked.dump.pre_dump {
        return Ok(());
    }
    Err(Failure::because(STEP, "criu failed after its work was done"))
}

/// The folder, made if it is missing. Nobody else may list it: it holds the container's memory.
pub(super) fn make_folder(path: &Path, mode: u32) -> Result<OwnedFd, Failure> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .step(|| format!("make folder {}", path.display()))?;
    open_folder(path)
}

/// criu takes a parent that is missing for none.
fn check_parent(images: &OwnedFd, asked: &Checkpoint<'_>) -> Result<(), Failure> {
    let Some(parent) = &asked.dump.parent else { return Ok(()) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(images, parent, flags, rustix::fs::Mode::empty());
    opened.map(drop).step(|| format!("open the earlier images {}", parent.display()))
}

pub(super) fn open_folder(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).step(|| format!("open {}", path.display()))
}

/// In a session of its own: who interrupts us does not interrupt a dump, which would leave processes half examined.
fn start(program: &Program) -> Result<Criu, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null").step(|| "open /dev/null")?;
    let quiet = || {
        let step = || "leave the caller's session";
        rustix::process::setsid().step(step)?;
        (0..3).try_for_each(|number| cleat_sys::descriptors::make_standard_stream(&null, number).step(step))
    };
    Criu::start(program, &Clone::default(), &[], quiet)
}

fn require_features(asked: &Checkpoint<'_>, program: &Program) -> Result<(), Failure> {
    let (memory, lazy) = (asked.dump.pre_dump, asked.criu.lazy_pages);
    if !memory && !lazy {
        return Ok(());
    }
    let wanted = Features { memory_tracking: memory.then_some(true), lazy_pages: lazy.then_some(true) };
    let request = Request { kind: Kind::FeatureCheck.into(), features: Some(wanted), ..Request::default() };
    let criu = start(program)?;
    let answer = criu.ask(&request, |_, _| Ok(()));
    criu.finish()?;
    let has = answer?.features.unwrap_or_default();
    let missing = |wanted: bool, has: Option<bool>| wanted && has != Some(true);
    let step = "ask criu for its features";
    if missing(memory, has.memory_tracking) {
        return Err(Failure::because(step, "with this kernel it cannot track memory, as --pre-dump needs"));
    }
    if missing(lazy, has.lazy_pages) {
        return Err(Failure::because(step, "with this kernel it has no --lazy-pages"));
    }
    Ok(())
}

/// Beside v1 hierarchies criu freezes by the v1 freezer, and a pause of ours is one of the cgroup2 hierarchy, of which it
/// knows nothing there: the processes would not do what it asks them to.
fn check_freezer(cgroup: &Cgroup) -> Result<(), Failure> {
    let step = || format!("look whether cgroup {} is paused", cgroup.path());
    if cgroup.layout().mode() == Mode::Hybrid && cgroup.is_paused().step(step)? {
        return Err(Failure::because(
            STEP,
            "it is paused by the cgroup2 freezer, which criu does not use beside cgroup v1; resume it first",
        ));
    }
    Ok(())
}

fn look(
    asked: &Checkpoint<'_>,
    plan: &Plan,
    images: &OwnedFd,
    work: Option<&OwnedFd>,
) -> Result<Found, Failure> {
    let namespaces = plan.namespaces.join.iter().map(|(kind, path)| {
        let found = fs::metadata(path).step(|| format!("look at namespace {}", path.display()))?;
        Ok((*kind, found.ino()))
    });
    let root = root_of(asked.pid)?;
    let externals = request::externals(plan, &hierarchies(asked.cgroup));
    Ok(Found {
        images: images.as_raw_fd(),
        work: work.map(AsRawFd::as_raw_fd),
        externals: externals.into_iter().filter_map(|external| mounted(external, &root)).collect(),
        namespaces: namespaces.collect::<Result<_, Failure>>()?,
        freezer: asked.cgroup.dir("freezer").ok().map(|folder| folder.to_string_lossy().into_owned()),
    })
}

/// The cgroup's folders, as a cgroup mount has them.
pub(super) fn hierarchies(cgroup: &Cgroup) -> Vec<(String, PathBuf)> {
    if cgroup.layout().v1().is_empty() {
        return cgroup.v2_dir().map(|folder| (String::new(), folder)).into_iter().collect();
    }
    rootfs::hierarchies(cgroup).into_iter().map(|(name, _, folder)| (name, folder)).collect()
}

/// The root of the container's init, which is a folder of its mount namespace.
fn root_of(pid: i32) -> Result<Tree, Failure> {
    let step = || "open the container's root";
    let procfs = Procfs::open().step(step)?;
    procfs.open_link(format!("{pid}/root").as_ref()).map(Tree::new).step(step)
}

/// The mount with the place that it really has, symbolic links followed; none when there is nothing, or when a folder
/// is hidden, which is no mount of the host's.
fn mounted(external: External, root: &Tree) -> Option<External> {
    let found = root.find(&external.place).ok()?;
    if external.name == NULL && rootfs::is_folder(&found).ok()? {
        return None;
    }
    let place = fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
    Some(External { place, ..external })
}

/// Writes down what the standard streams were, for the restore that gives others in their place.
fn keep_streams(asked: &Checkpoint<'_>) -> Result<(), Failure> {
    let path = asked.criu.images.join(DESCRIPTORS);
    let step = || format!("write {}", path.display());
    let now = |number| fs::read_link(format!("/proc/{}/fd/{number}", asked.pid)).unwrap_or_default();
    let text = match asked.streams {
        [] => serde_json::to_vec(&[now(0), now(1), now(2)]),
        known => serde_json::to_vec(known),
    };
    let text = text.step(step)?;
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).step(step)?;
    file.write_all(&text).step(step)
}

/// Of all points of a dump one concerns us: pages can be asked for.
fn hear(asked: &Checkpoint<'_>, point: &Notify) -> Result<(), Failure> {
    match (point.script.as_deref(), asked.status) {
        (Some("status-ready"), Some(status)) => {
            rustix::io::write(status, &[0]).map(drop).step(|| "tell --status-fd that pages can be asked for")
        }
        _ => Ok(()),
    }
}
