//! One image: manifest, configuration, all layers at once, and into the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use tokio::task::JoinSet;

use super::Engine;
use super::error::{LayerError, PullCause, PullError, Shared};
use super::flight::Reporter;
use super::layer::{LayerFlight, LayerOutcome, Unpublished};
use super::progress::{LayerProgress, LayerState, PullProgress};
use super::refusal::{Refusal, Refusals};
use super::signatures::signatures;
use crate::policy::Demand;
use crate::reference::{Digest, Reference};
use crate::registries::{Registries, Source};
use crate::registry::{
    Credentials, Descriptor, Document, Fetched, ImageManifest, ManifestError, Platform, RegistryError,
    Session, choose, parse_manifest,
};
use crate::store::{Image, LayerLease, NewImage, NewLayer, names_of};

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
        let outcome = tokio::select! {
            biased;
            () = self.engine.stop.cancelled() => Err(PullCause::Cancelled),
            outcome = self.steps(&progress) => outcome,
        };
        self.engine.figures.ended(outcome.is_ok());
        // The buffers of all layers are free now, and nobody has to wait until they are the kernel's again.
        self.engine.tracker.spawn_blocking(cleat_sys::heap::give_back);
        outcome.map_err(|cause| Arc::new(PullError::new(self.reference.to_string(), cause)))
    }

    async fn steps(&self, progress: &Progress) -> Result<Arc<Image>, PullCause> {
        let policy = self.engine.policy.load_full();
        let demand = policy.as_deref().map(|policy| policy.demand(&self.reference)).transpose()?;
        let sources = self.engine.with_hosts(self.registries.sources(&self.reference)?).await?;
        let resolved = self.resolve(sources).await?;
        if let Some(demand) = demand.filter(Demand::needs_signatures) {
            self.check_signatures(&demand, &resolved).await?;
        }
        let (config, diff_ids) = self.config(&resolved).await?;
        let lease = Arc::new(self.lease(diff_ids.clone()).await?);
        progress.report(|progress| {
            progress.target = Some(resolved.target.clone());
            let layers = resolved.manifest.layers.iter().zip(&diff_ids);
            progress.layers = layers.map(|(blob, diff_id)| initial(blob, lease.holds(diff_id))).collect();
        });
        let layers = self.layers(&resolved, &diff_ids, &lease, progress).await;
        let outcome = match layers {
            Ok(layers) => self.publish(resolved, config, diff_ids, layers).await,
            Err(error) => Err(error),
        };
        drop(lease);
        if outcome.is_err() {
            self.collect_unused().await;
        }
        outcome
    }

    /// Before anything else of the image is looked at. What was asked for may be signed, or the manifest for this host.
    async fn check_signatures(&self, demand: &Demand<'_>, resolved: &Resolved) -> Result<(), PullCause> {
        let digests: BTreeSet<_> = [&resolved.target, &resolved.fetched.digest].into_iter().collect();
        let digests: Vec<_> = digests.into_iter().collect();
        let found = signatures(&self.engine, &resolved.sessions, &digests).await;
        Ok(demand.judge(&found.map_err(PullCause::Signatures)?, &digests)?)
    }

    /// Ask the sources in turn for the manifest.
    async fn resolve(&self, sources: Vec<Source>) -> Result<Resolved, PullCause> {
        let mut sessions = Vec::new();
        for source in sources {
            let credentials = self.credentials_for(&source).await?;
            sessions.push(Session::new(Arc::clone(&self.engine.connections), source, credentials));
        }
        let mut refusals = Refusals::default();
        for (at, session) in sessions.iter().enumerate() {
            match self.resolve_at(session).await {
                Ok((target, manifest, fetched)) => {
                    return Ok(Resolved { target, manifest, fetched, sessions: sessions[at..].to_vec() });
                }
                Err((entry, error)) => {
                    tracing::debug!(reference = %self.reference, host = session.host(), %error, "a source failed");
                    let source = session.source().clone();
                    refusals.record(Refusal { source, entry, fault: error.into() });
                }
            }
        }
        Err(PullCause::Manifest(refusals))
    }

    /// The client's own, else those this host has for the source.
    async fn credentials_for(&self, source: &Source) -> Result<Option<Credentials>, PullCause> {
        match self.credentials.clone().filter(|_| self.may_have_credentials(source)) {
            Some(given) => Ok(Some(given)),
            None => Ok(self.engine.host_credentials().await?.find(&source.reference).await?),
        }
    }

    /// The client's credentials are for the registry it named: a mirror on another host does not get them.
    fn may_have_credentials(&self, source: &Source) -> bool {
        source.reference.registry() == self.reference.registry() || !source.mirror
    }

    /// What one source has. An error goes with the entry of an index that it is about, if it is not about the top.
    async fn resolve_at(
        &self,
        session: &Session,
    ) -> Result<(Digest, ImageManifest, Fetched), (Option<Digest>, RegistryError)> {
        let reference = &session.source().reference;
        let about_top = |error| (None, error);
        let wanted = reference.tag_or_digest();
        let top = self.fetch(session, &wanted, reference.digest()).await.map_err(about_top)?;
        let target = top.digest.clone();
        let mut document = parse(&top).map_err(|error| about_top(error.into()))?;
        let mut fetched = top;
        // An index may hold indexes, and those hold manifests.
        for _ in 0..2 {
            let entries = match document {
                Document::Image(manifest) => return Ok((target, manifest, fetched)),
                Document::Index(entries) => entries,
            };
            let Some(entry) = choose(&entries, &Platform::host()) else {
                let Platform { os, architecture, .. } = Platform::host();
                return Err(about_top(ManifestError::NoPlatform { os, architecture }.into()));
            };
            let about_entry = |error| (Some(entry.digest.clone()), error);
            fetched = self.entry(session, entry).await.map_err(about_entry)?;
            document = parse(&fetched).map_err(|error| about_entry(error.into()))?;
            if entry.is_index() != matches!(document, Document::Index(_)) {
                let error = ManifestError::Ambiguous("its type and its index's differ");
                return Err(about_entry(error.into()));
            }
        }
        match document {
            Document::Image(manifest) => Ok((target, manifest, fetched)),
            Document::Index(_) => Err(about_top(ManifestError::Nested.into())),
        }
    }

    /// The manifest or index that an index names.
    async fn entry(&self, session: &Session, entry: &Descriptor) -> Result<Fetched, RegistryError> {
        let fetched = self.fetch(session, &entry.digest.to_string(), Some(&entry.digest)).await?;
        let (expected, actual) = (entry.size, fetched.bytes.len() as u64);
        if actual == expected { Ok(fetched) } else { Err(RegistryError::Size { expected, actual }) }
    }

    async fn fetch(
        &self,
        session: &Session,
        wanted: &str,
        digest: Option<&Digest>,
    ) -> Result<Fetched, RegistryError> {
        self.engine.limits.retry(session.source(), || session.manifest(wanted, digest)).await
    }

    /// The configuration's bytes, verified, and the diff ids it lists, one for each layer of the manifest.
    async fn config(&self, resolved: &Resolved) -> Result<(Vec<u8>, Vec<Digest>), PullCause> {
        let bytes = self.config_bytes(resolved).await?;
        let wrong =
            |what: String| PullCause::WrongConfig { blob: resolved.manifest.config.digest.clone(), what };
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

    async fn config_bytes(&self, resolved: &Resolved) -> Result<Vec<u8>, PullCause> {
        let blob = &resolved.manifest.config;
        let mut refusals = Refusals::default();
        for session in &resolved.sessions {
            let ask = || session.small_blob(blob, MAX_CONFIG_BYTES);
            match self.engine.limits.retry(session.source(), ask).await {
                Ok(bytes) => return Ok(bytes),
                Err(error) => {
                    let source = session.source().clone();
                    refusals.record(Refusal { source, entry: None, fault: error.into() });
                }
            }
        }
        Err(PullCause::Config { blob: blob.digest.clone(), refusals })
    }

    async fn lease(&self, diff_ids: Vec<Digest>) -> Result<LayerLease, PullCause> {
        let store = self.engine.store.clone();
        let leased = self.engine.tracker.spawn_blocking(move || store.lease(&diff_ids)).await;
        Ok(leased.map_err(|_| PullCause::Lost)??)
    }

    /// All layers at once. The first failure ends the wait; flights that others wait for too go on.
    async fn layers(
        &self,
        resolved: &Resolved,
        diff_ids: &[Digest],
        lease: &LayerLease,
        progress: &Progress,
    ) -> Result<Vec<Ready>, PullCause> {
        let mut waiting = JoinSet::new();
        for (at, (blob, diff_id)) in resolved.manifest.layers.iter().zip(diff_ids).enumerate() {
            if !lease.holds(diff_id) {
                let flight = self.engine.layers.join(&self.engine, &resolved.sessions, blob, diff_id);
                waiting.spawn(follow(flight, at, Arc::clone(progress)));
            }
        }
        let mut ready: Vec<Ready> = vec![None; diff_ids.len()];
        while let Some(joined) = waiting.join_next().await {
            let failure = match joined {
                Ok((at, Ok(layer))) => {
                    ready[at] = Some(layer);
                    continue;
                }
                Ok((at, Err(source))) => {
                    PullCause::Layer { blob: resolved.manifest.layers[at].digest.clone(), source }
                }
                Err(_) => PullCause::Lost,
            };
            // The others let go of their layers before this pull ends.
            waiting.shutdown().await;
            return Err(failure);
        }
        Ok(ready)
    }

    async fn publish(
        &self,
        resolved: Resolved,
        config: Vec<u8>,
        diff_ids: Vec<Digest>,
        layers: Vec<Ready>,
    ) -> Result<Arc<Image>, PullCause> {
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
                names: names_of(&reference, &resolved.target),
                layers: layers.collect(),
            })
        });
        Ok(work.await.map_err(|_| PullCause::Lost)??)
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
async fn follow(mut flight: LayerFlight, at: usize, progress: Progress) -> (usize, LayerOutcome) {
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
            return (at, outcome.unwrap_or_else(|| Err(Arc::new(LayerError::Lost))));
        }
    }
}

fn parse(fetched: &Fetched) -> Result<Document, ManifestError> {
    parse_manifest(&fetched.bytes, fetched.content_type.as_deref())
}

fn initial(blob: &Descriptor, exists: bool) -> LayerProgress {
    let state = if exists { LayerState::Exists } else { LayerState::Waiting };
    let done_bytes = if exists { blob.size } else { 0 };
    LayerProgress { blob: blob.digest.clone(), done_bytes, total_bytes: blob.size, state }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configurations_as_docker_writes_them_are_read() {
        let text = r#"{"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00.123456789Z",
            "config":{"Hostname":"","Domainname":"","User":"","AttachStdin":false,"Tty":false,"ExposedPorts":null,
                "Env":["PATH=/bin"],"Cmd":null,"ArgsEscaped":true,"Image":"","Volumes":null,"WorkingDir":"",
                "Entrypoint":null,"OnBuild":null,"Labels":null,"Healthcheck":{"Test":["NONE"]},"Shell":["/bin/sh"]},
            "container":"x","container_config":{"Cmd":["x"]},"docker_version":"20.10.0","variant":"v8",
            "history":[{"created":"2024-01-01T00:00:00Z","created_by":"sh","empty_layer":true},{}],
            "rootfs":{"type":"layers","diff_ids":[]}}"#;
        let config: ImageConfiguration = serde_json::from_str(text).unwrap();
        assert_eq!(config.config().as_ref().unwrap().env().as_ref().unwrap().len(), 1);
        for (from, to) in
            [("\"config\":", "\"config\":null,\"x\":"), ("[{\"created\"", "null,\"y\":[{\"created\"")]
        {
            let odd = text.replace(from, to);
            assert!(serde_json::from_str::<ImageConfiguration>(&odd).is_ok(), "{odd}");
        }
    }
}
