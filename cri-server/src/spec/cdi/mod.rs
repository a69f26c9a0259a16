//! Devices by name: the Container Device Interface, version 1.1 of its specification.
//!
//! A vendor's file says which devices there are and what a container needs to use one: variables, device nodes, mounts,
//! hooks, groups. The engine reads the files; what they mean is decided here.
//!
//! ```text
//! bytes of a file ─▶ file::parse ─▶ SpecFile ─┐
//! names asked for ────────────────────────────┴▶ choice::choose ─▶ Edits ─▶ edits::apply ─▶ Spec
//!                                     numbers of the host's nodes ──────────────┘
//! ```
//! Files of later folders win over those of earlier ones; two files of one folder with the same device make it nobody's.
//! A broken file is a fault of its own devices only: what is not found is told together with what could not be read.

mod choice;
mod edits;
mod error;
mod file;
mod version;

pub(crate) use choice::{SpecFile, choose};
pub(crate) use edits::{HostNode, apply, host_nodes};
pub(crate) use error::CdiError;
pub(crate) use file::{Format, NodeKind, parse};
