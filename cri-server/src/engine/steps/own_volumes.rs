//! The volumes that an image wants (`VOLUME`) in a pod's container: folders beside its bundle, filled from the image, which
//! go with the container. A container without a pod gets volumes of the engine's for them, as its door has asked.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;

use cleat_image::Image;
use oci_spec::image::Config;

use super::volumes::fill_from;
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::pod::Pod;
use crate::engine::shared::{ImageVolumes, Shared};
use crate::spec;

/// Makes them: where each is to be mounted, and its folder. The removal of the bundle removes them.
pub(super) fn make(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    (image, settings): (&Image, &Config),
) -> Result<Vec<(PathBuf, PathBuf)>> {
    if pod.config.kind.is_one() || shared.settings.image_volumes == ImageVolumes::Ignore {
        return Ok(Vec::new());
    }
    let places = spec::image_volumes(settings, &container.config.mounts)
        .map_err(|error| EngineError::invalid("the image's list of volumes", &error))?;
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let (root, _layers) = shared.image_root(image)?;
    let parent = shared.paths.container(&container.id).own_volumes();
    let failed = |error: &(dyn std::error::Error + 'static)| {
        EngineError::step("make the image's volumes", format!("container {}", container.id), error)
    };
    fs::DirBuilder::new().recursive(true).mode(0o711).create(&parent).map_err(|error| failed(&error))?;
    let mut made = Vec::with_capacity(places.len());
    for (number, place) in places.into_iter().enumerate() {
        // By its number: no path of an image becomes one of the host.
        let folder = parent.join(number.to_string());
        fs::DirBuilder::new().mode(0o755).create(&folder).map_err(|error| failed(&error))?;
        fill_from(&root, &place, &folder).map_err(|error| failed(&error))?;
        made.push((place, folder));
    }
    Ok(made)
}
