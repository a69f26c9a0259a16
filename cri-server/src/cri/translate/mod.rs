//! Pure translations between the CRI's messages and the engine's types. No file is read and no clock asked here.
//!
//! In: [`pod`], [`container`] and what they are made of ([`security`], [`profile`], [`namespace`], [`resources`],
//! [`mount`], [`signal`]), [`filter`], [`auth`], [`stream`]; all stand on [`field`], which words the refusals.
//! Out: [`pod_status`], [`container_status`], [`event`], [`stats`], [`metric`], [`image`], [`node`]; [`info`] and [`config_json`] make the JSON
//! of verbose answers.

pub(super) mod auth;
mod cdi;
mod config_json;
pub(super) mod container;
pub(super) mod container_status;
pub(super) mod event;
pub(super) mod field;
pub(super) mod filter;
pub(super) mod image;
pub(super) mod info;
pub(super) mod metric;
mod mount;
mod namespace;
pub(super) mod node;
pub(super) mod pod;
pub(super) mod pod_status;
mod profile;
pub(super) mod resources;
#[cfg(test)]
mod samples;
mod security;
mod signal;
pub(super) mod stats;
pub(super) mod stream;
mod user;
