//! A container's configuration.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CdiName, HealthCheck, IdRange, PidMode, Resources, Security, UserMode};

/// What a client asked a container to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ContainerConfig {
    /// Name, unique in its pod together with `attempt`.
    pub name: String,
    /// How many times this container has been created anew.
    pub attempt: u32,
    /// Which image.
    pub image: ImageChoice,
    /// Replaces the image's entrypoint when not empty.
    pub command: Vec<String>,
    /// Replaces the image's cmd when not empty (or when `command` is given).
    pub args: Vec<String>,
    /// Replaces the image's working folder when not empty; absolute.
    pub working_dir: String,
    /// Environment, later entries win; added to the image's.
    pub envs: Vec<(String, String)>,
    /// Mounts, in the order asked for.
    pub mounts: Vec<Mount>,
    /// Devices of the host.
    pub devices: Vec<Device>,
    /// Devices it may use besides, by their numbers.
    #[serde(default)]
    pub device_rules: Vec<DeviceRule>,
    /// How fast it may read from and write to disks.
    #[serde(default)]
    pub disk_limits: Vec<DiskLimit>,
    /// Devices that files of this host describe, in the order asked for.
    #[serde(default)]
    pub cdi_devices: Vec<CdiName>,
    /// Labels, for selection.
    pub labels: BTreeMap<String, String>,
    /// Annotations, returned unread.
    pub annotations: BTreeMap<String, String>,
    /// Log file, relative to the pod's log folder; no log when absent.
    pub log_path: Option<PathBuf>,
    /// When the monitor begins another log file by itself; a pod's log is rotated by its client.
    #[serde(default)]
    pub log_rotation: Option<LogRotation>,
    /// Whether standard input is kept open.
    pub stdin: bool,
    /// Whether standard input ends with the first attached client.
    pub stdin_once: bool,
    /// Whether the streams are a terminal.
    pub tty: bool,
    /// Limits.
    pub resources: Resources,
    /// Confinement.
    pub security: Security,
    /// Whose process namespace.
    pub pid: PidMode,
    /// Whose cgroup namespace.
    #[serde(default)]
    pub cgroup_namespace: CgroupMode,
    /// The user namespace the client expects, which has to be the pod's; nothing is expected when absent.
    #[serde(default)]
    pub user: Option<UserMode>,
    /// Signal that asks the program to end, replacing the image's: a Linux signal number.
    pub stop_signal: Option<i32>,
    /// Whether an init of ours is its process 1, which reaps what is orphaned; without meaning in a pid namespace that it
    /// does not have alone.
    #[serde(default)]
    pub init: bool,
    /// Whether the volumes that nobody has named go when it does.
    #[serde(default)]
    pub takes_volumes_along: bool,
    /// When it is started again by itself; only of a container without a pod.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Resource limits of the program (getrlimit(2)); the daemon's own where it states none.
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// How it is found out whether it is well; nobody asks when absent.
    #[serde(default)]
    pub health: Option<HealthCheck>,
}

/// How a container's log is kept small.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogRotation {
    /// A file with this many bytes or more takes no further line.
    pub max_bytes: u64,
    /// How many files there are at most, the one that is written to among them; at least 1.
    pub files: u32,
}

/// When a container is started again by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// After every end but a stop; after that too when the daemon starts.
    Always,
    /// After an exit code other than 0.
    OnFailure {
        /// How often at most; 0 is without end.
        most: u32,
    },
    /// After every end but a stop.
    UnlessStopped,
}

/// A resource limit of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rlimit {
    /// Which: `nofile` for `RLIMIT_NOFILE`.
    pub name: String,
    /// In force; `u64::MAX` is unlimited.
    pub soft: u64,
    /// How far it may be raised; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// The image of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageChoice {
    /// As the client's `image` field had it (the kubelet sends the id it was given by the pull).
    pub requested: String,
    /// As the user wrote it, where the client told.
    pub user_specified: String,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    /// Absolute path inside.
    pub destination: PathBuf,
    /// What is mounted there.
    pub source: MountSource,
    /// No writes through this mount.
    pub read_only: bool,
    /// No writes through any mount below it either (kernel 5.12).
    pub recursive_read_only: bool,
    /// Of the host or a volume, without what is mounted below it there.
    #[serde(default)]
    pub non_recursive: bool,
    /// Relabel the source for SELinux.
    pub selinux_relabel: bool,
    /// Which mounts appear on the other side.
    pub propagation: Propagation,
    /// How owners of users appear inside; unchanged when empty.
    #[serde(default)]
    pub users: Vec<IdRange>,
    /// How owning groups appear inside; unchanged when empty.
    #[serde(default)]
    pub groups: Vec<IdRange>,
}

impl Mount {
    /// `source` at `destination`, writable and private.
    pub(crate) fn new(destination: impl Into<PathBuf>, source: MountSource) -> Self {
        Self {
            destination: destination.into(),
            source,
            read_only: false,
            recursive_read_only: false,
            non_recursive: false,
            selinux_relabel: false,
            propagation: Propagation::Private,
            users: Vec::new(),
            groups: Vec::new(),
        }
    }
}

/// Where a mount's content comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum MountSource {
    /// An absolute path of the host, bound with everything mounted below it.
    Host(PathBuf),
    /// An empty memory filesystem with these options.
    Tmpfs(Vec<String>),
    /// An image of this node, or a part of it; always read-only.
    Image {
        /// Its name or id, as the client has it.
        image: String,
        /// A relative path in it; empty for all of it.
        sub_path: String,
    },
    /// A volume of the engine's.
    Volume {
        /// Its name.
        name: String,
        /// Whether nobody has named it.
        is_anonymous: bool,
        /// Whether an empty one gets what the image has at the destination.
        copy: bool,
        /// A relative path in it; empty for all of it.
        #[serde(default)]
        sub_path: String,
        /// Its labels, if it is made for this mount.
        #[serde(default)]
        labels: BTreeMap<String, String>,
    },
}

/// Mount propagation between host and container (`mount_namespaces(7)`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Propagation {
    /// None: `rprivate`.
    #[default]
    Private,
    /// The host's later mounts appear inside: `rslave`.
    HostToContainer,
    /// And the container's outside: `rshared`.
    Bidirectional,
}

/// Whose cgroup namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CgroupMode {
    /// The host's of a privileged container, else its own.
    #[default]
    ByPrivilege,
    /// Its own.
    Container,
    /// The host's.
    Node,
}

/// Devices that may be used by whoever has a node of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRule {
    /// Which kind.
    pub kind: RuleKind,
    /// Major number; any when absent.
    pub major: Option<u32>,
    /// Minor number; any when absent.
    pub minor: Option<u32>,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// Which kind of devices a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RuleKind {
    /// All devices, whatever else the rule says, as the kernel takes it.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Character,
}

/// A limit of one disk, or a weight at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiskLimit {
    /// Path on the host: a block device.
    pub path: PathBuf,
    /// What is limited.
    pub figure: DiskFigure,
    /// Bytes or operations a second; or the weight, 10 to 1000.
    pub rate: u64,
}

/// What can be limited of a disk, or weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DiskFigure {
    /// Bytes read.
    BytesRead,
    /// Bytes written.
    BytesWritten,
    /// Reads.
    Reads,
    /// Writes.
    Writes,
    /// The share of all, relative to others.
    Weight,
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    /// Path on the host: a device node, or a folder of them.
    pub host_path: PathBuf,
    /// Path inside.
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}
