//! What all tasks of a puller share, and what every one of them does the same way.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Limits;
use super::figures::Counting;
use super::layer::Layers;
use super::writeback::Writeback;
use crate::auth::{AuthError, AuthFiles, HostCredentials};
use crate::policy::Policy;
use crate::push::PushCause;
use crate::reference::Reference;
use crate::registries::{HostFolders, HostsError, Registries, Source, SourceError};
use crate::registry::{Connections, RegistryError, Session};
use crate::store::{Store, StoreError};

/// What all tasks of a puller share.
pub(crate) struct Engine {
    pub(super) store: Store,
    pub(super) registries: ArcSwap<Registries>,
    /// None accepts everything.
    pub(super) policy: ArcSwapOption<Policy>,
    pub(super) auth_files: ArcSwap<AuthFiles>,
    pub(super) host_folders: ArcSwap<HostFolders>,
    pub(super) limits: Limits,
    pub(super) connections: Arc<Connections>,
    pub(super) layers: Layers,
    pub(super) writeback: Writeback,
    /// Places for layers being transferred and unpacked.
    pub(super) places: Semaphore,
    /// Counts every task and blocking thread, so that shutting down can wait for them.
    pub(super) tracker: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) figures: Counting,
}

impl Engine {
    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    pub(crate) fn connections(&self) -> Arc<Connections> {
        Arc::clone(&self.connections)
    }

    pub(crate) fn sources(&self, reference: &Reference) -> Result<Vec<Source>, SourceError> {
        self.registries.load().sources(reference)
    }

    /// The sources with what this host's folders say of them.
    pub(crate) async fn with_hosts(&self, sources: Vec<Source>) -> Result<Vec<Source>, HostsError> {
        let folders = self.host_folders.load_full();
        let applied = self.tracker.spawn_blocking(move || folders.apply(sources)).await;
        applied.map_err(|_| HostsError::Lost)?
    }

    /// This host's credentials.
    pub(crate) async fn host_credentials(&self) -> Result<HostCredentials, AuthError> {
        let files = self.auth_files.load_full();
        let read = self.tracker.spawn_blocking(move || files.read()).await;
        // Reading files does not panic; if it did, there would be none.
        read.unwrap_or_else(|_| Ok(HostCredentials::default()))
    }

    /// See [`Limits::retry`].
    pub(crate) async fn retry<T, F>(&self, session: &Session, ask: impl Fn() -> F) -> Result<T, RegistryError>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        self.limits.retry(session.source(), ask).await
    }

    /// Wait before the next attempt after so many fruitless ones; false if there is to be none.
    pub(crate) async fn wait_before_retry(
        &self,
        session: &Session,
        error: &RegistryError,
        fruitless: u32,
    ) -> bool {
        let again = error.is_transient() && fruitless < self.limits.attempts_at(session.source());
        if again {
            tokio::time::sleep(self.limits.wait_after(error, fruitless)).await;
        }
        again
    }

    /// Run `work`, which blocks on disk, on a thread for such.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PushCause> {
        Ok(self.tracker.spawn_blocking(work).await.map_err(|_| PushCause::Lost)??)
    }
}
