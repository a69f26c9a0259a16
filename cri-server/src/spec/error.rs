//! Why a request cannot become a specification.

use std::path::PathBuf;

use super::path::PathError;
use super::resources::ResourceError;
use super::signal::SignalError;

/// A request that cannot become a specification. All of them are the client's to mend.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    /// Neither the request nor the image names a program.
    #[error("no command specified: neither the container nor its image names a program")]
    NoCommand,
    /// A program argument holds a NUL, which no process can be given.
    #[error("argument {0} of the command contains a NUL character")]
    NulInArgument(usize),
    /// An environment variable that no process can be given.
    #[error("environment variable {0:?} has an empty name, or a name with '=', or contains a NUL character")]
    Environment(String),
    /// A resource limit that the kernel does not have.
    #[error("resource limit {0:?} is unknown")]
    UnknownRlimit(String),
    /// A resource limit that is in force beyond how far it may be raised.
    #[error("a soft resource limit has to be at most the hard one: {soft} is more than {hard}")]
    RlimitAboveHard {
        /// The limit in force.
        soft: u64,
        /// How far it may be raised.
        hard: u64,
    },
    /// A path in the request.
    #[error("{what} of the container")]
    Path {
        /// Which one: `mount destination`, `working folder`.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: PathError,
    },
    /// Something mounted over the whole root filesystem.
    #[error("a mount on / would hide the container's root filesystem")]
    MountOnRoot,
    /// Recursive read-only where the kernel has none.
    #[error("mount on {}: this kernel cannot make mounts read-only recursively (Linux 5.12 is needed)", .0.display())]
    RecursiveReadOnlyUnsupported(PathBuf),
    /// Recursive read-only of a mount that is writable or that receives later mounts.
    #[error("mount on {}: recursive read-only needs a read-only mount with private propagation", .0.display())]
    RecursiveReadOnlyConflict(PathBuf),
    /// An option of a memory filesystem that could not be told from two.
    #[error("mount on {}: option {option:?} is empty or holds a comma or control character", destination.display())]
    TmpfsOption {
        /// Where it is mounted.
        destination: PathBuf,
        /// The option.
        option: String,
    },
    /// A part of a volume that could be outside of it.
    #[error("mount on {}: subpath {sub_path:?} must be a relative path within the volume", destination.display())]
    SubPath {
        /// Where it is mounted.
        destination: PathBuf,
        /// The part.
        sub_path: String,
    },
    /// An image that wants more volumes than anybody needs.
    #[error("the image lists {listed} volumes, at most {most} are made")]
    TooManyVolumes {
        /// How many it lists.
        listed: usize,
        /// How many are made.
        most: usize,
    },
    /// An image whose layers cannot all be mounted.
    #[error(
        "mount on {}: this kernel cannot merge the {layers} layers of the image (Linux 6.7 is needed)",
        destination.display()
    )]
    VolumeLayers {
        /// Where it is mounted.
        destination: PathBuf,
        /// How many layers it has.
        layers: usize,
    },
    /// A capability nobody knows.
    #[error("unknown capability {0:?}")]
    UnknownCapability(String),
    /// A capability the daemon does not have itself.
    #[error("capability {0} cannot be given: it is not in the daemon's own bounding set")]
    UnavailableCapability(String),
    /// A privileged container in a pod that is not.
    #[error("a privileged container needs a privileged pod")]
    PrivilegedInUnprivilegedPod,
    /// A device with permissions other than r, w, m.
    #[error("device {}: permissions {permissions:?} are not made of r, w and m", path.display())]
    DevicePermissions {
        /// The device.
        path: PathBuf,
        /// What was asked for.
        permissions: String,
    },
    /// A process namespace of another container was asked for, but that has no process.
    #[error("the process namespace of container {0} was asked for, but it is not running")]
    TargetNotRunning(String),
    /// A rule for devices with permissions other than r, w, m.
    #[error("rule for devices: permissions {0:?} are not made of r, w and m")]
    RulePermissions(String),
    /// The pod's process namespace was asked for, but nothing holds it.
    #[error("the pod's process namespace was asked for, but the pod has no process that holds one")]
    NoPodProcess,
    /// A kernel parameter that is not the pod's own.
    #[error("sysctl {name:?} cannot be set: {reason}")]
    Sysctl {
        /// Name as asked for.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A seccomp profile where the kernel has no filters.
    #[error("a seccomp profile was asked for, but this kernel has no seccomp filters")]
    SeccompUnsupported,
    /// The profile of this host was not handed in.
    #[error("seccomp profile {} was not loaded", .0.display())]
    SeccompProfileMissing(PathBuf),
    /// An AppArmor profile where the kernel has no AppArmor.
    #[error("AppArmor profile {0:?} was asked for, but AppArmor is not enabled on this machine")]
    AppArmorUnsupported(String),
    /// The default AppArmor profile where it could not be loaded.
    #[error(
        "the default AppArmor profile was asked for, but it could not be loaded when the daemon started: {0}; \
         ask for another profile or for none (Unconfined), or mend that and restart the daemon"
    )]
    AppArmorDefault(String),
    /// A profile name with characters that AppArmor's own files cannot hold.
    #[error("AppArmor profile name {0:?} is empty or contains a control character")]
    AppArmorName(String),
    /// An SELinux label where the kernel has no SELinux.
    #[error("SELinux label {0:?} was asked for, but SELinux is not enabled on this machine")]
    SeLinuxUnsupported(String),
    /// An SELinux label that cannot be one.
    #[error("SELinux label part {0:?} contains characters that no label has")]
    SeLinuxLabel(String),
    /// Files of the unified hierarchy on a machine without it.
    #[error("unified cgroup settings need cgroup v2, which this machine does not use")]
    UnifiedWithoutCgroupV2,
    /// The limits.
    #[error("limits of the container")]
    Resources(#[source] ResourceError),
    /// How it is stopped.
    #[error("stop signal of the container")]
    Signal(#[source] SignalError),
    /// A process was asked of a specification that has none.
    #[error("the specification has no process to take the user and environment from")]
    NoProcess,
}
