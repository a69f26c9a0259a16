//! The daemon from outside. Each test has a daemon, a registry and namespaces of its own and ends with the leak checker.
#![forbid(unsafe_code)]

#[cfg(feature = "vm")]
mod apparmor;
mod cdi;
mod cni;
mod container_mounts;
mod container_options;
mod container_security;
mod crictl_attach;
mod crictl_checkpoint;
mod crictl_containers;
mod crictl_exec;
mod crictl_forward;
mod crictl_images;
mod crictl_pods;
mod crictl_tls;
mod exec;
mod image_contents;
mod image_pulls;
mod image_volumes;
mod lifecycle;
mod logs;
mod metrics;
mod neighbours;
mod network;
mod node_status;
mod pod_options;
mod prometheus;
mod refusals;
mod reload;
mod resources;
mod retries;
mod runtime_handlers;
mod series;
#[cfg(feature = "vm")]
mod unified;
mod user_namespaces;
