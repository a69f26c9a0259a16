//! What this host and this daemon can do, found out once at the start.

use std::fs;
use std::io;
use std::path::Path;

use cleat_sys::cgroup::{Hierarchy, Layout, Mode};
use nix::sys::utsname::uname;
use nix::unistd::gethostname;
use oci_spec::runtime::{Capabilities, Capability};

use super::shared::entries;
use crate::spec::{AppArmorSupport, Architecture, Host, KernelVersion, Profile};

/// What the operator decided about containers' defaults.
pub(crate) struct Defaults {
    /// Capabilities of a container that asks for nothing.
    pub capabilities: Capabilities,
    /// What `RuntimeDefault` means.
    pub seccomp_profile: Profile,
    /// Most processes and threads of a container.
    pub(crate) pids_limit: Option<i64>,
    /// Size of a pod's /dev/shm, bytes.
    pub shm_size_bytes: u64,
}

/// Why the host could not be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostError {
    /// A file of the kernel's could not be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel's name could not be asked for.
    #[error("ask for the kernel's version")]
    Uname(#[source] nix::errno::Errno),
    /// An architecture or version nobody has tried.
    #[error("{what} {value:?} is not supported")]
    Unsupported {
        /// `architecture` or `kernel release`.
        what: &'static str,
        /// What was found.
        value: String,
    },
}

/// Looks at the host; `images` is the folder of the image store. What AppArmor does was found out by loading a profile.
pub(super) fn probe(
    cgroups: &Layout,
    images: &Path,
    defaults: Defaults,
    app_armor: AppArmorSupport,
) -> Result<Host, HostError> {
    let kernel = kernel()?;
    let status = read("/proc/self/status")?;
    let effective = capabilities_of(mask(&status, "CapEff:"));
    Ok(Host {
        bounding: capabilities_of(mask(&status, "CapBnd:")),
        default_capabilities: defaults.capabilities,
        architecture: Architecture::native().ok_or_else(|| HostError::Unsupported {
            what: "architecture",
            value: std::env::consts::ARCH.to_owned(),
        })?,
        hostname: gethostname().map_err(HostError::Uname)?.to_string_lossy().into_owned(),
        kernel,
        seccomp: Path::new("/proc/sys/kernel/seccomp/actions_avail").exists(),
        seccomp_profile: defaults.seccomp_profile,
        app_armor,
        selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        cgroup_v2: cgroups.mode() == Mode::Unified,
        swap_accounting: swap_accounting(cgroups),
        hugetlb: cgroups.has("hugetlb"),
        disk_weights: disk_weights(cgroups),
        cpu_realtime: hierarchy_of(cgroups, "cpu")
            .is_some_and(|hierarchy| hierarchy.dir.join("cpu.rt_runtime_us").exists()),
        user_namespaces: kernel >= MAPPED_LAYERS && can_map_owners(images),
        recursive_read_only: kernel >= KernelVersion { major: 5, minor: 12 },
        pids_limit: defaults.pids_limit,
        shm_size_bytes: defaults.shm_size_bytes,
        oom_score_adj_min: if effective.contains(&Capability::SysResource) {
            -1000
        } else {
            read("/proc/self/oom_score_adj")?.trim().parse().unwrap_or_default()
        },
        rlimits: Vec::new(),
        masked_paths: thermal_throttle().map_err(|source| HostError::Read { path: CPUS, source })?,
    })
}

/// The first kernel whose overlays take layers with mapped owners.
const MAPPED_LAYERS: KernelVersion = KernelVersion { major: 5, minor: 19 };

/// Tried rather than known: whether users' namespaces are allowed, and what the file system can, shows in nothing else.
fn can_map_owners(images: &Path) -> bool {
    let tried = cleat_sys::mount::try_to_map_owners(images);
    if let Err(error) = &tried {
        let error = error as &dyn std::error::Error;
        tracing::info!(folder = %images.display(), error, "pods cannot have user namespaces of their own");
    }
    tried.is_ok()
}

fn read(path: &'static str) -> Result<String, HostError> {
    fs::read_to_string(path).map_err(|source| HostError::Read { path, source })
}

fn kernel() -> Result<KernelVersion, HostError> {
    let release = uname().map_err(HostError::Uname)?.release().to_string_lossy().into_owned();
    KernelVersion::parse(&release).ok_or(HostError::Unsupported { what: "kernel release", value: release })
}

/// The mask on a line of `/proc/<pid>/status`.
fn mask(status: &str, line: &str) -> u64 {
    let text = status.lines().find_map(|found| found.strip_prefix(line)).map(str::trim);
    text.and_then(|text| u64::from_str_radix(text, 16).ok()).unwrap_or_default()
}

/// The capabilities whose bits are set, as far as the specification has names for them.
fn capabilities_of(mask: u64) -> Capabilities {
    (0..)
        .zip(BY_NUMBER)
        .filter(|(number, _)| mask >> number & 1 == 1)
        .map(|(_, capability)| capability)
        .collect()
}

/// Capabilities by their numbers in `linux/capability.h`.
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// v2 has the files with the controller, v1 only when the kernel was started with `swapaccount=1` (before 5.8).
fn swap_accounting(cgroups: &Layout) -> bool {
    match hierarchy_of(cgroups, "memory") {
        Some(hierarchy) => hierarchy.dir.join("memory.memsw.limit_in_bytes").exists(),
        None => true,
    }
}

/// The hierarchy of a controller of cgroup v1.
fn hierarchy_of<'a>(cgroups: &'a Layout, controller: &str) -> Option<&'a Hierarchy> {
    let has_it = |hierarchy: &&Hierarchy| hierarchy.controllers.iter().any(|name| name == controller);
    cgroups.v1().iter().find(has_it)
}

/// The root has no weight: whether other cgroups have one shows in any of them. A kernel without a scheduler that weighs
/// (v1: BFQ) has no such files.
fn disk_weights(cgroups: &Layout) -> bool {
    let (folder, file) = match (hierarchy_of(cgroups, "blkio"), cgroups.unified()) {
        (Some(hierarchy), _) => (hierarchy.dir.as_path(), "blkio.bfq.weight"),
        (None, Some(folder)) if cgroups.has("io") => (folder, "io.weight"),
        (None, _) => return false,
    };
    let below = entries(folder).unwrap_or_default();
    below.iter().any(|name| folder.join(name).join(file).exists())
}

/// Where the kernel tells of CPUs.
const CPUS: &str = "/sys/devices/system/cpu";

/// Each CPU's throttle counters: a side channel that Docker and Podman hide.
fn thermal_throttle() -> io::Result<Vec<String>> {
    let folder = |cpu: String| format!("{CPUS}/{cpu}/thermal_throttle");
    Ok(entries(Path::new(CPUS))?.into_iter().map(folder).filter(|path| Path::new(path).exists()).collect())
}
