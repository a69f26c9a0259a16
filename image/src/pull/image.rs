//! One image: manifest, configuration, all layers at once, and into the store.

use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use tokio::task::JoinSet;

use super::Engine;
use super::error::{PullError, Shared};
use super::flight::Reporter;
use super::layer::{LayerFlight, Unpublished};
use super::progress::{LayerProgress, LayerState, PullProgress};
use crate::reference::{Digest, Reference};
use crate::registries::{Registries, Source};
use crate::registry::{
    Credentials, Descriptor, Document, Fetched, ImageManifest, ManifestError, Platform, RegistryError,
    Session, choose, parse_manifest,
};
use crate::store::{Image, LayerLease, NewImage, NewLayer};

/// Largest configuration in bytes.
const MAX_CONFIG_BYTES: u64 = 4 << 20;

pub(super) type Outcome = Result<Arc<Image>, Shared>;
type Progress = Arc<Reporter<PullProgress, Outcome>>;

/// One pull.
pub(super) struct Pull {
    pub(super) engine: Arc<Engine>,
    pub(super) registries: Arc<Registries>,
    pub(super) reference: Reference,
    pub(super) credentials: Option<Credentials>,
}

/// What a reference turned out to stand for.
struct Resolved {
    /// The index, or the manifest where there is none.
    target: Digest,
    manifest: ImageManifest,
    fetched: Fetched,
    /// The source that answered, then those not tried yet.
    sessions: Vec<Session>,
}

/// A layer that is in the store already, or its flight's result.
type Ready = Option<Arc<Unpublished>>;

impl Pull {
    /// The whole pull, step by step.
    pub(super) async fn run(self, reporter: Reporter<PullProgress, Outcome>) -> Outcome {
        let progress = Arc::new(reporter);
        tokio::select! {
            biased;
            () = self.engine.stop.cancelled() => Err(Arc::new(PullError::Cancelled)),
            outcome = self.steps(&progress) => outcome,
        }
    }

    async fn steps(&self, progress: &Progress) -> Outcome {
        let sources = self.registries.sources(&self.reference).map_err(PullError::from)?;
        let resolved = self.resolve(sources).await?;
        let (config, diff_ids) = self.config(&resolved).await?;
        let lease = Arc::new(self.lease(diff_ids.clone()).await?);
        progress.report(|progress| {
            progress.target = Some(resolved.target.clone());
            let layers = resolved.manifest.layers.iter().zip(&diff_ids);
            progress.layers = layers.map(|(blob, diff_id)| initial(blob, lease.holds(diff_id))).collect();
        });
        let layers = self.layers(&resolved, &diff_ids, &lease, progress).await;
        let outcome = match layers {
            Ok(layers) => self.publish(resolved, config, diff_ids, layers).await.map_err(Arc::new),
            Err(error) => Err(error),
        };
        drop(lease);
        if outcome.is_err() {
            self.collect_unused().await;
        }
        outcome
    }

    /// Ask the sources in turn for the manifest. The last one's failure is reported: that is the registry itself.
    async fn resolve(&self, sources: Vec<Source>) -> Result<Resolved, PullError> {
        let credentials =
            |source: &Source| self.credentials.clone().filter(|_| self.may_have_credentials(source));
        let client = &self.engine.client;
        let sessions: Vec<_> = sources
            .into_iter()
            .map(|source| Session::new(client.clone(), source.clone(), credentials(&source)))
            .collect();
        let mut last = None;
        for (at, session) in sessions.iter().enumerate() {
            match self.resolve_at(session).await {
                Ok((target, manifest, fetched)) => {
                    return Ok(Resolved { target, manifest, fetched, sessions: sessions[at..].to_vec() });
                }
                Err(error) => {
                    tracing::debug!(reference = %self.reference, host = session.host(), %error, "a source failed");
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| PullError::Lost(self.reference.to_string())))
    }

    /// The client's credentials are for the registry it named: a mirror on another host does not get them.
    fn may_have_credentials(&self, source: &Source) -> bool {
        source.reference.registry() == self.reference.registry() || !source.mirror
    }

    async fn resolve_at(&self, session: &Session) -> Result<(Digest, ImageManifest, Fetched), PullError> {
        let reference = &session.source().reference;
        let top = self.fetch(session, &reference.tag_or_digest(), reference.digest()).await?;
        let target = top.digest.clone();
        let mut document = self.parse(session, &top)?;
        let mut fetched = top;
        // An index may hold indexes, and those hold manifests.
        for _ in 0..2 {
            let entries = match document {
                Document::Image(manifest) => return Ok((target, manifest, fetched)),
                Document::Index(entries) => entries,
            };
            let platform = Platform::host();
            let entry = choose(&entries, &platform).ok_or_else(|| PullError::NoPlatform {
                reference: self.reference.clone(),
                platform: platform.into(),
            })?;
            fetched = self.fetch(session, &entry.digest.to_string(), Some(&entry.digest)).await?;
            if fetched.bytes.len() as u64 != entry.size {
                let (expected, actual) = (entry.size, fetched.bytes.len() as u64);
                return Err(self
                    .failed(session, RegistryError::Size { what: entry.digest.clone(), expected, actual }));
            }
            document = self.parse(session, &fetched)?;
            if entry.is_index() != matches!(document, Document::Index(_)) {
                let source = ManifestError::Ambiguous("its type and its index's differ");
                return Err(
                    self.failed(session, RegistryError::Manifest { what: entry.digest.to_string(), source })
                );
            }
        }
        match document {
            Document::Image(manifest) => Ok((target, manifest, fetched)),
            Document::Index(_) => {
                let what = self.reference.to_string();
                Err(self.failed(session, RegistryError::Manifest { what, source: ManifestError::Nested }))
            }
        }
    }

    async fn fetch(
        &self,
        session: &Session,
        wanted: &str,
        digest: Option<&Digest>,
    ) -> Result<Fetched, PullError> {
        let fetched = self.engine.limits.retry(session.source(), || session.manifest(wanted, digest)).await;
        fetched.map_err(|source| self.failed(session, source))
    }

    fn parse(&self, session: &Session, fetched: &Fetched) -> Result<Document, PullError> {
        parse_manifest(&fetched.bytes, fetched.content_type.as_deref()).map_err(|source| {
            self.failed(session, RegistryError::Manifest { what: self.reference.to_string(), source })
        })
    }

    fn failed(&self, session: &Session, source: RegistryError) -> PullError {
        PullError::Registry {
            reference: self.reference.clone(),
            host: session.host().to_owned(),
            source: source.into(),
        }
    }

    /// The configuration's bytes, verified, and the diff ids it lists, one for each layer of the manifest.
    async fn config(&self, resolved: &Resolved) -> Result<(Vec<u8>, Vec<Digest>), PullError> {
        let blob = &resolved.manifest.config;
        let mut result = Err(PullError::Lost(self.reference.to_string()));
        for session in &resolved.sessions {
            let fetched = self
                .engine
                .limits
                .retry(session.source(), || session.small_blob(blob, MAX_CONFIG_BYTES))
                .await;
            result = fetched.map_err(|source| self.failed(session, source));
            if result.is_ok() {
                break;
            }
        }
        let bytes = result?;
        let wrong = |what: String| PullError::Config { reference: self.reference.clone(), what };
        let config: ImageConfiguration = serde_json::from_slice(&bytes)
            .map_err(|error| wrong(format!("it is not a configuration: {error}")))?;
        let diff_ids = config.rootfs().diff_ids().iter().map(|text| Digest::parse(text));
        let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>().map_err(|error| wrong(error.to_string()))?;
        let (listed, layers) = (diff_ids.len(), resolved.manifest.layers.len());
        if listed != layers {
            return Err(wrong(format!("it lists {listed} layers, the manifest {layers}")));
        }
        Ok((bytes, diff_ids))
    }

    async fn lease(&self, diff_ids: Vec<Digest>) -> Result<LayerLease, PullError> {
        let store = self.engine.store.clone();
        let leased = self.engine.tracker.spawn_blocking(move || store.lease(&diff_ids)).await;
        Ok(leased.map_err(|_| PullError::Lost(self.reference.to_string()))??)
    }

    /// All layers at once. The first failure ends the wait; flights that others wait for too go on.
    async fn layers(
        &self,
        resolved: &Resolved,
        diff_ids: &[Digest],
        lease: &LayerLease,
        progress: &Progress,
    ) -> Result<Vec<Ready>, Shared> {
        let mut waiting = JoinSet::new();
        for (at, (blob, diff_id)) in resolved.manifest.layers.iter().zip(diff_ids).enumerate() {
            if !lease.holds(diff_id) {
                let flight = self.engine.layers.join(&self.engine, &resolved.sessions, blob, diff_id);
                waiting.spawn(follow(flight, at, Arc::clone(progress)));
            }
        }
        let mut ready: Vec<Ready> = vec![None; diff_ids.len()];
        let lost = || Arc::new(PullError::Lost(self.reference.to_string()));
        while let Some(joined) = waiting.join_next().await {
            match joined {
                Ok((at, Some(Ok(layer)))) => ready[at] = Some(layer),
                ended => {
                    // The others let go of their layers before this pull ends.
                    waiting.shutdown().await;
                    return Err(ended.ok().and_then(|(_, outcome)| outcome?.err()).unwrap_or_else(lost));
                }
            }
        }
        Ok(ready)
    }

    async fn publish(
        &self,
        resolved: Resolved,
        config: Vec<u8>,
        diff_ids: Vec<Digest>,
        layers: Vec<Ready>,
    ) -> Result<Arc<Image>, PullError> {
        let (store, reference) = (self.engine.store.clone(), self.reference.clone());
        let work = self.engine.tracker.spawn_blocking(move || {
            let staged = layers.iter().map(|ready| ready.as_deref().and_then(Unpublished::layer));
            let layers =
                diff_ids.into_iter().zip(staged).map(|(diff_id, staged)| NewLayer { diff_id, staged });
            store.publish(&NewImage {
                id: resolved.manifest.config.digest.clone(),
                config,
                manifest_digest: resolved.fetched.digest,
                manifest: resolved.fetched.bytes,
                reference,
                target: resolved.target,
                layers: layers.collect(),
            })
        });
        Ok(work.await.map_err(|_| PullError::Lost(self.reference.to_string()))??)
    }

    /// Layers that lost their last image while this pull, which failed, leased them.
    async fn collect_unused(&self) {
        let store = self.engine.store.clone();
        match self.engine.tracker.spawn_blocking(move || store.collect_unused()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "unused layers were not removed; the next removal will"),
            Err(error) => tracing::error!(%error, "removing unused layers"),
        }
    }
}

/// Pass a layer's progress on to the image's, and wait for its end.
async fn follow(
    mut flight: LayerFlight,
    at: usize,
    progress: Progress,
) -> (usize, Option<Result<Arc<Unpublished>, Shared>>) {
    loop {
        let (status, outcome) = {
            let state = flight.state.borrow_and_update();
            (state.progress, state.outcome.clone())
        };
        progress.report(|progress| {
            if let Some(layer) = progress.layers.get_mut(at) {
                (layer.done_bytes, layer.state) = (status.done_bytes, status.state);
            }
        });
        if outcome.is_some() || flight.state.changed().await.is_err() {
            return (at, outcome);
        }
    }
}

fn initial(blob: &Descriptor, exists: bool) -> LayerProgress {
    let state = if exists { LayerState::Exists } else { LayerState::Waiting };
    let done_bytes = if exists { blob.size } else { 0 };
    LayerProgress { blob: blob.digest.clone(), done_bytes, total_bytes: blob.size, state }
}
