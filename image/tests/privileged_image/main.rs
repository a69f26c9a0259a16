//! Unpacking, the store, snapshots and pulls on a real file system, with ownership, devices and overlay attributes: needs
//! root. Everything happens in temporary folders and on loopback, and goes with its test.
#![allow(clippy::unwrap_used, reason = "a test that fails by a panic says so where it happens")]

mod additional;
mod archive;
mod crash;
mod fixture;
mod implied;
mod kill;
mod matrix;
mod power;
mod pull;
mod pull_faults;
mod pull_hosts;
mod pull_messages;
mod pull_tls;
mod push;
mod recipe;
mod snapshotter;
mod store;
mod unpack;
mod volume;
