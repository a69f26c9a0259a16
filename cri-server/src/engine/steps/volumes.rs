//! The first content of a container's volumes: what its image has where they are mounted.

use std::fs::File;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use cleat_image::Image;

use crate::engine::container::Container;
use crate::engine::container_files::copy_tree;
use crate::engine::error::{EngineError, Result};
use crate::engine::files::{FilesError, Root};
use crate::engine::model::MountSource;
use crate::engine::shared::Shared;

/// Copies what `image` has at the destinations of the container's volumes into those that are empty.
pub(super) fn fill(shared: &Shared, image: &Image, container: &Container) -> Result<()> {
    for mount in &container.config.mounts {
        let MountSource::Volume { name, copy: true, .. } = &mount.source else { continue };
        let failed = |error: &(dyn std::error::Error + 'static)| {
            EngineError::step("fill", format!("volume {name}"), error)
        };
        let (root, _layers) = shared.image_root(image)?;
        let filled = shared.volumes.fill_if_empty(name, |data| fill_from(&root, &mount.destination, data));
        filled.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Copies the folder `source` of an image into `data`, its owner and mode included. What is no folder there is no content.
pub(super) fn fill_from(image: &Root, source: &Path, data: &Path) -> std::result::Result<(), FilesError> {
    let folder = match image.folder(source) {
        Ok(folder) => File::from(folder),
        Err(FilesError::Missing(_) | FilesError::NotAFolder(_)) => return Ok(()),
        Err(error) => return Err(error),
    };
    let failed = |source| FilesError::Path { operation: "copy into", path: data.to_owned(), source };
    let target = File::open(data).map_err(failed)?;
    let looks = folder.metadata().map_err(failed)?;
    let volume = Root::new(target.try_clone().map_err(failed)?.into());
    copy_tree(image, source, &volume, Path::new("/"))?;
    std::os::unix::fs::fchown(&target, Some(looks.uid()), Some(looks.gid())).map_err(failed)?;
    target.set_permissions(std::fs::Permissions::from_mode(looks.mode() & 0o7777)).map_err(failed)
}
