//! The CRI's ImageService: each RPC parses, asks the engine or its image store, and answers.

use std::collections::HashMap;
use std::sync::Arc;

use cleat_cri_api::v1::image_service_server::ImageService;
use cleat_cri_api::v1::{
    ImageFsInfoRequest, ImageFsInfoResponse, ImageStatusRequest, ImageStatusResponse, ListImagesRequest,
    ListImagesResponse, PullImageRequest, PullImageResponse, RemoveImageRequest, RemoveImageResponse,
    StreamImagesRequest, StreamImagesResponse,
};
use cleat_image::Image;
use tonic::Request;

use super::door::{Answer, answer};
use super::series::{Parts, parts};
use super::translate::{auth, image};
use crate::engine::{Engine, EngineError, Result};
use crate::time::now_ns;

/// The image service over an engine.
pub(super) struct ImageDoor {
    engine: Engine,
}

impl ImageDoor {
    /// The service over `engine`.
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine }
    }

    /// All images, or the one that `name` stands for.
    fn list(&self, name: &str) -> Vec<cleat_cri_api::v1::Image> {
        let store = self.engine.images();
        if name.is_empty() {
            store.list().iter().map(|found| image::image(found)).collect()
        } else {
            store.resolve(name).iter().map(|found| image::image(found)).collect()
        }
    }

    /// What a verbose status shows besides. The store reads it from disk, so it is asked on a thread for that.
    async fn info(&self, image: &Arc<Image>) -> Result<HashMap<String, String>> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            EngineError::step("read the configuration", format!("image {}", image.id), error)
        };
        let (store, id) = (self.engine.images().clone(), image.id.clone());
        let read = tokio::task::spawn_blocking(move || store.config_json(&id)).await;
        let config = read.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        Ok(image::info(image, &config.unwrap_or_default()))
    }
}

#[tonic::async_trait]
impl ImageService for ImageDoor {
    type StreamImagesStream = Parts<StreamImagesResponse>;

    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image).unwrap_or_default();
        answer("ListImages", filter.image.clone(), async {
            Ok(ListImagesResponse { images: self.list(&filter.image) })
        })
        .await
    }

    /// An image that is not there is an answer, not an error: the kubelet asks before each pull.
    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let request = request.into_inner();
        let name = request.image.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
        answer("ImageStatus", name, async {
            let name = image::name(request.image)?;
            let Some(found) = self.engine.images().resolve(&name) else {
                return Ok(ImageStatusResponse::default());
            };
            let info = if request.verbose { self.info(&found).await? } else { Default::default() };
            Ok(ImageStatusResponse { image: Some(image::image(&found)), info })
        })
        .await
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let request = request.into_inner();
        let name = request.image.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
        answer("PullImage", name, async {
            let name = image::name_to_pull(request.image)?;
            let credentials = auth::credentials(request.auth, &name)?;
            let pulled = self.engine.pull_image(&name, credentials).await?;
            Ok(PullImageResponse { image_ref: pulled.id.to_string() })
        })
        .await
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let request = request.into_inner();
        let name = request.image.as_ref().map(|spec| spec.image.clone()).unwrap_or_default();
        answer("RemoveImage", name, async {
            self.engine.remove_image(&image::name(request.image)?).await?;
            Ok(RemoveImageResponse {})
        })
        .await
    }

    /// Containers' writable layers are on the same file system, which the CRI says by leaving their list empty.
    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        answer("ImageFsInfo", String::new(), async {
            let usage = image::filesystem(now_ns(), &self.engine.images().usage());
            Ok(ImageFsInfoResponse { image_filesystems: vec![usage], container_filesystems: Vec::new() })
        })
        .await
    }

    async fn stream_images(&self, request: Request<StreamImagesRequest>) -> Answer<Self::StreamImagesStream> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image).unwrap_or_default();
        answer("StreamImages", filter.image.clone(), async {
            Ok(parts(self.list(&filter.image), |images| StreamImagesResponse { images }))
        })
        .await
    }
}
