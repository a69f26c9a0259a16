//! Volumes: folders in which containers without a pod keep data, with names and a life of their own.
//!
//! ```text
//! volumes/<name>/_data        what containers see
//! volumes/<name>/volume.json  what is known of it
//! ```
//!
//! The folder is the record: a row that is lost in a power cut must not cost anybody their data, as it does a container's
//! writable layer. A volume appears by one rename and goes by one, so that no crash leaves a half of it; what was on its
//! way then has a name with a dot and is swept by the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::Engine;
use super::deeds::{Deed, DeedKind, Deeds};
use super::error::{EngineError, Result};
use super::model::{ContainerConfig, Id, MountSource};
use super::shared::{Shared, entries};
use crate::spec::VOLUME_DATA;
use crate::time::now_ns;

/// Name of what is known of a volume.
const RECORD: &str = "volume.json";
/// What begins the names of volumes that are being made or removed.
const UNFINISHED: char = '.';

/// The longest name: that of a file.
const MAX_NAME_BYTES: usize = 255;

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    /// Its name.
    #[serde(skip)]
    pub name: String,
    /// Whether nobody has named it: it goes with the container it was made for, if that is asked for.
    pub is_anonymous: bool,
    /// Labels, for selection.
    pub labels: BTreeMap<String, String>,
    /// When it was made, nanoseconds since the Unix epoch.
    pub created_at_ns: i64,
}

/// The volumes of this engine.
pub(crate) struct Volumes {
    folder: PathBuf,
    /// Names that containers which are being made use; who removes a volume looks here, too.
    claimed: Claimed,
    /// Held while a new volume gets its first content.
    filling: Mutex<()>,
    deeds: Arc<Deeds>,
}

/// How many containers that are being made use each name.
type Claimed = Arc<Mutex<BTreeMap<String, usize>>>;

/// Keeps volumes until the container that uses them is known. Ends with its drop.
pub(super) struct Claim {
    claimed: Claimed,
    names: Vec<String>,
}

impl Volumes {
    /// The volumes in `folder`; what an earlier daemon left unfinished is removed.
    pub(super) fn open(folder: PathBuf, deeds: Arc<Deeds>) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&folder)?;
        for name in entries(&folder)?.iter().filter(|name| name.starts_with(UNFINISHED)) {
            fs::remove_dir_all(folder.join(name))?;
        }
        Ok(Self { folder, claimed: Claimed::default(), filling: Mutex::default(), deeds })
    }

    /// Where all of them are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What containers see of the volume `name`.
    pub(super) fn data(&self, name: &str) -> PathBuf {
        self.folder.join(name).join(VOLUME_DATA)
    }

    fn get(&self, name: &str) -> io::Result<Option<Volume>> {
        match fs::read(self.folder.join(name).join(RECORD)) {
            Ok(text) => {
                let volume: Volume = serde_json::from_slice(&text).map_err(io::Error::other)?;
                Ok(Some(Volume { name: name.to_owned(), ..volume }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the volume, or finds the one with its name.
    fn ensure(&self, volume: &Volume) -> io::Result<Volume> {
        if let Some(found) = self.get(&volume.name)? {
            return Ok(found);
        }
        let id = Id::random().map_err(io::Error::other)?;
        let fresh = self.folder.join(format!("{UNFINISHED}{id}"));
        let made = self.make(volume, &fresh);
        if made.is_err()
            && let Err(error) = fs::remove_dir_all(&fresh)
        {
            tracing::debug!(folder = %fresh.display(), %error, "an unfinished volume stays until the next start");
        }
        made
    }

    fn make(&self, volume: &Volume, fresh: &Path) -> io::Result<Volume> {
        fs::DirBuilder::new().mode(0o711).create(fresh)?;
        fs::DirBuilder::new().mode(0o755).create(fresh.join(VOLUME_DATA))?;
        let mut record = fs::File::create(fresh.join(RECORD))?;
        record.write_all(&serde_json::to_vec(volume)?)?;
        record.sync_all()?;
        match renameat_with(CWD, fresh, CWD, self.folder.join(&volume.name), RenameFlags::NOREPLACE) {
            Ok(()) => {
                self.tell(DeedKind::VolumeMade(volume.name.clone()));
                Ok(volume.clone())
            }
            Err(rustix::io::Errno::EXIST) => {
                fs::remove_dir_all(fresh)?;
                self.get(&volume.name)?.ok_or_else(|| io::ErrorKind::NotFound.into())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn tell(&self, kind: DeedKind) {
        self.deeds.tell(|at_ns| Deed { at_ns, kind });
    }

    fn claims(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        self.claimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a volume that is empty its first content by `fill`, one at a time.
    pub(super) fn fill_if_empty<E>(
        &self,
        name: &str,
        fill: impl FnOnce(&Path) -> std::result::Result<(), E>,
    ) -> io::Result<std::result::Result<(), E>> {
        let _filling = self.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let data = self.data(name);
        if fs::read_dir(&data)?.next().is_some() {
            return Ok(Ok(()));
        }
        Ok(fill(&data))
    }

    /// Makes the volumes of a container that is to be created, and keeps them until its claim is dropped.
    pub(super) fn claim(&self, config: &ContainerConfig) -> Result<Claim> {
        let mut claim = Claim { claimed: self.claimed.clone(), names: Vec::new() };
        for (name, is_anonymous, labels) in wanted(config) {
            *self.claims().entry(name.to_owned()).or_default() += 1;
            claim.names.push(name.to_owned());
            let wanted = Volume {
                name: name.to_owned(),
                is_anonymous,
                labels: labels.clone(),
                created_at_ns: now_ns(),
            };
            self.ensure(&wanted).map_err(|error| EngineError::step("make", object(name), &error))?;
        }
        Ok(claim)
    }

    /// Removes a volume that is not `used`.
    fn remove(&self, name: &str, used: impl FnOnce() -> Result<bool>) -> Result<()> {
        let claims = self.claims();
        if claims.contains_key(name) || used()? {
            return Err(EngineError::WrongState {
                action: "remove",
                object: object(name),
                state: "in use",
                remedy: "remove the containers that use it first",
            });
        }
        let failed = |error: io::Error| EngineError::step("remove", object(name), &error);
        let id = Id::random().map_err(|error| EngineError::step("make an id", object(name), &error))?;
        let doomed = self.folder.join(format!("{UNFINISHED}{id}"));
        match fs::rename(self.folder.join(name), &doomed) {
            Ok(()) => self.tell(DeedKind::VolumeRemoved(name.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        drop(claims);
        fs::remove_dir_all(doomed).map_err(failed)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claims = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            if let Some(count) = claims.get_mut(name) {
                *count -= 1;
            }
        }
        claims.retain(|_, count| *count > 0);
    }
}

fn object(name: &str) -> String {
    format!("volume {name}")
}

/// The names of a container's volumes, and which of them nobody named.
pub(crate) fn of_container(config: &ContainerConfig) -> impl Iterator<Item = (&str, bool)> {
    wanted(config).map(|(name, is_anonymous, _)| (name, is_anonymous))
}

/// The same with the labels that one gets where it is made.
fn wanted(config: &ContainerConfig) -> impl Iterator<Item = (&str, bool, &BTreeMap<String, String>)> {
    config.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Volume { name, is_anonymous, labels, .. } => {
            Some((name.as_str(), *is_anonymous, labels))
        }
        MountSource::Host(_) | MountSource::Tmpfs(_) | MountSource::Image { .. } => None,
    })
}

/// Whether a volume may be called so: it becomes the name of a folder.
pub(crate) fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let first = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    first && name.len() > 1 && name.len() <= MAX_NAME_BYTES && name.bytes().all(good)
}

fn uses(config: &ContainerConfig, name: &str) -> bool {
    of_container(config).any(|(known, _)| known == name)
}

impl Shared {
    /// Removes the volumes of a container that nobody named and no other container uses.
    pub(super) fn remove_anonymous(&self, config: &ContainerConfig, id: Option<&Id>) -> Result<()> {
        let names: BTreeSet<&str> =
            of_container(config).filter(|(_, is_anonymous)| *is_anonymous).map(|(name, _)| name).collect();
        for name in names {
            match self.remove_volume(name, id) {
                Ok(()) | Err(EngineError::WrongState { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes a volume that no container, `but` for one, is on record to use. What readers see does not do: while the
    /// daemon starts it is not all there.
    fn remove_volume(&self, name: &str, but: Option<&Id>) -> Result<()> {
        let failed = |error| EngineError::step("look for the users", object(name), &error);
        self.volumes.remove(name, || {
            let known = self.records.load().map_err(failed)?;
            let mut others = known.containers.iter().filter(|container| Some(&container.id) != but);
            Ok(others.any(|container| uses(&container.config, name)))
        })
    }
}

impl Engine {
    /// Makes a volume called `name`, or finds the one that is.
    pub(crate) async fn create_volume(&self, name: &str, labels: BTreeMap<String, String>) -> Result<Volume> {
        let is_anonymous = name.is_empty();
        let name = if is_anonymous { volume_name()? } else { name.to_owned() };
        let wanted = Volume { name, is_anonymous, labels, created_at_ns: now_ns() };
        self.shared
            .blocking(move |shared| {
                let made = shared.volumes.ensure(&wanted);
                made.map_err(|error| EngineError::step("make", object(&wanted.name), &error))
            })
            .await
    }

    /// All volumes, by name.
    pub(crate) async fn volumes(&self) -> Result<Vec<Volume>> {
        self.shared
            .blocking(|shared| {
                let failed = |error| EngineError::step("list", "the volumes", &error);
                let names = entries(shared.volumes.folder()).map_err(failed)?;
                let known = names.iter().filter(|name| !name.starts_with(UNFINISHED));
                known.filter_map(|name| shared.volumes.get(name).map_err(failed).transpose()).collect()
            })
            .await
    }

    /// The volume called `name`, if there is one.
    pub(crate) async fn volume(&self, name: &str) -> Result<Option<Volume>> {
        if !is_name(name) {
            return Ok(None);
        }
        let name = name.to_owned();
        self.shared
            .blocking(move |shared| {
                let found = shared.volumes.get(&name);
                found.map_err(|error| EngineError::step("look at", object(&name), &error))
            })
            .await
    }

    /// Where a volume's data is on this host.
    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.shared.volumes.data(name)
    }

    /// The containers that use a volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<Id> {
        let view = self.view();
        let used = view.containers.values().filter(|container| uses(&container.config, name));
        used.map(|container| container.id.clone()).collect()
    }

    /// Removes a volume that no container uses. An unknown one is fine.
    pub(crate) async fn remove_volume(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.shared.blocking(move |shared| shared.remove_volume(&name, None)).await
    }

    /// What a volume takes, bytes of its files.
    pub(crate) async fn volume_bytes(&self, name: &str) -> Result<u64> {
        let path = self.volume_data(name);
        self.shared
            .blocking(move |_| {
                let failed = |error| EngineError::step("measure", path.display(), &error);
                measure(&path).map_err(failed)
            })
            .await
    }
}

/// A name for a volume that nobody names: as long as the ids that Docker gives them.
pub(crate) fn volume_name() -> Result<String> {
    let id = Id::random().map_err(|error| EngineError::step("make a name", "a volume", &error))?;
    Ok(id.to_string())
}

/// Bytes of the files beneath a folder; links are not followed.
fn measure(folder: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                total += metadata.len();
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str) -> Volume {
        Volume { name: name.into(), is_anonymous: false, labels: BTreeMap::new(), created_at_ns: 7 }
    }

    fn config(name: &str) -> ContainerConfig {
        let mut config = ContainerConfig::default();
        let source = MountSource::Volume {
            name: name.into(),
            is_anonymous: true,
            copy: true,
            sub_path: String::new(),
            labels: BTreeMap::new(),
        };
        config.mounts.push(crate::engine::model::Mount::new("/v", source));
        config
    }

    #[test]
    fn names_are_those_of_one_folder() {
        for (name, good) in [
            ("v1", true),
            ("a.b_c-d", true),
            ("v", false),
            (".x", false),
            ("a/b", false),
            ("../x", false),
            ("", false),
        ] {
            assert_eq!(is_name(name), good, "{name:?}");
        }
        assert!(is_name(&volume_name().unwrap()) && !is_name(&"n".repeat(256)));
    }

    #[test]
    fn a_volume_is_there_or_not_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().join("volumes"), Arc::default()).unwrap();
        let made = volumes.ensure(&volume("v1")).unwrap();
        fs::write(volumes.data("v1").join("file"), "kept").unwrap();
        let other = Volume { created_at_ns: 9, ..volume("v1") };
        assert_eq!(volumes.ensure(&other).unwrap(), made);
        fs::create_dir(folder.path().join("volumes/.half")).unwrap();
        let volumes = Volumes::open(folder.path().join("volumes"), Arc::default()).unwrap();
        assert_eq!(volumes.get("v1").unwrap(), Some(made));
        assert_eq!(fs::read_to_string(volumes.data("v1").join("file")).unwrap(), "kept");
        assert_eq!(entries(volumes.folder()).unwrap().into_iter().collect::<Vec<_>>(), ["v1"]);
        volumes.remove("v1", || Ok(false)).unwrap();
        volumes.remove("v1", || Ok(false)).unwrap();
        assert!(entries(volumes.folder()).unwrap().is_empty());
    }

    #[test]
    fn what_is_used_or_claimed_stays() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().join("volumes"), Arc::default()).unwrap();
        let claim = volumes.claim(&config("v1")).unwrap();
        assert!(volumes.get("v1").unwrap().unwrap().is_anonymous);
        assert!(volumes.remove("v1", || Ok(false)).is_err());
        drop(claim);
        assert!(volumes.remove("v1", || Ok(true)).is_err());
        volumes.remove("v1", || Ok(false)).unwrap();
        assert_eq!(volumes.get("v1").unwrap(), None);
    }
}
