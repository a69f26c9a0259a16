//! The acts: what running, stopping and removing pods and containers does to the host.
//!
//! A step function does one operation whole, or undoes what it did and says why it failed. It knows nothing of states
//! and records other than addresses: the driver decides, records, calls a step and records its outcome. Every effect is
//! named by the object's id, so that undoing is one function that needs no memory of how far the doing came.
mod cdi;
mod checkpoint;
mod cleanup;
mod cni_capabilities;
mod collect_attachments;
mod create_container;
mod devices;
mod exit;
mod image_volumes;
mod joined;
mod launch;
mod names;
mod networks;
mod own_volumes;
mod pause;
mod pod_files;
mod remove_container;
mod run_pod;
mod start_container;
mod stop;
mod take_down_pod;
mod update_container;
mod user_namespace;
mod volumes;

pub(super) use checkpoint::{Order as CheckpointOrder, checkpoint_container};
pub(super) use collect_attachments::collect_attachments;
pub(super) use create_container::{Prepared, create_container};
pub(super) use exit::exit_of;
pub(super) use names::open_names;
pub(super) use networks::{join_running, leave_running, still_joined, take_over};
pub(super) use pause::{is_paused, pause, resume};
pub(super) use remove_container::{remove_container, sweep_container};
pub(super) use run_pod::{PodUp, run_pod};
pub(super) use start_container::{StartFailure, Started, start_container};
pub(super) use stop::{await_monitor, kill, kill_cgroup, stop};
pub(super) use take_down_pod::{remove_pod, stop_pod, sweep_pod};
pub(super) use update_container::update_container;
