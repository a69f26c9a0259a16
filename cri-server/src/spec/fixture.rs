//! A machine, a pod and a container to decide about in tests: everything usual, so that a test states what it changes.

use std::path::{Path, PathBuf};

use oci_spec::image::Config;
use oci_spec::runtime::{Capabilities, Capability};

use super::{
    AppArmorSupport, Architecture, ContainerFacts, Host, KernelVersion, NetworkNamespace, PodFacts, Profile,
};
use crate::engine::model::{ContainerConfig, Id, IdRange, Identity, PodConfig, UserMapping, UserMode};

/// A machine with everything but AppArmor, SELinux and CAP_SYS_RESOURCE.
pub(crate) fn host() -> Host {
    let mut bounding: Capabilities = all_capabilities().into_iter().collect();
    bounding.remove(&Capability::SysResource);
    Host {
        bounding,
        default_capabilities: default_capabilities(),
        hostname: "node-1".into(),
        architecture: Architecture::Amd64,
        kernel: KernelVersion { major: 6, minor: 18 },
        seccomp: true,
        seccomp_profile: Profile::runtime_default().unwrap(),
        app_armor: AppArmorSupport::Off,
        selinux: false,
        cgroup_v2: true,
        swap_accounting: true,
        hugetlb: true,
        disk_weights: true,
        cpu_realtime: false,
        user_namespaces: true,
        recursive_read_only: true,
        pids_limit: None,
        shm_size_bytes: 64 << 20,
        oom_score_adj_min: -1000,
        rlimits: Vec::new(),
        masked_paths: Vec::new(),
    }
}

/// The capabilities that containers of Docker and Kubernetes start with.
pub(super) fn default_capabilities() -> Capabilities {
    Capabilities::from([
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fsetid,
        Capability::Fowner,
        Capability::Mknod,
        Capability::NetRaw,
        Capability::Setgid,
        Capability::Setuid,
        Capability::Setfcap,
        Capability::Setpcap,
        Capability::NetBindService,
        Capability::SysChroot,
        Capability::Kill,
        Capability::AuditWrite,
    ])
}

/// A user namespace of the pod's own.
pub(super) fn user_mode() -> UserMode {
    let range = |host_id| IdRange { container_id: 0, host_id, length: 65_536 };
    UserMode::Pod(UserMapping { users: range(65_536), groups: range(131_072) })
}

/// The id made of one digit.
pub(super) fn id(digit: char) -> Id {
    Id::try_from(digit.to_string().repeat(64)).unwrap()
}

/// Every capability of Linux 6.18, in the order of their numbers.
pub(super) fn all_capabilities() -> Vec<Capability> {
    use Capability as C;
    vec![
        C::Chown,
        C::DacOverride,
        C::DacReadSearch,
        C::Fowner,
        C::Fsetid,
        C::Kill,
        C::Setgid,
        C::Setuid,
        C::Setpcap,
        C::LinuxImmutable,
        C::NetBindService,
        C::NetBroadcast,
        C::NetAdmin,
        C::NetRaw,
        C::IpcLock,
        C::IpcOwner,
        C::SysModule,
        C::SysRawio,
        C::SysChroot,
        C::SysPtrace,
        C::SysPacct,
        C::SysAdmin,
        C::SysBoot,
        C::SysNice,
        C::SysResource,
        C::SysTime,
        C::SysTtyConfig,
        C::Mknod,
        C::Lease,
        C::AuditWrite,
        C::AuditControl,
        C::Setfcap,
        C::MacOverride,
        C::MacAdmin,
        C::Syslog,
        C::WakeAlarm,
        C::BlockSuspend,
        C::AuditRead,
        C::Perfmon,
        C::Bpf,
        C::CheckpointRestore,
    ]
}

/// What a test decides about.
pub(super) struct Scene {
    pub(super) host: Host,
    pub(super) pod: PodConfig,
    pub(super) pod_id: Id,
    pub(super) host_network: bool,
    pub(super) pause_pid: Option<i32>,
    pub(super) has_shm: bool,
    pub(super) container: ContainerConfig,
    pub(super) container_id: Id,
    pub(super) image: Config,
    pub(super) identity: Identity,
    pub(super) target_pid: Option<i32>,
    pub(super) shm: PathBuf,
}

impl Default for Scene {
    fn default() -> Self {
        let mut image = Config::default();
        image.set_cmd(Some(vec!["/app".into()]));
        Self {
            host: host(),
            pod: PodConfig { hostname: "web-0".into(), ..PodConfig::default() },
            pod_id: id('a'),
            host_network: false,
            pause_pid: Some(100),
            has_shm: true,
            container: ContainerConfig::default(),
            container_id: id('c'),
            image,
            identity: Identity { uid: 1000, gid: 1000, groups: vec![1000, 2000], home: None },
            target_pid: Some(200),
            shm: "/run/pod/shm".into(),
        }
    }
}

impl Scene {
    pub(super) fn pod_facts(&self) -> PodFacts<'_> {
        PodFacts {
            config: &self.pod,
            id: &self.pod_id,
            network: if self.host_network {
                NetworkNamespace::Host
            } else {
                NetworkNamespace::Path(Path::new("/run/netns/pod"))
            },
            user: self.pod.namespaces.user.mapping().map(|_| Path::new("/run/pod/userns")),
            pause_pid: self.pause_pid,
            shm: self.has_shm.then_some(self.shm.as_path()),
            resolv_conf: Path::new("/run/pod/resolv.conf"),
            hosts: Path::new("/run/pod/hosts"),
            hostname_file: Path::new("/run/pod/hostname"),
        }
    }

    pub(super) fn container_facts(&self) -> ContainerFacts<'_> {
        ContainerFacts {
            id: &self.container_id,
            config: &self.container,
            image: &self.image,
            identity: &self.identity,
            devices: &[],
            disks: &[],
            host_devices: &[],
            volumes: &[],
            own_volumes: &[],
            volume_folder: Path::new("/volumes"),
            target_pid: self.target_pid,
            seccomp_profile: None,
            init: None,
            rootfs: Path::new("rootfs"),
            cgroups_path: "/pods/p/c",
        }
    }
}
