//! The body of a creation, as Docker's clients send it: null is allowed everywhere.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::docker::healthcheck::Healthcheck;

/// A container that is to be created.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Create {
    #[serde(deserialize_with = "or_default")]
    pub hostname: String,
    #[serde(deserialize_with = "or_default")]
    pub domainname: String,
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub tty: bool,
    #[serde(deserialize_with = "or_default")]
    pub open_stdin: bool,
    #[serde(deserialize_with = "or_default")]
    pub stdin_once: bool,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "words")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub image: String,
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    pub mac_address: String,
    #[serde(deserialize_with = "or_default")]
    pub network_disabled: bool,
    pub healthcheck: Option<Healthcheck>,
    #[serde(deserialize_with = "or_default")]
    pub networking_config: NetworkingConfig,
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    pub host_config: HostConfig,
}

/// How it is to be run on this host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostConfig {
    #[serde(deserialize_with = "or_default")]
    pub binds: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub mounts: Vec<Mount>,
    #[serde(deserialize_with = "or_default")]
    pub tmpfs: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub memory: i64,
    #[serde(deserialize_with = "or_default")]
    pub memory_swap: i64,
    #[serde(deserialize_with = "or_default")]
    pub cpu_shares: i64,
    #[serde(deserialize_with = "or_default")]
    pub nano_cpus: i64,
    #[serde(deserialize_with = "or_default")]
    pub cpu_period: i64,
    #[serde(deserialize_with = "or_default")]
    pub cpu_quota: i64,
    #[serde(deserialize_with = "or_default")]
    pub cpuset_cpus: String,
    #[serde(deserialize_with = "or_default")]
    pub cpuset_mems: String,
    #[serde(deserialize_with = "or_default")]
    pub pids_limit: i64,
    #[serde(deserialize_with = "or_default")]
    pub oom_score_adj: i32,
    #[serde(deserialize_with = "or_default")]
    pub network_mode: String,
    #[serde(deserialize_with = "or_default")]
    pub ipc_mode: String,
    #[serde(deserialize_with = "or_default")]
    pub pid_mode: String,
    #[serde(rename = "UTSMode", deserialize_with = "or_default")]
    pub uts_mode: String,
    #[serde(deserialize_with = "or_default")]
    pub userns_mode: String,
    #[serde(deserialize_with = "or_default")]
    pub port_bindings: BTreeMap<String, Option<Vec<PortBinding>>>,
    #[serde(deserialize_with = "or_default")]
    pub publish_all_ports: bool,
    #[serde(deserialize_with = "or_default")]
    pub restart_policy: RestartPolicy,
    #[serde(deserialize_with = "or_default")]
    pub auto_remove: bool,
    #[serde(deserialize_with = "or_default")]
    pub privileged: bool,
    #[serde(deserialize_with = "or_default")]
    pub cap_add: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cap_drop: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub readonly_rootfs: bool,
    #[serde(deserialize_with = "or_default")]
    pub security_opt: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub devices: Vec<Device>,
    #[serde(deserialize_with = "or_default")]
    pub dns: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub dns_search: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub dns_options: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub extra_hosts: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub links: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub volumes_from: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub volume_driver: String,
    #[serde(deserialize_with = "or_default")]
    pub group_add: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub sysctls: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub ulimits: Vec<Ulimit>,
    #[serde(deserialize_with = "or_default")]
    pub device_requests: Vec<serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    pub shm_size: u64,
    #[serde(deserialize_with = "or_default")]
    pub init: bool,
    #[serde(deserialize_with = "or_default")]
    pub log_config: LogConfig,
    #[serde(deserialize_with = "or_default")]
    pub runtime: String,
    #[serde(deserialize_with = "or_default")]
    pub cgroup_parent: String,
    #[serde(deserialize_with = "or_default")]
    pub cgroupns_mode: String,
    #[serde(deserialize_with = "or_default")]
    pub isolation: String,
    #[serde(deserialize_with = "or_default")]
    pub memory_reservation: i64,
    pub memory_swappiness: Option<i64>,
    #[serde(deserialize_with = "or_default")]
    pub kernel_memory: i64,
    #[serde(deserialize_with = "or_default")]
    pub oom_kill_disable: bool,
    #[serde(deserialize_with = "or_default")]
    pub cpu_realtime_period: i64,
    #[serde(deserialize_with = "or_default")]
    pub cpu_realtime_runtime: i64,
    #[serde(deserialize_with = "or_default")]
    pub blkio_weight: u16,
    #[serde(deserialize_with = "or_default")]
    pub blkio_weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "or_default")]
    pub blkio_device_read_bps: Vec<Throttle>,
    #[serde(deserialize_with = "or_default")]
    pub blkio_device_write_bps: Vec<Throttle>,
    #[serde(rename = "BlkioDeviceReadIOps", deserialize_with = "or_default")]
    pub blkio_device_read_iops: Vec<Throttle>,
    #[serde(rename = "BlkioDeviceWriteIOps", deserialize_with = "or_default")]
    pub blkio_device_write_iops: Vec<Throttle>,
    #[serde(deserialize_with = "or_default")]
    pub device_cgroup_rules: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub storage_opt: BTreeMap<String, String>,
    pub masked_paths: Option<Vec<String>>,
    pub readonly_paths: Option<Vec<String>>,
}

/// Its places in networks, by their names.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkingConfig {
    #[serde(deserialize_with = "or_default")]
    pub endpoints_config: BTreeMap<String, Option<EndpointRequest>>,
}

/// What is asked of a place in a network.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(in crate::docker) struct EndpointRequest {
    #[serde(rename = "IPAMConfig", deserialize_with = "or_default")]
    pub ipam_config: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    pub aliases: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub links: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub mac_address: String,
    #[serde(deserialize_with = "or_default")]
    pub driver_opts: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub gw_priority: i32,
}

/// A mount of `--mount`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(deserialize_with = "or_default")]
    pub r#type: String,
    #[serde(deserialize_with = "or_default")]
    pub source: String,
    #[serde(deserialize_with = "or_default")]
    pub target: String,
    #[serde(deserialize_with = "or_default")]
    pub read_only: bool,
    #[serde(deserialize_with = "or_default")]
    pub bind_options: BindOptions,
    #[serde(deserialize_with = "or_default")]
    pub tmpfs_options: TmpfsOptions,
    #[serde(deserialize_with = "or_default")]
    pub volume_options: VolumeOptions,
    #[serde(deserialize_with = "or_default")]
    pub image_options: ImageOptions,
}

/// What only a volume has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct VolumeOptions {
    #[serde(deserialize_with = "or_default")]
    pub no_copy: bool,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub subpath: String,
    #[serde(deserialize_with = "or_default")]
    pub driver_config: DriverConfig,
}

/// Who keeps a volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct DriverConfig {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub options: BTreeMap<String, String>,
}

/// What only an image has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ImageOptions {
    #[serde(deserialize_with = "or_default")]
    pub subpath: String,
}

/// What only a bind has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct BindOptions {
    #[serde(deserialize_with = "or_default")]
    pub propagation: String,
    #[serde(deserialize_with = "or_default")]
    pub non_recursive: bool,
    #[serde(deserialize_with = "or_default")]
    pub read_only_non_recursive: bool,
    #[serde(deserialize_with = "or_default")]
    pub create_mountpoint: bool,
    #[serde(deserialize_with = "or_default")]
    pub read_only_force_recursive: bool,
}

/// What only a memory filesystem has.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct TmpfsOptions {
    #[serde(deserialize_with = "or_default")]
    pub size_bytes: u64,
    #[serde(deserialize_with = "or_default")]
    pub mode: u32,
    #[serde(deserialize_with = "or_default")]
    pub options: Vec<Vec<String>>,
}

/// Where a port is published.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PortBinding {
    #[serde(deserialize_with = "or_default")]
    pub host_ip: String,
    #[serde(deserialize_with = "or_default")]
    pub host_port: String,
}

/// Whether it is started again by itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct RestartPolicy {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub maximum_retry_count: i64,
}

/// Where its output goes.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct LogConfig {
    #[serde(deserialize_with = "or_default")]
    pub r#type: String,
    #[serde(deserialize_with = "or_default")]
    pub config: BTreeMap<String, String>,
}

/// A resource limit; -1 is unlimited.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Ulimit {
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    #[serde(deserialize_with = "or_default")]
    pub soft: i64,
    #[serde(deserialize_with = "or_default")]
    pub hard: i64,
}

/// Most of one kind of transfer with a disk of the host, a second.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Throttle {
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    #[serde(deserialize_with = "or_default")]
    pub rate: u64,
}

/// A weight at a disk of the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct WeightDevice {
    #[serde(deserialize_with = "or_default")]
    pub path: String,
    #[serde(deserialize_with = "or_default")]
    pub weight: u16,
}

/// A device of the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Device {
    #[serde(deserialize_with = "or_default")]
    pub path_on_host: String,
    #[serde(deserialize_with = "or_default")]
    pub path_in_container: String,
    #[serde(deserialize_with = "or_default")]
    pub cgroup_permissions: String,
}

/// Null is the default.
pub(in crate::docker) fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    input: D,
) -> Result<T, D::Error> {
    Option::deserialize(input).map(Option::unwrap_or_default)
}

/// A list of words, or one word.
pub(super) fn words<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        List(Vec<String>),
        One(String),
    }
    Ok(match Option::deserialize(input)? {
        Some(Words::List(list)) => list,
        Some(Words::One(one)) => vec![one],
        None => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_allowed_everywhere() {
        let text = r#"{"Hostname":null,"Tty":null,"Env":null,"Cmd":null,"Labels":null,"Image":"a",
            "HostConfig":{"Binds":null,"Memory":null,"PortBindings":{"80/tcp":null},"RestartPolicy":null,
            "Init":null,"MemorySwappiness":-1,"LogConfig":{"Type":"","Config":null}}}"#;
        let create: Create = serde_json::from_str(text).unwrap();
        assert_eq!((create.image.as_str(), create.host_config.port_bindings.len()), ("a", 1));
    }

    #[test]
    fn a_command_is_a_list_or_a_word() {
        let create: Create = serde_json::from_str(r#"{"Cmd":"sh","Entrypoint":["a","b"]}"#).unwrap();
        assert_eq!((create.cmd, create.entrypoint), (vec!["sh".into()], vec!["a".into(), "b".into()]));
    }
}
