//! Generates the bindings with a compiler in Rust, so that no machine needs `protoc`.

use std::error::Error;

/// Where the interface is written down, relative to this folder.
const PROTO: &str = "proto/runtime/v1/api.proto";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO}");
    let descriptors = protox::compile([PROTO], ["proto"])?;
    tonic_prost_build::configure()
        // Clients bring a channel of their own, so this crate needs no transport.
        .build_transport(false)
        // lib.rs prints credentials without their secrets.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(descriptors)?;
    Ok(())
}
