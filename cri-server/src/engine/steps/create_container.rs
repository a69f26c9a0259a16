//! Preparing a container: who it runs as, its specification, its writable layer. Nothing runs yet.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use cleat_image::{Image, Snapshotter};
use oci_spec::image::Config;

use super::run_pod::{pod_facts, write_spec};
use super::{cdi, devices, image_volumes, own_volumes, volumes};
use crate::engine::apparmor;
use crate::engine::container::Container;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{ContainerConfig, Id, Identity, PidMode, Seccomp, cgroup};
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;
use crate::spec;

/// The largest /etc/passwd or /etc/group of an image that is read (CVE-2026-47262: they are the image's to fill).
const ACCOUNT_FILE_LIMIT_BYTES: u64 = 1 << 20;

/// The largest seccomp profile of the host that is read.
const PROFILE_LIMIT_BYTES: u64 = 4 << 20;

/// What the preparation found out.
pub(crate) struct Prepared {
    /// Who the program runs as.
    pub identity: Identity,
}

/// Prepares `container`. After a failure something may be left: [`super::remove_container`] undoes it.
pub(crate) async fn create_container(
    shared: &Arc<Shared>,
    pod: &Arc<Pod>,
    container: &Arc<Container>,
    target_pid: Option<i32>,
) -> Result<Prepared> {
    let (pod, container) = (pod.clone(), container.clone());
    shared.blocking(move |shared| prepare(shared, &pod, &container, target_pid)).await
}

fn prepare(shared: &Shared, pod: &Pod, container: &Container, target_pid: Option<i32>) -> Result<Prepared> {
    let image = shared.images.resolve(&container.image.id).ok_or_else(|| EngineError::NotFound {
        kind: "image",
        name: container.config.image.requested.clone(),
        list: "images",
    })?;
    check_user_namespace(pod, container)?;
    let empty = Config::default();
    let settings = image.config.config().as_ref().unwrap_or(&empty);
    let identity = identity(shared, &image, container, settings)?;
    shared
        .snapshots
        .prepare(container.id.as_str(), &image)
        .map_err(|error| EngineError::step("make the writable layer", object(&container.id), &error))?;
    let volumes = image_volumes::folders(shared, container)?;
    volumes::fill(shared, &image, container)?;
    let own_volumes = own_volumes::make(shared, pod, container, (&image, settings))?;
    let findings =
        Findings { identity: &identity, settings, target_pid, volumes: &volumes, own_volumes: &own_volumes };
    let spec = specification(shared, pod, container, &findings)?;
    write_bundle(shared, container, &spec)?;
    Ok(Prepared { identity })
}

/// All containers of a pod are in one user namespace: a client that expects another is told.
fn check_user_namespace(pod: &Pod, container: &Container) -> Result<()> {
    match &container.config.user {
        Some(expected) if *expected != pod.config.namespaces.user => Err(EngineError::Invalid {
            what: format!("the user namespace of {}", object(&container.id)),
            why: "it is not that of its pod; the same userns_options are expected for both".to_owned(),
        }),
        _ => Ok(()),
    }
}

fn object(id: &Id) -> String {
    format!("container {id}")
}

fn identity(shared: &Shared, image: &Image, container: &Container, settings: &Config) -> Result<Identity> {
    let failed = |error: cleat_image::StoreError| {
        EngineError::step("read the image's accounts", object(&container.id), &error)
    };
    let rootfs = shared.images.open_rootfs(image).map_err(failed)?;
    let read = |path| rootfs.read(path, ACCOUNT_FILE_LIMIT_BYTES).map_err(failed);
    let (passwd, group) = (read("/etc/passwd")?, read("/etc/group")?);
    let image_user = settings.user().as_deref().unwrap_or_default();
    spec::identity(&container.config.security.user, image_user, passwd.as_deref(), group.as_deref())
        .map_err(|error| EngineError::invalid("the user", &error))
}

/// What was found out for the specification.
struct Findings<'a> {
    identity: &'a Identity,
    settings: &'a Config,
    target_pid: Option<i32>,
    volumes: &'a [Vec<PathBuf>],
    own_volumes: &'a [(PathBuf, PathBuf)],
}

fn specification(
    shared: &Shared,
    pod: &Pod,
    container: &Container,
    findings: &Findings<'_>,
) -> Result<oci_spec::runtime::Spec> {
    let pod_paths = shared.paths.of_group(&pod.id, &pod.config);
    let devices = devices::grants(&container.config.devices)?;
    let disks = devices::rates(&container.config.disk_limits)?;
    let privileged = container.config.security.privileged;
    let host_devices = if privileged { devices::of_host()? } else { Vec::new() };
    let profile = localhost_profile(&container.config.security.seccomp)?;
    let init = shared.paths.init();
    apparmor::check_loaded(&container.config.security.app_armor)?;
    let facts = spec::ContainerFacts {
        id: &container.id,
        config: &container.config,
        image: findings.settings,
        identity: findings.identity,
        devices: &devices,
        disks: &disks,
        host_devices: &host_devices,
        volumes: findings.volumes,
        own_volumes: findings.own_volumes,
        volume_folder: shared.volumes.folder(),
        target_pid: findings.target_pid,
        seccomp_profile: profile.as_ref(),
        init: has_init(&container.config).then_some(init.as_path()),
        rootfs: &shared.paths.container(&container.id).rootfs(),
        cgroups_path: &cgroup::specified(&container.cgroup),
    };
    let mut spec = spec::container(&shared.host, &pod_facts(pod, &pod_paths, pod.pause_pid()), &facts)
        .map_err(|error| EngineError::invalid("the container's configuration", &error))?;
    cdi::add(&mut spec, &shared.settings.cdi_spec_dirs, &container.config.cdi_devices)?;
    Ok(spec)
}

/// An init reaps what is orphaned in its pid namespace: only the container's own is its to keep.
fn has_init(config: &ContainerConfig) -> bool {
    config.init && config.pid == PidMode::Container
}

/// The profile of this host that `seccomp` names, or that it is.
fn localhost_profile(seccomp: &Seccomp) -> Result<Option<spec::Profile>> {
    let path = match seccomp {
        Seccomp::Localhost(path) => path,
        Seccomp::Inline(text) => {
            let parsed = spec::Profile::parse(text.as_bytes());
            return parsed.map(Some).map_err(|error| EngineError::invalid("the seccomp profile", &error));
        }
        Seccomp::RuntimeDefault | Seccomp::Unconfined => return Ok(None),
    };
    let what = || format!("seccomp profile {}", path.display());
    let size = fs::metadata(path).map_err(|error| EngineError::invalid(what(), &error))?.len();
    if size > PROFILE_LIMIT_BYTES {
        let why = format!("it has {size} bytes, at most {PROFILE_LIMIT_BYTES} are read");
        return Err(EngineError::Invalid { what: what(), why });
    }
    let text = fs::read(path).map_err(|error| EngineError::invalid(what(), &error))?;
    spec::Profile::parse(&text).map(Some).map_err(|error| EngineError::invalid(what(), &error))
}

fn write_bundle(shared: &Shared, container: &Container, spec: &oci_spec::runtime::Spec) -> Result<()> {
    let paths = shared.paths.container(&container.id);
    let failed = |error: std::io::Error| EngineError::step("make the bundle", object(&container.id), &error);
    fs::create_dir_all(paths.rootfs()).map_err(failed)?;
    if let Some(folder) = container.log_path.as_deref().and_then(std::path::Path::parent) {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    write_spec(&paths.config(), spec)
}
