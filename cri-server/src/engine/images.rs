//! Images, as the front doors ask for them.

use std::path::PathBuf;
use std::sync::Arc;

use cleat_image::{Credentials, Digest, Image, Policy, Puller, Registries, Store, StoreError};

use super::Engine;
use super::container::Container;
use super::error::{EngineError, Result};

/// Where images come from, and what is demanded of them. May be changed while the engine works.
#[derive(Debug)]
pub(crate) struct ImageSources {
    /// Mirrors, blocked registries, short names.
    pub registries: Registries,
    /// Which images may be pulled; none lets all.
    pub policy: Option<Policy>,
    /// Credentials of this host.
    pub auth_files: Vec<PathBuf>,
    /// What is particular about registries' hosts.
    pub host_folders: Vec<PathBuf>,
    /// Whether layers are kept as they were pulled.
    pub keep_blobs: bool,
}

impl Engine {
    /// Has what begins from now on go by `sources`.
    pub(crate) fn set_image_sources(&self, sources: ImageSources) {
        self.puller.set_registries(sources.registries);
        self.puller.set_policy(sources.policy);
        self.puller.set_auth_files(sources.auth_files);
        self.puller.set_host_folders(sources.host_folders);
        self.shared.images.set_keep_blobs(sources.keep_blobs);
    }

    /// The image store, for reading.
    pub(crate) fn images(&self) -> &Store {
        &self.shared.images
    }

    /// The puller, for doors that show how far a pull or a push is.
    pub(crate) fn puller(&self) -> &Puller {
        &self.puller
    }

    /// The containers that were made from an image.
    pub(crate) fn image_users(&self, id: &Digest) -> Vec<Arc<Container>> {
        let id = id.to_string();
        let view = self.view();
        view.containers.values().filter(|container| container.image.id == id).cloned().collect()
    }

    /// Pulls what `name` means, or joins the pull of it that is under way.
    pub(crate) async fn pull_image(
        &self,
        name: &str,
        credentials: Option<Credentials>,
    ) -> Result<Arc<Image>> {
        let candidates =
            self.puller.candidates(name).map_err(|error| EngineError::Pull(vec![Arc::new(error)]))?;
        let mut refused = Vec::new();
        for reference in candidates {
            match self.puller.pull(&reference, credentials.clone()).await {
                Ok(image) => return Ok(image),
                Err(error) => refused.push(error),
            }
        }
        if refused.is_empty() {
            let why = "no registry is searched for it".to_owned();
            return Err(EngineError::Invalid { what: format!("image name {name:?}"), why });
        }
        Err(EngineError::Pull(refused))
    }

    /// Removes an image by its id, or takes a name away from it; an unknown one is fine. Layers that containers use
    /// stay until the last of them is removed.
    pub(crate) async fn remove_image(&self, name: &str) -> Result<()> {
        let Some(image) = self.shared.images.resolve(name) else { return Ok(()) };
        let object = format!("image {name}");
        self.shared
            .blocking(move |shared| match shared.images.remove(&image.id) {
                Ok(_) => Ok(()),
                Err(error @ (StoreError::Pinned(_) | StoreError::ReadOnly { .. })) => {
                    Err(EngineError::invalid(object, &error))
                }
                Err(error) => Err(EngineError::step("remove", object, &error)),
            })
            .await
    }
}
