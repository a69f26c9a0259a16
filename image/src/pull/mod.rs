//! Pulling: from a reference to an image in the store.
//!
//! ```text
//! pull(reference) ──▶ one task per (reference, credentials); every caller joins it
//!    manifest, configuration
//!    for each layer at once, one task per layer whoever asks for it:
//!       socket ─▶ compressed digest ─▶ pipe ─▶ decompress ─▶ diff id ─▶ unpack into tmp/
//!       meanwhile: what is unpacked on its way to the disk
//!    one syncfs, renames, one transaction
//! ```
//!
//! Callers come and go; the work goes on, so a client that gave up and asks again finds it further along.

mod engine;
mod error;
mod figures;
mod flight;
mod image;
mod layer;
mod limits;
mod login;
mod pipe;
mod progress;
mod refusal;
mod signatures;
mod transfer;
mod writeback;

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use engine::Engine;
pub use error::{LayerError, PullCause, PullError, PullFailure};
pub use figures::PullFigures;
use flight::{Flight, Flights, WhenAlone};
use image::{Outcome, Pull};
use layer::Layers;
pub use limits::Limits;
pub use login::{LoginCause, LoginError};
pub use progress::{LayerProgress, LayerState, PullProgress};
pub use refusal::{Fault, Refusal, Refusals};
use writeback::Writeback;

use crate::auth::AuthFiles;
use crate::policy::Policy;
use crate::reference::{Reference, shorten};
use crate::registries::{HostFolders, Registries};
use crate::registry::{Connections, Credentials};
use crate::store::{Image, Store};

/// Pulls images into one store. Clones share running pulls.
#[derive(Clone)]
pub struct Puller {
    engine: Arc<Engine>,
    images: Arc<Flights<(Reference, Option<Credentials>), PullProgress, Outcome>>,
}

/// One caller's part in a pull. Dropping it does not stop the pull.
pub struct PullHandle {
    flight: Flight<PullProgress, Outcome>,
    reference: Reference,
}

/// A pull's progress as one caller sees it.
pub struct PullWatch {
    state: watch::Receiver<flight::State<PullProgress, Outcome>>,
}

impl Puller {
    /// A puller; needs no runtime yet. What it takes to reach registries, the system's certificates among it, is read
    /// when the first pull needs it.
    #[must_use]
    pub fn new(store: Store, registries: Registries, limits: Limits) -> Self {
        let tracker = TaskTracker::new();
        let connections = Connections::new(limits.connect_timeout, limits.response_timeout, tracker.clone());
        let engine = Engine {
            store,
            registries: ArcSwap::from_pointee(registries),
            policy: ArcSwapOption::empty(),
            auth_files: ArcSwap::default(),
            host_folders: ArcSwap::default(),
            connections: Arc::new(connections),
            layers: Layers::new(tracker.clone()),
            writeback: Writeback::default(),
            places: Semaphore::new(limits.parallel_layers.clamp(1, Semaphore::MAX_PERMITS)),
            limits,
            tracker: tracker.clone(),
            stop: CancellationToken::new(),
            figures: figures::Counting::default(),
        };
        Self { engine: Arc::new(engine), images: Arc::new(Flights::new(tracker)) }
    }

    /// Use these registries for pulls that start from now on (configuration reloaded).
    pub fn set_registries(&self, registries: Registries) {
        self.engine.registries.store(Arc::new(registries));
    }

    /// Let pulls that start from now on bring in only what the policy accepts; without one, everything.
    pub fn set_policy(&self, policy: Option<Policy>) {
        self.engine.policy.store(policy.map(Arc::new));
    }

    /// Use the credentials in these files for pulls that come without their own; see [`crate::auth`]. A file may be absent,
    /// and is read by each pull anew.
    pub fn set_auth_files(&self, files: Vec<PathBuf>) {
        self.engine.auth_files.store(Arc::new(AuthFiles(files)));
    }

    /// Look into these folders for what is particular about a registry's host; see [`crate::registries`]. A folder may be
    /// absent, and is read by each pull anew.
    pub fn set_host_folders(&self, folders: Vec<PathBuf>) {
        self.engine.host_folders.store(Arc::new(HostFolders(folders)));
    }

    /// What a name as written may mean, in the order to try: see [`Registries::candidates`].
    pub fn candidates(&self, name: &str) -> Result<Vec<Reference>, PullError> {
        self.engine.registries.load().candidates(name).map_err(|error| PullError::new(shorten(name), error))
    }

    /// Start pulling, or join the pull of the same reference with the same credentials that is under way.
    /// Must be called on a tokio runtime.
    #[must_use]
    pub fn start(&self, reference: &Reference, credentials: Option<Credentials>) -> PullHandle {
        let key = (reference.clone(), credentials);
        let flight = self.images.join(&key, WhenAlone::GoOn, |reporter| {
            let (reference, credentials) = key.clone();
            let registries = self.engine.registries.load_full();
            let pull = Pull { engine: Arc::clone(&self.engine), registries, reference, credentials };
            pull.run(reporter)
        });
        PullHandle { flight, reference: reference.clone() }
    }

    /// [`Puller::start`] and [`PullHandle::wait`] in one.
    pub async fn pull(
        &self,
        reference: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Arc<Image>, Arc<PullError>> {
        self.start(reference, credentials).wait().await
    }

    /// What has been done so far.
    #[must_use]
    pub fn figures(&self) -> PullFigures {
        self.engine.figures.now()
    }

    /// What pushes share with pulls.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }

    /// Refuse new pulls, cancel the running ones and wait until all their tasks have ended and removed their files.
    pub async fn shutdown(&self) {
        self.engine.stop.cancel();
        self.engine.tracker.close();
        self.engine.tracker.wait().await;
    }
}

impl PullHandle {
    /// The pull's progress; changes at most ten times a second for each layer.
    #[must_use]
    pub fn progress(&self) -> PullWatch {
        PullWatch { state: self.flight.state.clone() }
    }

    /// Wait for the end of the pull. Safe to drop; the pull goes on.
    pub async fn wait(self) -> Result<Arc<Image>, Arc<PullError>> {
        let outcome = self.flight.wait().await;
        let lost = || PullError::new(self.reference.to_string(), PullCause::Lost);
        outcome.unwrap_or_else(|| Err(Arc::new(lost())))
    }
}

impl PullWatch {
    /// How far the pull is now.
    #[must_use]
    pub fn now(&mut self) -> PullProgress {
        self.state.borrow_and_update().progress.clone()
    }

    /// Wait until it is further than at the last [`PullWatch::now`]; false once the pull has ended.
    pub async fn changed(&mut self) -> bool {
        self.state.changed().await.is_ok() && self.state.borrow().outcome.is_none()
    }
}
