//! The files of a container without a pod: of the program's own root while it runs, of its merged layers while it rests.
//!
//! An overlay must not be mounted twice where it is written to. Who writes to a resting container holds it meanwhile, and
//! its start is refused; whoever comes after its start began gets the program's own root, or is told to come again.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::Engine;
use super::container::{Container, ContainerState};
use super::error::{EngineError, Result};
use super::files::Root;
use super::model::Id;
use super::one::One;
use super::shared::Shared;

/// What is wanted of a container's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// To read them.
    Read,
    /// To write to them, too.
    Write,
}

/// A container's root, open.
pub(crate) struct ContainerFiles {
    /// The root.
    pub root: Root,
    /// Its program runs: what is mounted in it is seen.
    pub runs: bool,
    _hold: Option<Hold>,
}

/// Resting containers whose files are being written to.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<BTreeSet<Id>>>);

/// Ends with its drop.
struct Hold {
    written: Written,
    id: Id,
}

impl Written {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<Id>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hold(&self, id: &Id) -> Option<Hold> {
        let hold = || Hold { written: self.clone(), id: id.clone() };
        self.lock().insert(id.clone()).then(hold)
    }

    /// Refuses the start of a container whose files are being written to.
    pub(super) fn check_free(&self, id: &Id) -> Result<()> {
        if !self.lock().contains(id) {
            return Ok(());
        }
        Err(busy("start", id, "having files copied into it"))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.written.lock().remove(&self.id);
    }
}

fn busy(action: &'static str, id: &Id, state: &'static str) -> EngineError {
    EngineError::WrongState {
        action,
        object: format!("container {id}"),
        state,
        remedy: "try again when it is done",
    }
}

impl Engine {
    /// Opens a container's files.
    pub(crate) async fn files_of(&self, one: &One, access: Access) -> Result<ContainerFiles> {
        let id = one.container.id.clone();
        self.shared.blocking(move |shared| open(shared, &id, access)).await
    }
}

fn open(shared: &Shared, id: &Id, access: Access) -> Result<ContainerFiles> {
    // Held before the state is looked at: a start looks at what is held after its own state is seen.
    let hold = match access {
        Access::Read => None,
        Access::Write => Some(
            shared
                .written
                .hold(id)
                .ok_or_else(|| busy("copy files into", id, "having other files copied into it"))?,
        ),
    };
    let view = shared.board.view();
    let container = view.containers.get(id).ok_or_else(|| super::gone("container", id))?;
    if let Some(process) = view.processes.get(id) {
        let failed = |error| EngineError::step("open the root", format!("container {id}"), &error);
        let root = Root::new(process.open_root().map_err(failed)?);
        return Ok(ContainerFiles { root, runs: true, _hold: None });
    }
    check_rests(container)?;
    let merged = shared.snapshots.open(id.as_str(), access == Access::Write);
    let failed = |error| EngineError::step("merge the layers", format!("container {id}"), &error);
    Ok(ContainerFiles { root: Root::new(merged.map_err(failed)?), runs: false, _hold: hold })
}

fn check_rests(container: &Container) -> Result<()> {
    match &container.state {
        ContainerState::Created | ContainerState::Exited(_) => Ok(()),
        other => Err(busy("open the files of", &container.id, other.name())),
    }
}

impl Shared {
    /// The merged root of an image, for reading.
    pub(super) fn image_root(&self, image: &cleat_image::Image) -> Result<(Root, cleat_image::Rootfs)> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            EngineError::step("open the files", format!("image {}", image.id), error)
        };
        let rootfs = self.images.open_rootfs(image).map_err(|error| failed(&error))?;
        let folder =
            std::os::fd::AsFd::as_fd(&rootfs).try_clone_to_owned().map_err(|error| failed(&error))?;
        Ok((Root::new(folder), rootfs))
    }
}

/// Copies what is beneath `source` of a root into `target` of another, owners and modes included.
pub(super) fn copy_tree(
    from: &Root,
    source: &Path,
    to: &Root,
    target: &Path,
) -> std::result::Result<(), super::files::FilesError> {
    use std::os::fd::AsFd;

    use super::files::{Crossing, FilesError, Packer, Unpacking, unpack};
    let folder = from.folder(source)?;
    let (reader, writer) = std::io::pipe().map_err(FilesError::Archive)?;
    std::thread::scope(|scope| {
        let packing = scope.spawn(move || {
            let mut packer = Packer::new(std::io::BufWriter::with_capacity(64 << 10, writer), Crossing::No);
            packer.add_beneath(folder.as_fd(), Path::new(""))?;
            std::io::Write::flush(&mut packer.finish()?).map_err(FilesError::Write)
        });
        let unpacked = unpack(to, target, std::io::BufReader::new(reader), Unpacking::default());
        let packed =
            packing.join().unwrap_or_else(|_| Err(FilesError::Write(std::io::ErrorKind::Other.into())));
        // A reader that stopped makes the writer fail: its own reason is the one to tell.
        unpacked.and(packed)
    })
}
