//! Images as volumes of a container: found, held, and named by their folders.

use std::path::PathBuf;

use cleat_image::{Snapshotter, Volume};

use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result, chain};
use crate::engine::model::MountSource;
use crate::engine::shared::Shared;

/// The folders of each image among the container's mounts, in their order. Their layers stay in the store as long as the
/// container's snapshot, which is there already.
pub(super) fn folders(shared: &Shared, container: &Container) -> Result<Vec<Vec<PathBuf>>> {
    let images = container.config.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Image { image, sub_path } => Some((image.as_str(), sub_path.as_str())),
        MountSource::Host(_) | MountSource::Tmpfs(_) | MountSource::Volume { .. } => None,
    });
    images.map(|(image, sub_path)| of_image(shared, container, image, sub_path)).collect()
}

fn of_image(shared: &Shared, container: &Container, image: &str, sub_path: &str) -> Result<Vec<PathBuf>> {
    let refused = |why: String| EngineError::ImageVolume { image: image.to_owned(), why };
    let found = shared.images.resolve(image);
    let found = found.ok_or_else(|| refused("it is not on this node: pull it first".into()))?;
    let held = shared.snapshots.hold(container.id.as_str(), &found);
    held.map_err(|error| refused(chain(&error)))?;
    match shared.images.volume(&found, sub_path).map_err(|error| refused(chain(&error)))? {
        Some(Volume::Single(path)) => Ok(vec![path]),
        Some(Volume::Merged(paths)) => Ok(paths),
        None => Err(refused(format!("it has no file or folder {sub_path:?}"))),
    }
}
