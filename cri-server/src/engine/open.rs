//! Opening the engine: folders, records, images, network, monitor, recovery.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cleat_image::{Limits, Overlay, Puller, Registries, Store};
use cleat_network::bridge::Bridge;
use cleat_sys::cgroup::{CgroupError, Layout};

use super::Engine;
use super::activity::Activity;
use super::apparmor;
use super::container_files::Written;
use super::error::EngineError;
use super::free_ports::FreePorts;
use super::host::{self, Defaults, HostError};
use super::images::ImageSources;
use super::monitor::{Launcher, MonitorError};
use super::names::Names;
use super::networks::{CniFolders, Networks};
use super::paths::Paths;
use super::records::{Records, RecordsError};
use super::recovery::recover;
use super::registry::Registry;
use super::shared::{Settings, Shared};
use super::stats::Layers;
use super::user_networks::UserNetworks;
use super::volumes::Volumes;
use super::waiting::Waiting;

/// What the engine is given at the start.
pub(crate) struct Parts {
    /// What the operator decided about the engine.
    pub settings: Settings,
    /// What containers get that ask for nothing.
    pub defaults: Defaults,
    /// Where images come from.
    pub image_sources: ImageSources,
    /// How images are pulled.
    pub limits: Limits,
    /// What pods are attached to unless there is a CNI configuration.
    pub(crate) bridge: Bridge,
    /// Where CNI configurations are looked for.
    pub(crate) cni: CniFolders,
}

/// Why the engine cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// A folder could not be made.
    #[error("make the folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The init could not be put where containers find it.
    #[error("install the init {path}")]
    Init {
        /// The program it is made of.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pause program could not be put where pods find it.
    #[error("install the pause program {path}")]
    Pause {
        /// The program.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The host's cgroups could not be found out.
    #[error("look at the host's cgroups")]
    Cgroups(#[source] CgroupError),
    /// The host could not be looked at.
    #[error("look at the host")]
    Host(#[source] HostError),
    /// The image store could not be opened.
    #[error("open the image store")]
    Images(#[source] cleat_image::StoreError),
    /// The records could not be opened.
    #[error("open the records")]
    Records(#[source] RecordsError),
    /// The monitor could not be prepared.
    #[error("prepare the monitor")]
    Monitor(#[source] MonitorError),
    /// What an earlier daemon left could not be understood.
    #[error("recover what an earlier daemon left")]
    Recovery(#[source] EngineError),
}

impl Engine {
    /// Opens the engine: afterwards all pods and containers that run are known and watched, and nothing is half done.
    pub(crate) async fn open(parts: Parts) -> Result<Self, OpenError> {
        let (paths, images) = prepare_root(&parts.settings)?;
        let app_armor = apparmor::prepare(&paths.apparmor()).await;
        let cgroups = Layout::detect().map_err(OpenError::Cgroups)?;
        let host =
            host::probe(&cgroups, &paths.images(), parts.defaults, app_armor).map_err(OpenError::Host)?;
        let shared = Arc::new(Shared {
            host,
            records: Records::open(&paths.database()).map_err(OpenError::Records)?,
            launcher: Launcher::new(&parts.settings.conmon).map_err(OpenError::Monitor)?,
            snapshots: Overlay::new(images.clone()),
            layers: Layers::default(),
            board: Arc::default(),
            names: Names::default(),
            waiting: Waiting::default(),
            free_ports: FreePorts::default(),
            volumes: Volumes::open(paths.volumes())
                .map_err(|source| OpenError::Folder { path: paths.volumes(), source })?,
            activity: Activity::default(),
            written: Written::default(),
            settings: parts.settings,
            images,
            networks: Networks::new(parts.bridge, parts.cni),
            user_networks: UserNetworks::default(),
            cgroups,
            paths,
        });
        let puller = Puller::new(shared.images.clone(), Registries::default(), parts.limits);
        let registry = Arc::new(Registry::default());
        recover(&shared, &registry).await.map_err(OpenError::Recovery)?;
        let engine = Self { shared, registry, puller };
        engine.set_image_sources(parts.image_sources);
        Ok(engine)
    }
}

/// Makes the daemon's folders and opens the image store in them. The store locks its folder: a second daemon with the
/// same root ends here, before it touches anything.
fn prepare_root(settings: &Settings) -> Result<(Paths, Store), OpenError> {
    let paths = Paths::new(&settings.root, &settings.state);
    make_folder(&settings.root, PRIVATE)?;
    // The socket is in here, for whoever its own mode lets in.
    make_folder(&settings.state, PASSABLE)?;
    for path in [paths.pods(), paths.containers(), paths.pods_state(), paths.containers_state()] {
        make_folder(&path, PRIVATE)?;
    }
    install_pause(&settings.pause, &paths.pause_rootfs())
        .map_err(|source| OpenError::Pause { path: settings.pause.clone(), source })?;
    // The monitor's program under another name: a copy, since containers get hold of it.
    install(&settings.conmon, &paths.init())
        .map_err(|source| OpenError::Init { path: settings.conmon.clone(), source })?;
    let images =
        Store::open_above(&paths.images(), &settings.additional_stores).map_err(OpenError::Images)?;
    Ok((paths, images))
}

/// Nobody but root looks into it: specifications hold the environment, which holds secrets, and the ids that name their
/// folders are in every process list.
const PRIVATE: u32 = 0o700;

/// Others may pass through, to names they know.
const PASSABLE: u32 = 0o711;

fn make_folder(path: &Path, mode: u32) -> Result<(), OpenError> {
    let made =
        fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    made.map_err(|source| OpenError::Folder { path: path.to_owned(), source })
}

/// Puts the pause program into the root filesystem of all pause processes.
fn install_pause(program: &Path, rootfs: &Path) -> io::Result<()> {
    // Mount points, since the root filesystem is mounted read-only.
    for folder in ["proc", "dev", "sys"] {
        fs::create_dir_all(rootfs.join(folder))?;
    }
    install(program, &rootfs.join("pause"))
}

/// Copies a program. A new version replaces the file by renaming, so that running ones keep theirs.
fn install(program: &Path, target: &Path) -> io::Result<()> {
    let bytes = fs::read(program)?;
    if fs::read(target).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    let fresh = target.with_extension("new");
    fs::write(&fresh, bytes)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    fs::rename(fresh, target)
}
