//! What the engine's objects are made of: the configuration both front doors translate their requests into.
//!
//! These types know no gRPC and no HTTP. They are parsed once at the edge (so a `ContainerConfig` that exists is well
//! formed: ids are ids, paths are absolute, enums are known) and kept as JSON in the records.
mod cdi;
pub(crate) mod cgroup;
mod container;
mod health;
mod id;
mod network;
mod pod;
mod resources;
mod security;
mod user;

pub(crate) use cdi::CdiName;
pub(crate) use container::{
    CgroupMode, ContainerConfig, Device, DeviceRule, DiskFigure, DiskLimit, ImageChoice, LogRotation, Mount,
    MountSource, Propagation, RestartPolicy, Rlimit, RuleKind,
};
pub(crate) use health::HealthCheck;
pub(crate) use id::Id;
pub(crate) use network::{
    AddressRange, DEFAULT_NETWORK, Joined, Manners, NetworkWish, Place, PlaceIn, RangeWish, UserNetwork,
};
pub(crate) use pod::{
    Dns, HostAlias, IpcMode, Kind, Mode, Namespaces, PidMode, PodConfig, PodName, PortMapping, Protocol,
};
pub(crate) use resources::{HugepageLimit, PodResources, Resources};
pub(crate) use security::{
    AppArmor, Capabilities, GroupsPolicy, Identity, SeLinux, Seccomp, Security, UserChoice,
};
pub(crate) use user::{IdRange, UserMapping, UserMode};
