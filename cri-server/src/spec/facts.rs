//! What the decisions are made from: facts that the engine has established before it asks.

use std::path::{Path, PathBuf};

use oci_spec::image::Config;
use oci_spec::runtime::{Capabilities, PosixRlimit};

use super::Profile;
use crate::engine::model::{ContainerConfig, DiskFigure, Id, Identity, Mode, PodConfig};

/// What this machine and this daemon can do, probed once at start.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    /// The daemon's own bounding set: nothing outside of it can be given to anybody.
    pub bounding: Capabilities,
    /// Capabilities of a container that asks for nothing.
    pub default_capabilities: Capabilities,
    /// The machine's own name, for containers in its UTS namespace.
    pub hostname: String,
    /// The machine's architecture.
    pub architecture: Architecture,
    /// The running kernel's version.
    pub kernel: KernelVersion,
    /// Whether the kernel has seccomp filters.
    pub seccomp: bool,
    /// The profile that `RuntimeDefault` means.
    pub seccomp_profile: Profile,
    /// What AppArmor can do.
    pub(crate) app_armor: AppArmorSupport,
    /// Whether SELinux is enabled.
    pub selinux: bool,
    /// Whether the controllers are those of the unified hierarchy (cgroup v2).
    pub cgroup_v2: bool,
    /// Whether swap is accounted, so that it can be limited.
    pub swap_accounting: bool,
    /// Whether huge pages can be limited: there is a `hugetlb` controller.
    pub hugetlb: bool,
    /// Whether containers' shares of disks can be weighed.
    pub disk_weights: bool,
    /// Whether real-time CPU time can be given out: cgroup v1 of a kernel with `CONFIG_RT_GROUP_SCHED`.
    pub cpu_realtime: bool,
    /// Whether pods can have user namespaces of their own.
    pub user_namespaces: bool,
    /// Whether mounts can be made read-only recursively (`mount_setattr(2)`, kernel 5.12).
    pub recursive_read_only: bool,
    /// Most processes and threads of a container; unlimited when absent.
    pub(crate) pids_limit: Option<i64>,
    /// Size of a pod's /dev/shm that does not state one, bytes.
    pub shm_size_bytes: u64,
    /// The lowest `oom_score_adj` this daemon may set: -1000 with CAP_SYS_RESOURCE, else its own minimum.
    pub oom_score_adj_min: i32,
    /// Resource limits of every container's program, already within what the daemon may set.
    pub rlimits: Vec<PosixRlimit>,
    /// Paths to mask besides the fixed ones: each CPU's `thermal_throttle` folder below /sys/devices/system/cpu.
    pub masked_paths: Vec<String>,
}

/// What AppArmor does for containers on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppArmorSupport {
    /// The kernel has none, or it is switched off.
    Off,
    /// It is enabled, but nothing here can load a default profile; why. `RuntimeDefault` confines nobody.
    NoDefault(String),
    /// It is enabled, but loading the default profile failed; why. Who would run under it does not run.
    Failed(String),
    /// The profile of this name is loaded, and `RuntimeDefault` means it.
    Default(String),
}

impl std::fmt::Display for AppArmorSupport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::NoDefault(why) => write!(f, "none: {why}"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Default(name) => f.write_str(name),
        }
    }
}

/// A machine's architecture, as far as seccomp profiles know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit Arm, little-endian.
    Arm64,
    /// 64-bit RISC-V.
    Riscv64,
    /// IBM Z.
    S390x,
    /// 64-bit POWER, little-endian.
    Ppc64le,
    /// 64-bit LoongArch.
    Loongarch64,
}

/// Version of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KernelVersion {
    /// `6` of `6.18`.
    pub major: u32,
    /// `18` of `6.18`.
    pub minor: u32,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostDevice {
    /// Where the node is made in the container: absolute.
    pub path: PathBuf,
    /// Block or character.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits, such as 0o660.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
}

/// Kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum DeviceKind {
    /// Block device.
    Block,
    /// Character device.
    Character,
}

/// A device given to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeviceGrant {
    /// The node.
    pub device: HostDevice,
    /// Any of `r`, `w`, `m`; each at most once.
    pub permissions: String,
}

/// A limit of a disk, or a weight at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DiskRate {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// What is limited.
    pub figure: DiskFigure,
    /// Bytes or operations a second; or the weight, 10 to 1000.
    pub rate: u64,
}

/// Where a group's network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetworkNamespace<'a> {
    /// In a namespace pinned at this path.
    Path(&'a Path),
    /// In the host's own.
    Host,
}

/// A pod (or a group of one) and where its parts are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodFacts<'a> {
    /// What was asked for.
    pub config: &'a PodConfig,
    /// Its id.
    pub id: &'a Id,
    /// Its network.
    pub network: NetworkNamespace<'a>,
    /// Where the pod's own user namespace is pinned; none for a pod in the host's.
    pub user: Option<&'a Path>,
    /// The pause process in the host's pid namespace; none in a group without one, whose container owns the namespaces.
    pub pause_pid: Option<i32>,
    /// A mounted memory filesystem that all containers share as /dev/shm; none where a container has its own, or none.
    pub shm: Option<&'a Path>,
    /// The generated /etc/resolv.conf on the host.
    pub resolv_conf: &'a Path,
    /// The generated /etc/hosts on the host.
    pub hosts: &'a Path,
    /// The generated /etc/hostname on the host.
    pub hostname_file: &'a Path,
}

/// A container and what the engine has found out for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ContainerFacts<'a> {
    /// Its id.
    pub id: &'a Id,
    /// What was asked for.
    pub config: &'a ContainerConfig,
    /// The image's execution parameters (`config` of its configuration); defaults where it has none.
    pub image: &'a Config,
    /// Who it runs as, from [`super::identity`].
    pub identity: &'a Identity,
    /// The devices of `config.devices`, folders expanded, numbers read.
    pub devices: &'a [DeviceGrant],
    /// The disks of `config.disk_limits`, numbers read.
    pub disks: &'a [DiskRate],
    /// The host's devices as they are now, where the container is privileged.
    pub host_devices: &'a [HostDevice],
    /// The folders of each image among the mounts, in the order of the mounts: one file or folder to bind, or several
    /// folders to merge, the topmost first.
    pub volumes: &'a [Vec<PathBuf>],
    /// Volumes that the image wants and nobody mounts anything on: places inside, and folders of the container's own.
    pub own_volumes: &'a [(PathBuf, PathBuf)],
    /// Where the engine's volumes are, each in a folder of its name.
    pub volume_folder: &'a Path,
    /// Process 1 of the container that `PidMode::Target` names, in the host's pid namespace.
    pub target_pid: Option<i32>,
    /// The profile read from the file that `Seccomp::Localhost` names.
    pub seccomp_profile: Option<&'a Profile>,
    /// The program of our init on the host, if the container is to have it.
    pub init: Option<&'a Path>,
    /// `root.path`: absolute, or relative to the bundle.
    pub rootfs: &'a Path,
    /// `linux.cgroupsPath` in the form the cgroup driver expects.
    pub cgroups_path: &'a str,
}

impl NetworkNamespace<'_> {
    /// Whether it is the host's.
    #[must_use]
    pub(crate) fn is_host(self) -> bool {
        matches!(self, Self::Host)
    }
}

impl PodFacts<'_> {
    /// Whether the group shares the host's UTS namespace: one that asks for it, or that shares the host's network and has
    /// no name of its own. A pod without a hostname but with a network gets a namespace, whose name is a copy of the host's.
    #[must_use]
    pub(crate) fn uses_host_uts(&self) -> bool {
        let has_no_name = self.network.is_host() && self.config.hostname.is_empty();
        has_no_name || self.config.namespaces.uts == Mode::Node
    }
}

impl Architecture {
    /// The architecture this program is compiled for; `None` on one that seccomp profiles do not name.
    #[must_use]
    pub(crate) fn native() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::Amd64),
            "aarch64" => Some(Self::Arm64),
            "riscv64" => Some(Self::Riscv64),
            "s390x" => Some(Self::S390x),
            "powerpc64" if cfg!(target_endian = "little") => Some(Self::Ppc64le),
            "loongarch64" => Some(Self::Loongarch64),
            _ => None,
        }
    }
}

impl KernelVersion {
    /// The version at the start of a kernel release such as `6.18.44-generic`.
    #[must_use]
    pub(crate) fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(Self { major, minor })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_starts_with_its_version() {
        let version = |major, minor| Some(KernelVersion { major, minor });
        for (release, expected) in [
            ("6.18.44-generic", version(6, 18)),
            ("4.8", version(4, 8)),
            ("5.10-rc1", version(5, 10)),
            ("6", None),
            ("", None),
            ("linux", None),
        ] {
            assert_eq!(KernelVersion::parse(release), expected, "{release}");
        }
    }

    #[test]
    fn this_machine_has_an_architecture() {
        assert!(Architecture::native().is_some());
    }
}
