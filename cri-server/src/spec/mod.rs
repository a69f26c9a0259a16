//! From a request to an OCI runtime specification: pure functions without a file, a process or a kernel behind them.
//!
//! Whatever has to be looked up (the image's passwd file, the numbers of a device, what the kernel can do) is looked up
//! by the engine and comes in as data, so that each decision here can be tested by a table and no check can be raced.
//!
//! ```text
//! Host            what this machine and this daemon can do, probed once ┐
//! PodFacts        the pod and where its namespaces and files are        ├─▶ pause(), container() ─▶ Spec
//! ContainerFacts  the container, its image, identity and devices        ┘             exec_process() ◀─┘
//! ```
//!
//! | file | decides |
//! |---|---|
//! | `identity`, `passwd` | who the program runs as |
//! | `process`, `signal` | what is executed, with which environment, and how it is asked to stop |
//! | `capability`, `seccomp`, `lsm`, `masks`, `devices` | what it may do |
//! | `mounts`, `image_volumes`, `namespaces`, `sysctl` | what it sees |
//! | `resources`, `disks` | how much it gets |
//! | `cdi` | what the devices it was given by name add to all that |
//! | `files` | the text of /etc/hosts, /etc/hostname and /etc/resolv.conf |
//!
//! What a client wrote into labels and annotations never reaches a specification: OCI runtimes take orders from
//! annotations, and an order is not the client's to give.

mod annotations;
mod capability;
pub(crate) mod cdi;
mod container;
mod devices;
mod disks;
mod error;
mod facts;
mod files;
mod identity;
mod image_volumes;
mod lsm;
mod masks;
mod mounts;
mod namespaces;
mod passwd;
mod path;
mod pause;
mod process;
mod resources;
mod seccomp;
mod signal;
mod sysctl;

#[cfg(test)]
pub(crate) mod fixture;

pub(crate) use capability::parse as capability;
pub(crate) use container::container;
pub(crate) use error::SpecError;
pub(crate) use facts::{
    AppArmorSupport, Architecture, ContainerFacts, DeviceGrant, DeviceKind, DiskRate, Host, HostDevice,
    KernelVersion, NetworkNamespace, PodFacts,
};
pub(crate) use files::{
    FileError, HostsEntry, host_lines, hostname_file, hosts_file, read_resolv_conf, resolv_conf,
};
pub(crate) use identity::identity;
pub(crate) use image_volumes::image_volumes;
pub(crate) use masks::{MASKED as MASKED_PATHS, READ_ONLY as READ_ONLY_PATHS};
pub(crate) use mounts::VOLUME_DATA;
pub(crate) use namespaces::{Joined, join};
pub(crate) use pause::pause;
pub(crate) use process::{exec_process, make_privileged, process_args, run_as};
pub(crate) use resources::on_host as resources;
pub(crate) use seccomp::Profile;
pub(crate) use signal::{parse_signal, stop_signal};
