//! From the operator's settings to the engine's parts.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context, Result};
use cleat_image::{Limits, Policy, Registries};
use cleat_network::bridge::{Bridge, BridgeConfig};

use crate::config::{CgroupDriver, Config, Image};
use crate::engine::{
    CgroupDriver as Driver, CniFolders, Defaults, ImageSources, ImageVolumes, Parts, Settings,
};
use crate::spec::{Profile, capability};

/// The engine's parts as `config` wants them.
pub(crate) fn parts(config: &Config) -> Result<Parts> {
    Ok(Parts {
        settings: settings(config),
        defaults: defaults(config)?,
        image_sources: image_sources(&config.image)?,
        limits: Limits {
            parallel_layers: config.image.max_parallel_layers,
            stall_window: config.image.stall_timeout,
            ..Limits::default()
        },
        bridge: bridge(config)?,
        cni: CniFolders {
            configurations: config.network.cni_conf_dir.clone(),
            plugins: config.network.cni_plugin_dirs.clone(),
        },
    })
}

/// Where images come from as `image` wants it, with the files that it names.
pub(crate) fn image_sources(image: &Image) -> Result<ImageSources> {
    Ok(ImageSources {
        registries: Registries::load(&image.registries_conf, &image.registries_conf_dir)
            .context("read the registries' configuration")?,
        policy: Policy::load(&image.policy).context("read the signature policy")?,
        auth_files: image.auth_files.clone(),
        host_folders: image.certs_dirs.clone(),
        keep_blobs: image.keep_blobs,
    })
}

fn settings(config: &Config) -> Settings {
    Settings {
        root: config.root.clone(),
        additional_stores: config.image.additional_stores.clone(),
        state: config.state.clone(),
        conmon: config.runtime.conmon.clone(),
        pause: config.runtime.pause.clone(),
        handlers: config.runtime.handlers.clone(),
        cgroup_parent: config.cgroup.parent.display().to_string(),
        cgroup_driver: match config.cgroup.driver {
            CgroupDriver::Cgroupfs => Driver::Cgroupfs,
            CgroupDriver::Systemd => Driver::Systemd,
            CgroupDriver::Auto if is_systemd_here() => Driver::Systemd,
            CgroupDriver::Auto => Driver::Cgroupfs,
        },
        exec_output_bytes: config.api.exec_sync_output_bytes,
        cdi_spec_dirs: config.runtime.cdi_spec_dirs.clone(),
        image_volumes: match config.image.binds_volumes {
            true => ImageVolumes::Bind,
            false => ImageVolumes::Ignore,
        },
        host_resolv_conf: "/etc/resolv.conf".into(),
    }
}

/// Whether systemd is process 1 (sd_booted(3)).
fn is_systemd_here() -> bool {
    fs::symlink_metadata("/run/systemd/system").is_ok_and(|found| found.is_dir())
}

fn defaults(config: &Config) -> Result<Defaults> {
    let capabilities = config
        .runtime
        .default_capabilities
        .iter()
        .map(|name| capability(name).with_context(|| format!("default capability {name:?}")))
        .collect::<Result<HashSet<_>>>()?;
    let seccomp_profile = match &config.runtime.seccomp_profile {
        Some(path) => {
            let text =
                fs::read(path).with_context(|| format!("read the seccomp profile {}", path.display()))?;
            Profile::parse(&text).with_context(|| format!("read the seccomp profile {}", path.display()))?
        }
        None => Profile::runtime_default().context("read the built-in seccomp profile")?,
    };
    Ok(Defaults {
        capabilities,
        seccomp_profile,
        pids_limit: config.runtime.pids_limit.map(i64::from),
        shm_size_bytes: config.runtime.shm_size_bytes,
    })
}

fn bridge(config: &Config) -> Result<Bridge> {
    let network = &config.network;
    let bridge = BridgeConfig::new(&network.bridge, &network.subnets, network.mtu, network.masquerade)
        .context("configure the built-in network")?;
    Ok(Bridge::new(bridge))
}
