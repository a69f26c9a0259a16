//! What the tests of the whole daemon share: a CRI client, a node to test, requests, and readers of what comes back.
//!
//! ```text
//! check(node, body)   starts the node, runs the body, then the leak checker
//! Node                a cleatd with a registry, its client, a baseline of the host
//!  ├─ Cri             every RPC of the CRI, blocking, each with a limit
//!  └─ Pod, Finished   a pod of the test; a container that ran to its end, with its log
//! configs             requests with everything optional left out
//! BadRegistry         a registry that serves what a test wants to see refused
//! ```
#![forbid(unsafe_code)]

mod bad_registry;
mod client;
pub mod configs;
mod log;
mod node;

pub use bad_registry::{BadRegistry, Flaw};
pub use client::{Cri, TEST_LIMIT};
pub use log::{Line, Stream, parse, text};
pub use node::{Finished, Node, NodeBuilder, Pod, check};

/// A small system: busybox with its applets as hard links.
pub const BUSYBOX: &str = "registry.k8s.io/cleat-test/busybox:1";

/// An HTTP server on port 80 (`PORT`), served as a Docker manifest list.
pub const HTTPD: &str = "registry.k8s.io/cleat-test/httpd:1";

/// Five layers with everything a layer can hold, gzip; `LAYERS_ZSTD` is the same in zstd.
pub const LAYERS: &str = "registry.k8s.io/cleat-test/layers:gzip";

/// The layers of [`LAYERS`], packed with zstd.
pub const LAYERS_ZSTD: &str = "registry.k8s.io/cleat-test/layers:zstd";
