//! One layer: transfer and unpacking at once, whoever asks for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::error::{LayerError, of_unpack};
use super::flight::{Flight, Flights, Reporter, WhenAlone};
use super::pipe::{Output, pipe};
use super::progress::LayerState;
use super::refusal::{Fault, Refusal, Refusals};
use super::transfer::{TransferEnd, transfer};
use super::{Engine, PullFailure};
use crate::reference::Digest;
use crate::registry::{Descriptor, Session};
use crate::store::{LayerStats, StagedLayer, Store};
use crate::unpack::{UnpackLimits, unpack_confined};

/// A layer is the same for two pulls if they expect the same from the same blob: a lying configuration spoils its own
/// image only.
type Key = (Digest, Digest);
/// Least time between two reports of progress: ten a second are more than a terminal shows.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// Where a layer's flight stands.
#[derive(Clone, Copy)]
pub(super) struct LayerStatus {
    pub(super) done_bytes: u64,
    pub(super) state: LayerState,
}

impl Default for LayerStatus {
    fn default() -> Self {
        Self { done_bytes: 0, state: LayerState::Waiting }
    }
}

pub(super) type LayerOutcome = Result<Arc<Unpublished>, Arc<LayerError>>;
pub(super) type LayerFlight = Flight<LayerStatus, LayerOutcome>;

/// All layers under way, and those that are unpacked and wait for their images.
pub(super) struct Layers {
    flights: Flights<Key, LayerStatus, LayerOutcome>,
    unpublished: Mutex<HashMap<Key, Weak<Unpublished>>>,
}

/// An unpacked layer on behalf of its pulls. If no pull publishes it, its files are removed on a blocking thread.
pub(super) struct Unpublished {
    layer: Option<StagedLayer>,
    tracker: TaskTracker,
}

impl Unpublished {
    pub(super) fn layer(&self) -> Option<&StagedLayer> {
        self.layer.as_ref()
    }
}

impl Drop for Unpublished {
    fn drop(&mut self) {
        let layer = self.layer.take();
        if let Ok(runtime) = Handle::try_current() {
            self.tracker.spawn_blocking_on(move || drop(layer), &runtime);
        }
    }
}

/// What a layer's flight works on.
struct Job {
    engine: Arc<Engine>,
    /// The sources, the one that gave the manifest first.
    sessions: Vec<Session>,
    blob: Descriptor,
    diff_id: Digest,
}

impl Layers {
    pub(super) fn new(tracker: TaskTracker) -> Self {
        Self { flights: Flights::new(tracker), unpublished: Mutex::default() }
    }

    /// Join the flight of this layer, or start one.
    pub(super) fn join(
        &self,
        engine: &Arc<Engine>,
        sessions: &[Session],
        blob: &Descriptor,
        diff_id: &Digest,
    ) -> LayerFlight {
        let key = (blob.digest.clone(), diff_id.clone());
        self.flights.join(&key, WhenAlone::GiveUp, |reporter| {
            let (sessions, blob, diff_id) = (sessions.to_vec(), blob.clone(), diff_id.clone());
            let job = Job { engine: Arc::clone(engine), sessions, blob, diff_id };
            let key = key.clone();
            async move {
                if let Some(layer) = job.engine.layers.waiting(&key) {
                    return Ok(layer);
                }
                tokio::select! {
                    biased;
                    () = job.engine.stop.cancelled() => Err(Arc::new(LayerError::Cancelled)),
                    outcome = job.run(&reporter) => {
                        let layer = outcome.map_err(Arc::new)?;
                        job.engine.layers.keep(key, &layer);
                        Ok(layer)
                    }
                }
            }
        })
    }

    /// A layer whose flight is over, while a pull still holds it.
    fn waiting(&self, key: &Key) -> Option<Arc<Unpublished>> {
        self.unpublished.lock().unwrap_or_else(PoisonError::into_inner).get(key)?.upgrade()
    }

    fn keep(&self, key: Key, layer: &Arc<Unpublished>) {
        let mut unpublished = self.unpublished.lock().unwrap_or_else(PoisonError::into_inner);
        unpublished.retain(|_, layer| layer.strong_count() > 0);
        unpublished.insert(key, Arc::downgrade(layer));
    }
}

/// How one attempt at a layer failed.
enum AttemptError {
    /// No source is left to ask.
    Refused(Refusals),
    /// What came, at least in part from the first source, is not the layer.
    Wrong(Refusals),
    /// It is no source's fault.
    Failed(LayerError),
}

/// Why a layer was not unpacked.
enum UnpackFailure {
    /// By the fault of whoever sent it.
    Source(Fault),
    /// By another's.
    Host(LayerError),
}

impl Job {
    async fn run(
        &self,
        reporter: &Reporter<LayerStatus, LayerOutcome>,
    ) -> Result<Arc<Unpublished>, LayerError> {
        // The semaphore is never closed, so the only way not to get a place is to be cancelled.
        let _place = self.engine.places.acquire().await.map_err(|_| LayerError::Cancelled)?;
        reporter.report(|status| status.state = LayerState::Pulling);
        let mut refusals = Refusals::default();
        let mut sessions = self.sessions.as_slice();
        loop {
            match self.attempt(sessions, reporter).await {
                Ok(layer) => return Ok(layer),
                Err(AttemptError::Failed(error)) => return Err(error),
                // What was unpacked came, at least in part, from a source that lies: begin anew with the next one.
                Err(AttemptError::Wrong(more)) if sessions.len() > 1 => {
                    tracing::warn!(blob = %self.blob.digest, error = %more, "trying the next source");
                    refusals.absorb(more);
                    sessions = &sessions[1..];
                }
                Err(AttemptError::Wrong(more) | AttemptError::Refused(more)) => {
                    refusals.absorb(more);
                    return Err(LayerError::Refused(refusals));
                }
            }
        }
    }

    async fn attempt(
        &self,
        sessions: &[Session],
        reporter: &Reporter<LayerStatus, LayerOutcome>,
    ) -> Result<Arc<Unpublished>, AttemptError> {
        let (input, output) = pipe();
        let (done, unpacking) = oneshot::channel();
        self.engine.tracker.spawn_blocking({
            let (store, limits) = (self.engine.store.clone(), self.engine.limits.unpack);
            let (blob, diff_id) = (self.blob.clone(), self.diff_id.clone());
            // A layer that nobody waits for any more is removed here, while this thread is still counted.
            move || drop(done.send(unpack(&store, output, &blob, diff_id, &limits)))
        });
        let show = throttled(|done| reporter.report(|status| status.done_bytes = done));
        let counted = AtomicU64::new(0);
        let report = |done: u64| {
            let before = counted.swap(done, Ordering::Relaxed);
            self.engine.figures.received(done - before);
            self.engine.writeback.received(done - before, &self.engine.store, &self.engine.tracker);
            show(done);
        };
        let transferred = transfer(sessions, &self.blob, input, &self.engine.limits, report).await;
        let unpacked = unpacking.await.map_err(|_| AttemptError::Failed(LayerError::Lost))?;
        let mut refusals = transferred.refusals;
        let source = match transferred.end {
            // Where the reader gave up first, its reason is the one.
            TransferEnd::Complete(source) | TransferEnd::Abandoned(source) => source,
            TransferEnd::Wrong => return Err(AttemptError::Wrong(refusals)),
            TransferEnd::Refused => return Err(AttemptError::Refused(refusals)),
        };
        let layer = unpacked.map_err(|failure| match failure {
            UnpackFailure::Host(error) => AttemptError::Failed(error),
            UnpackFailure::Source(fault) => {
                refusals.record(Refusal { source, entry: None, fault });
                AttemptError::Wrong(refusals)
            }
        })?;
        reporter
            .report(|status| *status = LayerStatus { done_bytes: self.blob.size, state: LayerState::Done });
        Ok(Arc::new(Unpublished { layer: Some(layer), tracker: self.engine.tracker.clone() }))
    }
}

/// On a blocking thread: unpack what comes out of the pipe and verify it.
fn unpack(
    store: &Store,
    source: Output,
    blob: &Descriptor,
    diff_id: Digest,
    limits: &UnpackLimits,
) -> Result<StagedLayer, UnpackFailure> {
    let staging = store.stage().map_err(|error| UnpackFailure::Host(error.into()))?;
    let copy = staging.blob_file(&blob.digest).map_err(|error| UnpackFailure::Host(error.into()))?;
    let source = source.copied_to(copy);
    let unpacked = unpack_confined(source, blob.size, staging.destination(), diff_id.algorithm(), limits);
    let unpacked = unpacked.map_err(|error| match of_unpack(&error) {
        PullFailure::Invalid => UnpackFailure::Source(Fault::Unpack(error)),
        _ => UnpackFailure::Host(LayerError::Unpack(error)),
    })?;
    if unpacked.diff_id != diff_id {
        let fault = Fault::DiffId { expected: diff_id, actual: unpacked.diff_id };
        return Err(UnpackFailure::Source(fault));
    }
    Ok(staging.complete(diff_id, LayerStats::of(&unpacked)))
}

/// `report`, called no more often than anybody can see.
fn throttled(report: impl Fn(u64)) -> impl Fn(u64) {
    let begun = Instant::now();
    let next_ms = AtomicU64::new(0);
    let interval_ms = u64::try_from(REPORT_INTERVAL.as_millis()).unwrap_or(u64::MAX);
    move |done| {
        let now_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now_ms >= next_ms.load(Ordering::Relaxed) {
            next_ms.store(now_ms + interval_ms, Ordering::Relaxed);
            report(done);
        }
    }
}
