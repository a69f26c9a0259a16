//! Committing a container without a pod: what it has changed of its image becomes a layer of a new image.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, PipeReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use cleat_image::unpack::UnpackLimits;
use cleat_image::{Commit, Image, Snapshotter};
use oci_spec::runtime::Spec;
use tokio::sync::oneshot;

use super::Engine;
use super::container::{Container, ContainerState};
use super::deeds::{Deed, DeedKind};
use super::error::{EngineError, Result, chain};
use super::files::{LayerError, write_layer};
use super::one::One;
use super::shared::Shared;
use super::steps;

/// Bytes written to the pipe at once.
const PIECE_BYTES: usize = 64 << 10;

impl Engine {
    /// Makes an image of what the container's image is and what it has changed of it; one that runs stands still meanwhile
    /// if `pauses`. The work goes on when the caller gives up: no container is left standing.
    pub(crate) async fn commit_one(&self, one: &One, pauses: bool, commit: Commit) -> Result<Arc<Image>> {
        let (engine, one) = (self.clone(), one.clone());
        let (reply, committed) = oneshot::channel();
        self.registry.spawn(async move {
            if reply.send(engine.commit(&one, pauses, commit).await).is_err() {
                tracing::debug!(container = %one.container.id, "a caller went away before its commit was done");
            }
        });
        let ended = |_| {
            let what = "a commit".to_owned();
            Err(EngineError::Cancelled { what, why: "the daemon is being stopped" })
        };
        committed.await.unwrap_or_else(ended)
    }

    async fn commit(&self, one: &One, pauses: bool, commit: Commit) -> Result<Arc<Image>> {
        let paused = pauses && self.stand_still(one).await?;
        let (container, order) = (one.container.clone(), commit.clone());
        let committed = self.shared.blocking(move |shared| make(shared, &container, &order)).await;
        if let Ok(image) = &committed {
            self.tell_committed(one, image, commit);
        }
        if paused {
            self.go_on(one).await;
        }
        committed
    }

    fn tell_committed(&self, one: &One, image: &Arc<Image>, commit: Commit) {
        let (container, group) = (one.container.id.clone(), one.group.clone());
        let (image, Commit { name, comment, .. }) = (image.clone(), commit);
        let kind = DeedKind::Committed { container, group, image, name, comment };
        self.shared.deeds.tell(|at_ns| Deed { at_ns, kind });
    }

    /// Pauses the container if it runs; whether that was to be done.
    async fn stand_still(&self, one: &One) -> Result<bool> {
        let runs = matches!(self.view().container(&one.container.id)?.state, ContainerState::Running { .. });
        if !runs {
            return Ok(false);
        }
        match self.pause_one(one).await {
            Ok(()) => Ok(true),
            // It has ended, or somebody else has paused it.
            Err(EngineError::WrongState { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn go_on(&self, one: &One) {
        let resumed = match self.resume_one(one).await {
            // The daemon is about to end, and its successor finds out by the freezer.
            Err(EngineError::Cancelled { .. }) => steps::resume(&self.shared, &one.container).await,
            // It has ended, or somebody else has let it go on.
            Err(EngineError::WrongState { .. } | EngineError::NotFound { .. }) => Ok(()),
            resumed => resumed,
        };
        if let Err(error) = resumed {
            tracing::error!(container = %one.container.id, error = %chain(&error), "a committed container still stands");
        }
    }
}

/// Has the layer written by one thread and taken in by another.
fn make(shared: &Shared, container: &Container, commit: &Commit) -> Result<Arc<Image>> {
    let object = || format!("container {}", container.id);
    let failed = |error: &(dyn std::error::Error + 'static)| EngineError::step("commit", object(), error);
    let missing = |kind, name: &str| EngineError::NotFound { kind, name: name.to_owned(), list: "ps -a" };
    let parent = shared.images.resolve(&container.image.id);
    let parent = parent.ok_or_else(|| missing("image", &container.image.id))?;
    let snapshot = shared.snapshots.get(container.id.as_str()).map_err(|error| failed(&error))?;
    let snapshot = snapshot.ok_or_else(|| missing("container", container.id.as_str()))?;
    let hidden = shared.mount_points(container)?;
    let (reader, writer) = io::pipe().map_err(|error| failed(&error))?;
    thread::scope(|scope| {
        let (sender, outcome) = mpsc::channel();
        scope.spawn(move || {
            let written = write_layer(&snapshot, &hidden, BufWriter::with_capacity(PIECE_BYTES, writer));
            if sender.send(written).is_err() {
                tracing::debug!("a layer was refused before it was whole");
            }
        });
        let packed = Packed { pipe: reader, outcome: Some(outcome) };
        let limits = UnpackLimits::default();
        shared.images.commit(&parent, packed, commit, &limits).map_err(|error| failed(&error))
    })
}

/// A layer on its way: it ends well only if its writer did, for half an archive may look like a whole one.
struct Packed {
    pipe: PipeReader,
    /// Until it is told, which is after the pipe is closed.
    outcome: Option<mpsc::Receiver<std::result::Result<(), LayerError>>>,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.pipe.read(buffer)?;
        if length > 0 || buffer.is_empty() {
            return Ok(length);
        }
        match self.outcome.take().map(|outcome| outcome.recv()) {
            None | Some(Ok(Ok(()))) => Ok(0),
            Some(Ok(Err(error))) => Err(io::Error::other(error)),
            Some(Err(broken)) => Err(io::Error::other(broken)),
        }
    }
}

impl Shared {
    /// Where something is mounted in a container that its client has not asked for: none of its changes. Absolute inside.
    pub(super) fn mount_points(&self, container: &Container) -> Result<BTreeSet<Vec<u8>>> {
        let path = self.paths.container(&container.id).config();
        let specification = Spec::load(&path)
            .map_err(|error| EngineError::step("read the specification", path.display(), &error))?;
        let asked = |path: &Path| container.config.mounts.iter().any(|mount| mount.destination == path);
        let ours = specification.mounts().iter().flatten().map(oci_spec::runtime::Mount::destination);
        Ok(ours.filter(|path| !asked(path)).map(|path| path.as_os_str().as_bytes().to_vec()).collect())
    }
}
