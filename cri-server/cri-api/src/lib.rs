//! Bindings of the Kubernetes CRI v1, generated at build time from `proto/runtime/v1/api.proto`.
//!
//! Messages, the two services' server traits and their clients are in [`v1`]. The only code by hand is the `Debug` of
//! [`v1::AuthConfig`], which names the credentials that are set and never shows one.
#![forbid(unsafe_code)]

mod redact;

/// The package `runtime.v1`. What each item means is said in the `.proto` file.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated code: its comments are those of the .proto file, its shape is prost's"
)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}
