//! The CRI front door: the two gRPC services of `runtime.v1` over the engine.
//!
//! ```text
//!  kubelet, crictl ──▶ runtime_service, image_service     one short function per RPC
//!                          │ translate/   request ──▶ engine::model      (pure; what is malformed is refused here)
//!                          ▼
//!                        Engine                        reads: what takes several questions to it
//!                          │ translate/   engine's objects ──▶ response  (pure)
//!                          ▼
//!                        door: one span per RPC, one log line per refusal, error.rs picks the gRPC code
//! ```
//!
//! Answers of many messages are made by series.rs. Around both services are deadline.rs, which ends what takes longer than
//! its caller waits, and measured.rs, which counts.
//!
//! Nothing here decides what happens to a pod or container: a behaviour that exists in this folder only is in the wrong
//! room. An RPC that is not built answers UNIMPLEMENTED with its name, never OK.

mod deadline;
mod door;
mod error;
mod image_service;
mod measured;
mod reads;
mod runtime_service;
mod series;
mod translate;

use std::sync::Arc;

use cleat_cri_api::v1::image_service_server::ImageServiceServer;
use cleat_cri_api::v1::runtime_service_server::RuntimeServiceServer;
use cleat_streaming::Server;
use tonic::service::Routes;

use crate::engine::Engine;
use deadline::Deadline;
use image_service::ImageDoor;
use measured::Measured;
pub(crate) use measured::Requests;
use runtime_service::RuntimeDoor;

/// Largest request accepted. The kubelet and crictl accept answers of 16 MiB; a request is a pod's or container's
/// configuration, and etcd keeps those below 2 MiB.
const MAX_REQUEST_BYTES: usize = 16 << 20;

/// Largest answer sent: lists of a full node with every annotation stay far below it.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

/// Both services over `engine`, with `streams` for the clients that stay, for `tonic::transport::Server::add_routes`. What
/// they are asked is counted in `requests`.
#[must_use]
pub(crate) fn router(engine: Engine, streams: Arc<Server>, requests: &Requests) -> Routes {
    let runtime = RuntimeServiceServer::new(RuntimeDoor::new(engine.clone(), streams))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let image = ImageServiceServer::new(ImageDoor::new(engine))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_RESPONSE_BYTES);
    let measured_runtime = Measured(Deadline(runtime), requests.clone());
    Routes::new(measured_runtime).add_service(Measured(Deadline(image), requests.clone()))
}
