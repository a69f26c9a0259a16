//! [`Config`]: the settings with types of their own, as the rest of the daemon reads them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cleat_streaming::TlsFiles;
use ipnet::IpNet;

use super::effective::Effective;
use super::value::Value;
use super::{kind, net};

/// All settings.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Folder of what survives a reboot.
    pub(crate) root: PathBuf,
    /// Folder of what a reboot may take.
    pub(crate) state: PathBuf,
    /// Path of the socket the CRI is served on.
    pub(crate) listen: PathBuf,
    /// The daemon's own log.
    pub(crate) log: Log,
    /// Cgroups.
    pub(crate) cgroup: Cgroup,
    /// Containers.
    pub(crate) runtime: Runtime,
    /// Images.
    pub(crate) image: Image,
    /// Networks.
    pub(crate) network: Network,
    /// Limits of the served interfaces.
    pub(crate) api: Api,
    /// Exec, attach and port-forward.
    pub(crate) streaming: Streaming,
    /// Path of the socket the Docker Engine API is served on, if it is.
    pub(crate) docker_listen: Option<PathBuf>,
    /// Where figures of the daemon are served, if they are.
    pub(crate) metrics_listen: Option<SocketAddr>,
}

/// The daemon's own log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Log {
    /// The least important messages that are still logged.
    pub(crate) level: LogLevel,
    /// Its form.
    pub(crate) format: LogFormat,
}

/// Importance of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// Something failed.
    Error,
    /// Something is wrong and was coped with.
    Warn,
    /// Something happened that an operator wants to know.
    Info,
    /// For developers of the daemon.
    Debug,
    /// Everything.
    Trace,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Cgroups.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// Who makes them.
    pub(crate) driver: CgroupDriver,
    /// Absolute path, from the root of each hierarchy, of the cgroup of pods that name no parent.
    pub(crate) parent: PathBuf,
}

/// Who makes cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CgroupDriver {
    /// The runtime, in the filesystem.
    Cgroupfs,
    /// systemd, asked by the runtime.
    Systemd,
    /// systemd where it is process 1.
    Auto,
}

/// Containers.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    /// The monitor's program.
    pub(crate) conmon: PathBuf,
    /// The pause program.
    pub(crate) pause: PathBuf,
    /// Programs of other OCI runtimes, by the names of their handlers.
    pub(crate) handlers: BTreeMap<String, PathBuf>,
    /// Capabilities of a container before those it adds and drops, as `CAP_NAME`.
    pub(crate) default_capabilities: Vec<String>,
    /// A file in place of the built-in seccomp profile.
    pub(crate) seccomp_profile: Option<PathBuf>,
    /// Folders of files that describe devices, the later preferred; may be absent.
    pub(crate) cdi_spec_dirs: Vec<PathBuf>,
    /// Most processes and threads of a container.
    pub(crate) pids_limit: Option<u32>,
    /// Size of a pod's `/dev/shm`, in bytes.
    pub(crate) shm_size_bytes: u64,
}

/// Images.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    /// containers-registries.conf(5); may be absent.
    pub(crate) registries_conf: PathBuf,
    /// Its drop-ins; may be absent.
    pub(crate) registries_conf_dir: PathBuf,
    /// containers-policy.json(5); may be absent.
    pub(crate) policy: PathBuf,
    /// containers-auth.json(5), or Docker's; may be absent.
    pub(crate) auth_files: Vec<PathBuf>,
    /// Folders of registries' hosts; may be absent.
    pub(crate) certs_dirs: Vec<PathBuf>,
    /// Stores of others, read-only.
    pub(crate) additional_stores: Vec<PathBuf>,
    /// Whether layers are kept as they were pulled.
    pub(crate) keep_blobs: bool,
    /// Whether an image's volumes are folders of the container's own.
    pub(crate) binds_volumes: bool,
    /// Most layers of one image fetched and unpacked at once.
    pub(crate) max_parallel_layers: usize,
    /// How long a download may receive nothing.
    pub(crate) stall_timeout: Duration,
}

/// Networks.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Name of the built-in network's bridge.
    pub(crate) bridge: String,
    /// Its address ranges: at most one of each family, at least one.
    pub(crate) subnets: Vec<IpNet>,
    /// Whether its pods reach other networks under the node's address.
    pub(crate) masquerade: bool,
    /// Its largest packet, in bytes; none takes the kernel's default.
    pub(crate) mtu: Option<u32>,
    /// Folder of CNI configurations; may be absent.
    pub(crate) cni_conf_dir: PathBuf,
    /// Folders of CNI plugins, in the order of search.
    pub(crate) cni_plugin_dirs: Vec<PathBuf>,
}

/// Limits of the served interfaces.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api {
    /// Most output of one ExecSync that is kept, in bytes.
    pub(crate) exec_sync_output_bytes: usize,
}

/// Exec, attach and port-forward.
#[derive(Clone, Debug)]
pub(crate) struct Streaming {
    /// Where they are served.
    pub(crate) address: SocketAddr,
    /// How long a session may be without a byte.
    pub(crate) idle_limit: Option<Duration>,
    /// What they are served with, where it is TLS.
    pub(crate) tls: Option<TlsFiles>,
}

impl From<&Effective> for Config {
    fn from(settings: &Effective) -> Self {
        let read = Reader(settings);
        Self {
            root: read.path("root"),
            state: read.path("state"),
            listen: kind::parse_socket(read.text("listen")).expect(CHECKED),
            log: Log { level: level(read.text("log.level")), format: format(read.text("log.format")) },
            cgroup: Cgroup {
                driver: cgroup_driver(read.text("cgroup.driver")),
                parent: read.path("cgroup.parent"),
            },
            runtime: Runtime {
                conmon: read.path("runtime.conmon"),
                pause: read.path("runtime.pause"),
                handlers: kind::parse_handlers(read.list("runtime.handlers")).expect(CHECKED),
                default_capabilities: read.list("runtime.default_capabilities").to_vec(),
                seccomp_profile: read.optional_path("runtime.seccomp_profile"),
                cdi_spec_dirs: read.list("runtime.cdi_spec_dirs").iter().map(PathBuf::from).collect(),
                pids_limit: Some(read.number("runtime.pids_limit")).filter(|&limit: &u32| limit != 0),
                shm_size_bytes: read.number("runtime.shm_size_bytes"),
            },
            image: Image {
                registries_conf: read.path("image.registries_conf"),
                registries_conf_dir: read.path("image.registries_conf_dir"),
                policy: read.path("image.policy"),
                auth_files: read.list("image.auth_files").iter().map(PathBuf::from).collect(),
                certs_dirs: read.list("image.certs_dirs").iter().map(PathBuf::from).collect(),
                additional_stores: read.list("image.additional_stores").iter().map(PathBuf::from).collect(),
                keep_blobs: read.switch("image.keep_blobs"),
                binds_volumes: read.text("image.volumes") == "bind",
                max_parallel_layers: read.number("image.max_parallel_layers"),
                stall_timeout: Duration::from_secs(read.number("image.stall_timeout_s")),
            },
            network: read.network(),
            api: Api { exec_sync_output_bytes: read.number("api.exec_sync_output_bytes") },
            streaming: read.streaming(),
            docker_listen: kind::parse_optional_socket(read.text("docker.listen")).expect(CHECKED),
            metrics_listen: read
                .optional_text("metrics.listen")
                .map(|text| net::parse_socket_address(text).expect(CHECKED)),
        }
    }
}

/// Why reading a setting by its kind cannot fail.
const CHECKED: &str = "the table of settings has this key with this kind, and values are checked when merged";

fn cgroup_driver(name: &str) -> CgroupDriver {
    match name {
        "systemd" => CgroupDriver::Systemd,
        "auto" => CgroupDriver::Auto,
        _ => CgroupDriver::Cgroupfs,
    }
}

fn level(text: &str) -> LogLevel {
    match text {
        "error" => LogLevel::Error,
        "warn" => LogLevel::Warn,
        "debug" => LogLevel::Debug,
        "trace" => LogLevel::Trace,
        _ => LogLevel::Info,
    }
}

fn format(text: &str) -> LogFormat {
    if text == "json" { LogFormat::Json } else { LogFormat::Text }
}

/// Reads settings by the shape their kind guarantees.
struct Reader<'a>(&'a Effective);

impl Reader<'_> {
    fn text(&self, key: &str) -> &str {
        match self.0.value(key) {
            Some(Value::Text(text)) => text,
            other => unreachable!("{key} is {other:?}: {CHECKED}"),
        }
    }

    fn list(&self, key: &str) -> &[String] {
        match self.0.value(key) {
            Some(Value::List(items)) => items,
            other => unreachable!("{key} is {other:?}: {CHECKED}"),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        PathBuf::from(self.text(key))
    }

    fn optional_path(&self, key: &str) -> Option<PathBuf> {
        self.0.value(key).map(|_| self.path(key))
    }

    fn optional_text(&self, key: &str) -> Option<&str> {
        self.0.value(key).map(|_| self.text(key))
    }

    fn number<N: TryFrom<i64>>(&self, key: &str) -> N {
        match self.0.value(key) {
            Some(Value::Integer(number)) => N::try_from(*number).ok().expect(CHECKED),
            other => unreachable!("{key} is {other:?}: {CHECKED}"),
        }
    }

    fn switch(&self, key: &str) -> bool {
        self.0.value(key) == Some(&Value::Switch(true))
    }

    fn streaming(&self) -> Streaming {
        let idle_limit = Duration::from_secs(self.number("streaming.idle_timeout_s"));
        Streaming {
            address: net::parse_socket_address(self.text("streaming.address")).expect(CHECKED),
            idle_limit: Some(idle_limit).filter(|limit| !limit.is_zero()),
            tls: self.streaming_tls(),
        }
    }

    /// A certificate without its key is refused when settings are merged.
    fn streaming_tls(&self) -> Option<TlsFiles> {
        Some(TlsFiles {
            certificate: self.optional_path("streaming.tls_cert")?,
            key: self.optional_path("streaming.tls_key")?,
            client_authorities: self.optional_path("streaming.tls_ca"),
        })
    }

    fn network(&self) -> Network {
        Network {
            bridge: self.text("network.bridge").to_owned(),
            subnets: net::parse_subnets(self.list("network.subnets")).expect(CHECKED),
            masquerade: self.switch("network.masquerade"),
            mtu: self.0.value("network.mtu").map(|_| self.number("network.mtu")),
            cni_conf_dir: self.path("network.cni_conf_dir"),
            cni_plugin_dirs: self.list("network.cni_plugin_dirs").iter().map(PathBuf::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::effective::tests::merged;
    use crate::config::kind::Kind;
    use crate::config::settings::SETTINGS;

    #[test]
    fn the_defaults_have_their_types() {
        let config = Config::from(&merged(&[]).0);
        assert_eq!(config.listen, PathBuf::from("/run/cleat/cleat.sock"));
        assert_eq!(config.log.level, LogLevel::Info);
        assert_eq!(config.cgroup.parent, PathBuf::from("/cleat"));
        assert_eq!(config.runtime.pids_limit, None);
        assert_eq!(config.runtime.seccomp_profile, None);
        assert_eq!(config.network.mtu, None);
        assert_eq!(config.docker_listen, None);
        assert!(config.streaming.address.ip().is_loopback());
        assert!(config.network.masquerade);
        assert_eq!(config.network.subnets.len(), 2);
    }

    #[test]
    fn every_word_of_a_choice_has_its_type() {
        let words = |key| match crate::config::settings::find(key).unwrap().kind {
            Kind::Choice(words) => words,
            other => panic!("{other:?}"),
        };
        let levels: Vec<_> =
            words("log.level").iter().map(|word| format!("{:?}", level(word)).to_lowercase()).collect();
        assert_eq!(levels, words("log.level"));
        let formats: Vec<_> =
            words("log.format").iter().map(|word| format!("{:?}", format(word)).to_lowercase()).collect();
        assert_eq!(formats, words("log.format"));
    }

    #[test]
    fn the_bounds_of_every_number_fit_its_type() {
        for setting in SETTINGS {
            let Kind::Integer { min, max } = setting.kind else { continue };
            for number in [min, max] {
                let (effective, faults) = merged(&[(setting.key, Value::Integer(number), 1)]);
                assert_eq!(faults, Vec::<String>::new());
                let _config = Config::from(&effective);
            }
        }
    }
}
