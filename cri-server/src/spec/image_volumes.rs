//! The `VOLUME`s of an image: folders of a container that are to be apart from its writable layer.
//!
//! The list is the image's, and so hostile. Its paths are cleaned by their text; where links of the image lead is found by
//! the runtime beneath the root. They are mounted first, so that they cover nothing of ours (/proc, the pod's files) and
//! nothing that a client mounts, wherever they turn out to lie.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use oci_spec::image::Config;

use super::SpecError;
use super::path::{depth, normalised};
use crate::engine::model::Mount;

/// More than any image has; each is a folder of the host and a mount.
const MAX_VOLUMES: usize = 256;

/// Folders that every container has mounts of its own on: what an image has there is never seen.
const OWN_FOLDERS: [&str; 3] = ["/dev", "/proc", "/sys"];

/// Files that the daemon makes for every container: no folders.
const OWN_FILES: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];

/// Where the container of an image with these settings is to have volumes of its own, in the order to mount them. What a
/// client mounts at a place is what is there.
///
/// # Errors
/// When a volume is no path inside, or the root itself, or there are too many.
pub(crate) fn image_volumes(image: &Config, asked: &[Mount]) -> Result<Vec<PathBuf>, SpecError> {
    let listed = image.volumes().as_deref().unwrap_or_default();
    if listed.len() > MAX_VOLUMES {
        return Err(SpecError::TooManyVolumes { listed: listed.len(), most: MAX_VOLUMES });
    }
    let clean = |path: &Path| {
        normalised(path).map_err(|source| SpecError::Path { what: "volume of the image", source })
    };
    let taken: BTreeSet<PathBuf> =
        asked.iter().filter_map(|mount| normalised(&mount.destination).ok()).collect();
    let mut places = BTreeSet::new();
    for path in listed {
        let place = clean(Path::new(path))?;
        if depth(&place) == 0 {
            return Err(SpecError::MountOnRoot);
        }
        let is_ours = OWN_FILES.iter().any(|file| place == Path::new(file))
            || OWN_FOLDERS.iter().any(|folder| place.starts_with(folder));
        if !taken.contains(&place) && !is_ours {
            places.insert(place);
        }
    }
    let mut places: Vec<PathBuf> = places.into_iter().collect();
    places.sort_by_key(|place| depth(place));
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::MountSource;

    fn decide(volumes: &[&str], asked: &[&str]) -> Result<Vec<PathBuf>, SpecError> {
        let mut image = Config::default();
        image.set_volumes(Some(volumes.iter().map(|path| (*path).to_owned()).collect()));
        let mount = |path: &&str| Mount::new(*path, MountSource::Host("/x".into()));
        image_volumes(&image, &asked.iter().map(mount).collect::<Vec<_>>())
    }

    #[test]
    fn what_climbs_stays_inside_and_clients_mounts_win() {
        let paths = |list: &[&str]| Ok(list.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(decide(&["/../../etc", "/data/", "/data"], &[]), paths(&["/data", "/etc"]));
        assert_eq!(decide(&["/a/b/c", "/a"], &["/b"]), paths(&["/a", "/a/b/c"]));
        assert_eq!(decide(&["/data", "/more"], &["/data/", "/x"]), paths(&["/more"]));
        assert_eq!(decide(&["/etc/hosts", "/etc/../etc/resolv.conf"], &[]), paths(&[]));
        assert_eq!(decide(&["/proc", "/dev/shm", "/a/../sys/fs", "/device"], &[]), paths(&["/device"]));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for root in ["/", "/..", "/a/.."] {
            assert_eq!(decide(&[root], &[]), Err(SpecError::MountOnRoot), "{root}");
        }
        for path in ["data", "", "/a\nb"] {
            assert!(matches!(decide(&[path], &[]), Err(SpecError::Path { .. })), "{path:?}");
        }
        let many: Vec<String> = (0..=MAX_VOLUMES).map(|number| format!("/v{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let refused = SpecError::TooManyVolumes { listed: MAX_VOLUMES + 1, most: MAX_VOLUMES };
        assert_eq!(decide(&many, &[]), Err(refused));
    }
}
