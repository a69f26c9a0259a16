//! Taking a checkpoint of a running container into an archive, in the form that CRI-O writes and `checkpointctl` reads.
//!
//! ```text
//! <bundle>/checkpoint/          made first, removed last, whatever happens
//!   checkpoint/   criu's images, written for the monitor by criu; the container runs on
//!   dump.log, stats-dump        what criu says
//!   rootfs-diff.tar, deleted.files      what the container changed of its image (`changes`)
//! ──archive──▶ <location>       with config.dump, spec.dump and network.status (`documents`); mode 0600, renamed into place
//! ```
//! The monitor has the runtime's library drive criu. Files are copied from the running container, after its memory.

mod archive;
mod changes;
mod documents;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cleat_conmon_proto::Request;
use cleat_image::Snapshotter;
use nix::errno::Errno;

use super::cleanup::absent_is_fine;
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::monitor::{MonitorError, Process, done};
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;
use crate::time::now_ns;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// The archive, absolute.
    pub location: PathBuf,
    /// How long it may take.
    pub limit: Option<Duration>,
}

/// criu's images, in the archive as in the folder.
const IMAGES: &str = "checkpoint";
/// What criu says of its work.
const LOG: &str = "dump.log";
const STATISTICS: &str = "stats-dump";
const CHANGED: &str = "rootfs-diff.tar";
const DELETED: &str = "deleted.files";

/// Takes the checkpoint. On failure nothing of it is left; the container runs on in any case.
pub(crate) async fn checkpoint_container(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    container: &Arc<Container>,
    process: Option<Arc<Process>>,
    order: Order,
) -> Result<()> {
    let began = Instant::now();
    let process = process.ok_or_else(|| EngineError::WrongState {
        action: "checkpoint",
        object: object(container),
        state: container.state.name(),
        remedy: "only running containers have processes",
    })?;
    let folder = shared.paths.container(&container.id).checkpoint();
    let work = folder.clone();
    shared.blocking(move |_| make_folder(&work)).await?;
    let taken = match dump(shared, container, &process, &folder).await {
        Ok(()) => {
            let (pod, container, folder) = (pod.clone(), container.clone(), folder.clone());
            let taken = Taken { pod, container, order, began, folder };
            shared.blocking(move |shared| taken.pack(shared)).await
        }
        Err(error) => Err(error),
    };
    let removed = shared.blocking(move |_| remove_folder(&folder)).await;
    taken.and(removed)
}

fn object(container: &Container) -> String {
    format!("container {}", container.id)
}

/// A folder that an earlier daemon left is nobody's.
fn make_folder(folder: &Path) -> Result<()> {
    remove_folder(folder)?;
    let made = fs::DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|error| EngineError::step("make a folder for the checkpoint", folder.display(), &error))
}

fn remove_folder(folder: &Path) -> Result<()> {
    absent_is_fine(fs::remove_dir_all(folder))
        .map_err(|error| EngineError::step("remove the checkpoint's folder", folder.display(), &error))
}

/// Has the monitor take the images.
async fn dump(shared: &Shared, container: &Container, process: &Process, folder: &Path) -> Result<()> {
    let failed = |error: MonitorError| refusal(container, &error);
    let request = Request::Checkpoint {
        bundle: shared.paths.container(&container.id).bundle,
        images: folder.join(IMAGES),
        work: folder.to_owned(),
    };
    let mut connection = process.connect().await.map_err(failed)?;
    let answer = connection.ask(&request, &[]).await.map_err(failed)?;
    done(answer).map_err(failed)
}

/// A host where there can be no checkpoint is told from a checkpoint that failed.
fn refusal(container: &Container, error: &MonitorError) -> EngineError {
    if error.errno() == Some(Errno::EOPNOTSUPP as i32) {
        let why =
            format!("{error}; install criu, in a version that `criu check` is content with on this kernel");
        return EngineError::Unsupported { what: format!("a checkpoint of {}", object(container)), why };
    }
    EngineError::step("take a checkpoint", object(container), error)
}

/// A checkpoint whose images are taken.
struct Taken {
    pod: Arc<Pod>,
    container: Arc<Container>,
    order: Order,
    began: Instant,
    folder: PathBuf,
}

impl Taken {
    /// Puts everything into the archive.
    fn pack(&self, shared: &Shared) -> Result<()> {
        self.check_time()?;
        let snapshot =
            shared.snapshots.get(self.container.id.as_str()).map_err(|error| self.failed(&error))?;
        let snapshot = snapshot.ok_or_else(|| self.failed(&std::io::Error::from(Errno::ENOENT)))?;
        let deleted = changes::write(&snapshot, &self.folder.join(CHANGED));
        let deleted = deleted.map_err(|error| self.failed(&error))?;
        let path = shared.paths.container(&self.container.id).config();
        let spec = fs::read(&path).map_err(|error| EngineError::step("read", path.display(), &error))?;
        let told =
            documents::Told { pod: &self.pod, container: &self.container, checkpointed_at_ns: now_ns() };
        let documents = documents::all(&told, &spec, &deleted).map_err(|error| self.failed(&error))?;
        let new = archive::beside(&self.order.location);
        self.place(&new, &documents).inspect_err(|_| {
            if let Err(error) = absent_is_fine(fs::remove_file(&new)) {
                tracing::warn!(path = %new.display(), %error, "an unfinished checkpoint could not be removed");
            }
        })
    }

    fn place(&self, new: &Path, documents: &[(&str, Vec<u8>)]) -> Result<()> {
        archive::write(new, &self.folder, documents).map_err(|error| self.failed(&error))?;
        self.check_time()?;
        fs::rename(new, &self.order.location).map_err(|error| self.failed(&error))
    }

    /// Whoever set a limit has been told that nothing comes of it.
    fn check_time(&self) -> Result<()> {
        match self.order.limit.filter(|limit| self.began.elapsed() >= *limit) {
            Some(limit) => Err(EngineError::Timeout {
                what: format!("the checkpoint of {}", object(&self.container)),
                limit,
                outcome: "; nothing is left of it",
            }),
            None => Ok(()),
        }
    }

    fn failed(&self, error: &(dyn std::error::Error + 'static)) -> EngineError {
        EngineError::step("write the checkpoint", self.order.location.display(), error)
    }
}

#[cfg(test)]
mod tests {
    use cleat_conmon_proto::Failure;

    use super::*;

    #[test]
    fn a_host_without_criu_is_told_from_a_dump_that_failed() {
        let container = documents::tests::container();
        let refused = |errno| {
            let failure =
                Failure { step: "look for criu".into(), reason: "it is not installed".into(), errno };
            refusal(&container, &MonitorError::Failed(failure))
        };
        let EngineError::Unsupported { why, .. } = refused(Some(Errno::EOPNOTSUPP as i32)) else {
            panic!("a host that cannot");
        };
        assert!(why.contains("not installed; install criu"), "{why}");
        assert!(matches!(refused(None), EngineError::Step { .. }));
    }
}
