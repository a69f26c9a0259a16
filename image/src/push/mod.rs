//! Pushing: an image from the store to a registry.
//!
//! ```text
//! for each layer:  the registry has it? ─▶ it has it in another repository? ─▶ upload
//!    upload: the kept blob; else the plain archive, if that is what was pulled; else the archive compressed anew
//! configuration, then the manifest: the one that was pulled, unless a layer had to be compressed anew
//! ```
//!
//! Compressing anew gives other bytes than were pulled, so the manifest is another one then, of the same image.

mod error;
mod layer;
mod source;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;

pub use error::{PushCause, PushError};
use layer::LayerPush;
pub use layer::PushStep;

use crate::archive::{OciDescriptor, kept_layer, manifest_of};
use crate::auth::AuthError;
use crate::pull::{Engine, Puller};
use crate::reference::{Digest, Reference};
use crate::registries::Source;
use crate::registry::{
    Begun, Credentials, Descriptor, Document, ImageManifest, RegistryError, Session, parse_manifest,
};
use crate::store::{Image, StoreError};

/// Layers uploaded at once. Compressing takes a core each.
const PARALLEL_LAYERS: usize = 2;
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Gets what happens to each layer, by diff id.
pub type PushReport = Arc<dyn Fn(&Digest, PushStep) + Send + Sync>;

/// An image that was pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The digest of its manifest there.
    pub digest: Digest,
    /// The manifest's size in bytes.
    pub bytes: u64,
}

/// One push.
struct Push {
    engine: Arc<Engine>,
    session: Session,
    image: Arc<Image>,
    reference: Reference,
    /// Other repositories of the registry that may have its layers.
    elsewhere: Vec<String>,
    report: PushReport,
}

impl Puller {
    /// Push `image` as `reference`, a tag, to the registry itself and no mirror; the image gets the digest reference.
    /// Dropping the future breaks the push off. Must be called on a tokio runtime.
    pub async fn push(
        &self,
        image: &Arc<Image>,
        reference: &Reference,
        credentials: Option<Credentials>,
        report: PushReport,
    ) -> Result<Pushed, PushError> {
        let failed = |cause| PushError { image: reference.to_string(), cause };
        let engine = self.engine();
        let sources = engine.sources(reference).map_err(|error| failed(PushCause::Source(error)))?;
        let source = sources.into_iter().find(|source| !source.mirror);
        let source = source.ok_or_else(|| failed(PushCause::NoRegistry))?;
        let found = engine.with_hosts(vec![source]).await.map_err(|error| failed(PushCause::Hosts(error)))?;
        let source = found.into_iter().find(|source| !source.mirror);
        let source = source.ok_or_else(|| failed(PushCause::NoRegistry))?;
        let credentials = match credentials {
            Some(given) => Some(given),
            None => {
                find_credentials(&engine, &source).await.map_err(|error| failed(PushCause::Auth(error)))?
            }
        };
        let elsewhere = elsewhere(image, reference);
        let session = Session::for_push(engine.connections(), source, credentials, &elsewhere);
        let (image, report_to) = (Arc::clone(image), report);
        let push =
            Push { engine, session, image, reference: reference.clone(), elsewhere, report: report_to };
        push.run().await.map_err(failed)
    }
}

async fn find_credentials(engine: &Engine, source: &Source) -> Result<Option<Credentials>, AuthError> {
    engine.host_credentials().await?.find(&source.reference).await
}

/// The repositories of the same registry that the image is known to come from.
fn elsewhere(image: &Image, reference: &Reference) -> Vec<String> {
    let known = image.names.iter().chain(&image.digests);
    let same = known.filter(|name| {
        name.registry() == reference.registry() && name.repository() != reference.repository()
    });
    same.map(|name| name.repository().to_owned()).collect::<BTreeSet<_>>().into_iter().collect()
}

impl Push {
    async fn run(self) -> Result<Pushed, PushCause> {
        let (config, original) = self.documents().await?;
        let manifest = parse(&original)?;
        let pushed = self.layers(&manifest).await?;
        let (bytes, media_type) = if pushed.iter().all(Option::is_none) {
            let declared = declared_type(&original);
            (original, declared)
        } else {
            (manifest_of(&config, described(&manifest, pushed)), OCI_MANIFEST.to_owned())
        };
        self.small_blob(config).await?;
        let digest = Digest::of(&bytes);
        let pushed = Pushed { digest: digest.clone(), bytes: bytes.len() as u64 };
        let name = self.reference.tag().map_or_else(|| digest.to_string(), str::to_owned);
        let put = || self.session.put_manifest(&name, &media_type, bytes.clone());
        self.engine.retry(&self.session, put).await.map_err(PushCause::Manifest)?;
        let (store, id, by_digest) = (self.engine.store(), self.image.id.clone(), self.reference.at(digest));
        self.engine.blocking(move || store.record_digest(&id, &by_digest)).await?;
        Ok(pushed)
    }

    /// Configuration and manifest.
    async fn documents(&self) -> Result<(Vec<u8>, Vec<u8>), PushCause> {
        let (store, id) = (self.engine.store(), self.image.id.clone());
        let read = move || -> Result<_, StoreError> {
            let missing = || StoreError::NoImage(id.clone());
            let config = store.config_json(&id)?.ok_or_else(missing)?;
            Ok((config, store.manifest_json(&id)?.ok_or_else(missing)?))
        };
        self.engine.blocking(read).await
    }

    /// Push every layer once; for each of the manifest's, its new descriptor if it is not the manifest's.
    async fn layers(&self, manifest: &ImageManifest) -> Result<Vec<Option<OciDescriptor>>, PushCause> {
        let mut pending: Vec<(usize, LayerPush)> = Vec::new();
        for (at, (blob, diff_id)) in manifest.layers.iter().zip(&self.image.layers).enumerate() {
            if !pending.iter().any(|(_, layer)| layer.diff_id == *diff_id && layer.blob == *blob) {
                pending.push((at, self.layer(blob, diff_id)));
            }
        }
        let mut pending = pending.into_iter();
        let mut running = JoinSet::new();
        let mut results: Vec<Option<OciDescriptor>> = vec![None; manifest.layers.len()];
        loop {
            while running.len() < PARALLEL_LAYERS
                && let Some((at, layer)) = pending.next()
            {
                running.spawn(async move { (at, layer.run().await) });
            }
            let Some(joined) = running.join_next().await else { break };
            let (at, result) = joined.map_err(|_| PushCause::Lost)?;
            let result = result?;
            let (blob, diff_id) = (&manifest.layers[at], &self.image.layers[at]);
            let twins = manifest.layers.iter().zip(&self.image.layers).enumerate();
            for (twin, _) in twins.filter(|(_, pair)| *pair == (blob, diff_id)) {
                results[twin].clone_from(&result);
            }
        }
        Ok(results)
    }

    fn layer(&self, blob: &Descriptor, diff_id: &Digest) -> LayerPush {
        LayerPush {
            engine: Arc::clone(&self.engine),
            session: self.session.clone(),
            image: self.image.id.clone(),
            blob: blob.clone(),
            diff_id: diff_id.clone(),
            elsewhere: self.elsewhere.clone(),
            report: Arc::clone(&self.report),
        }
    }

    async fn small_blob(&self, bytes: Vec<u8>) -> Result<(), PushCause> {
        let (digest, bytes) = (Digest::of(&bytes), Bytes::from(bytes));
        let put = || async {
            if self.session.has_blob(&digest).await? {
                return Ok(());
            }
            match self.session.begin_upload(None).await? {
                Begun::Mounted => Ok(()),
                Begun::Upload(upload) => upload.finish(&digest, bytes.clone()).await,
            }
        };
        self.engine.retry(&self.session, put).await.map_err(PushCause::Config)
    }
}

/// The manifest's layers, replaced where they were compressed anew.
fn described(manifest: &ImageManifest, pushed: Vec<Option<OciDescriptor>>) -> Vec<OciDescriptor> {
    let layers = manifest.layers.iter().zip(pushed);
    layers.map(|(layer, pushed)| pushed.unwrap_or_else(|| kept_layer(layer))).collect()
}

fn parse(manifest: &[u8]) -> Result<ImageManifest, PushCause> {
    match parse_manifest(manifest, None) {
        Ok(Document::Image(manifest)) => Ok(manifest),
        Ok(Document::Index(_)) => Err(PushCause::NoManifest),
        Err(error) => Err(PushCause::Manifest(RegistryError::Manifest(error))),
    }
}

/// The type a manifest declares, which the registry wants in the header too.
fn declared_type(manifest: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Typed {
        media_type: Option<String>,
    }
    let typed = serde_json::from_slice::<Typed>(manifest).ok().and_then(|typed| typed.media_type);
    typed.unwrap_or_else(|| OCI_MANIFEST.to_owned())
}
