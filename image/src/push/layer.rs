//! One layer on its way to a registry.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::PushReport;
use super::error::PushCause;
use super::source::{Content, Made, make};
use crate::archive::OciDescriptor;
use crate::pull::Engine;
use crate::reference::{Algorithm, Digest};
use crate::registry::{Begun, Descriptor, RegistryError, Session, Upload};
use crate::store::StoreError;

/// Size of the pieces of a blob in bytes: registries want 5 MiB at least; two are in memory for each layer.
const PIECE_BYTES: usize = 8 << 20;
const OCI_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What happens to a layer that is pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushStep {
    /// The registry had it.
    Exists,
    /// The registry took it from another of its repositories.
    Mounted,
    /// So many bytes are uploaded.
    Uploading {
        /// Of the blob, as compressed.
        done_bytes: u64,
    },
    /// It is there.
    Pushed,
}

/// One layer's push.
pub(super) struct LayerPush {
    pub(super) engine: Arc<Engine>,
    pub(super) session: Session,
    pub(super) image: Digest,
    /// As it was pulled.
    pub(super) blob: Descriptor,
    pub(super) diff_id: Digest,
    pub(super) elsewhere: Vec<String>,
    pub(super) report: PushReport,
}

/// How one attempt failed.
enum Failure {
    Registry(RegistryError),
    Local(PushCause),
}

impl LayerPush {
    /// Push it; the new descriptor, if the registry has it as another blob than was pulled.
    pub(super) async fn run(self) -> Result<Option<OciDescriptor>, PushCause> {
        let failed = |source| PushCause::Layer { layer: self.diff_id.clone(), source };
        let has = || self.session.has_blob(&self.blob.digest);
        if self.engine.retry(&self.session, has).await.map_err(failed)? {
            self.tell(PushStep::Exists);
            return Ok(None);
        }
        let mut fruitless = 1;
        loop {
            match self.attempt().await {
                Ok(pushed) => return Ok(pushed),
                Err(Failure::Local(cause)) => return Err(cause),
                Err(Failure::Registry(error)) => {
                    if !self.engine.wait_before_retry(&self.session, &error, fruitless).await {
                        return Err(failed(error));
                    }
                    fruitless += 1;
                }
            }
        }
    }

    fn tell(&self, step: PushStep) {
        (self.report)(&self.diff_id, step);
    }

    async fn attempt(&self) -> Result<Option<OciDescriptor>, Failure> {
        let Some(upload) = self.mount_or_begin().await.map_err(Failure::Registry)? else {
            self.tell(PushStep::Mounted);
            return Ok(None);
        };
        let (store, image, diff_id) = (self.engine.store(), self.image.clone(), self.diff_id.clone());
        let blob = self.blob.digest.clone();
        let open = move || {
            let tar = store.layer_tar(&image, &diff_id)?;
            let kept = tar.blob(&blob)?;
            Ok((tar, kept))
        };
        let (tar, kept) = self.engine.blocking(open).await.map_err(Failure::Local)?;
        let is_plain = self.blob.digest == self.diff_id && self.diff_id.algorithm() == Algorithm::Sha256;
        let content = match kept {
            Some(file) => Content::Blob(file),
            None if is_plain => Content::Plain,
            None => Content::Gzip,
        };
        let anew = matches!(content, Content::Gzip);
        let promised = (!anew).then_some(&self.blob.digest);
        let made = self.upload(upload, promised, move |pieces, to| make(&tar, content, pieces, to)).await?;
        self.tell(PushStep::Pushed);
        Ok(anew.then(|| OciDescriptor::new(OCI_GZIP, &made.digest, made.bytes)))
    }

    /// None if the registry has the blob in another repository and took it from there.
    async fn mount_or_begin(&self) -> Result<Option<Upload>, RegistryError> {
        for from in &self.elsewhere {
            if let Begun::Mounted = self.session.begin_upload(Some((&self.blob.digest, from))).await? {
                return Ok(None);
            }
        }
        match self.session.begin_upload(None).await? {
            Begun::Mounted => Ok(None),
            Begun::Upload(upload) => Ok(Some(upload)),
        }
    }

    /// Upload what `make` makes on a blocking thread, holding back one piece: the last one goes with the digest.
    async fn upload(
        &self,
        mut upload: Upload,
        promised: Option<&Digest>,
        make: impl FnOnce(usize, mpsc::Sender<Bytes>) -> Result<Made, StoreError> + Send + 'static,
    ) -> Result<Made, Failure> {
        let (sender, mut pieces) = mpsc::channel::<Bytes>(1);
        let piece_bytes = PIECE_BYTES.max(upload.least_piece());
        let maker = self.engine.blocking(move || make(piece_bytes, sender));
        let send = async {
            let (mut held, mut done_bytes) = (Bytes::new(), 0);
            while let Some(piece) = pieces.recv().await {
                let ready = std::mem::replace(&mut held, piece);
                if !ready.is_empty() {
                    done_bytes += ready.len() as u64;
                    upload.piece(ready).await?;
                    self.tell(PushStep::Uploading { done_bytes });
                }
            }
            // The maker's own failure ends the pieces too: whether they are all is known from it.
            drop(pieces);
            Ok((upload, held))
        };
        let (made, sent) = tokio::join!(maker, send);
        let (upload, last) = sent.map_err(Failure::Registry)?;
        let made = made.map_err(Failure::Local)?;
        upload.finish(promised.unwrap_or(&made.digest), last).await.map_err(Failure::Registry)?;
        Ok(made)
    }
}
