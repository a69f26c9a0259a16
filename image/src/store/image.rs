//! What the store tells about an image.

use std::path::PathBuf;

use oci_spec::image::ImageConfiguration;

use crate::reference::{Digest, Reference};

/// One image, as it was when it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    /// The digest of its configuration: what the CRI and Docker call the image id.
    pub id: Digest,
    /// Its tags, sorted: `docker.io/library/busybox:1.36`.
    pub names: Vec<Reference>,
    /// The digests registries know it by, sorted: `docker.io/library/busybox@sha256:…`. An image pulled through an
    /// index has the index's digest, which is what its tag stood for.
    pub digests: Vec<Reference>,
    /// Disk space of its unpacked layers, a layer that occurs twice counted once, plus its manifest and configuration;
    /// never 0. (Docker and CRI-O report unpacked sizes too; containerd reports what was transferred.)
    pub size_bytes: u64,
    /// The configuration as the image's author wrote it. Hostile: see [`crate`].
    pub config: ImageConfiguration,
    /// The digest of the manifest for this platform.
    pub manifest: Digest,
    /// Diff ids of its layers, the lowest first.
    pub layers: Vec<Digest>,
    /// Whether removal is refused.
    pub pinned: bool,
}

/// Space the store takes on its file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsInfo {
    /// The store's folder.
    pub mountpoint: PathBuf,
    /// Bytes on disk.
    pub bytes: u64,
    /// Inodes.
    pub inodes: u64,
}
