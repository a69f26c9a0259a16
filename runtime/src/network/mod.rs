//! A container's network namespace: its loopback device, and devices of the host that are moved into it
//! (`linux.netDevices`). Everything else of a network is the engine's.
//!
//! ```text
//! builder, in the runtime's namespace         init, in the container's
//!                                             the wanted names are free?
//!                                             ◀── its report
//! addresses read, device moved ──Moved──────▶ renamed, addresses set, up
//! ```

mod devices;
mod netlink;

pub(crate) use devices::{Moved, Mover, check_names, settle};

use netlink::{Body, Socket};

use crate::Failure;
use crate::failure::Step;

// Kinds of messages (linux/rtnetlink.h).
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;

/// Bytes of `struct ifinfomsg`.
const LINK_BYTES: usize = 16;
/// `IFF_UP` of linux/if.h.
const UP: u32 = 1;
/// The number of the loopback device, the first of every network namespace.
const LOOPBACK: u32 = 1;

/// `struct ifinfomsg` of the device with this number, with the flags that change.
fn link(index: u32, flags: u32) -> [u8; LINK_BYTES] {
    let mut message = [0; LINK_BYTES];
    message[4..8].copy_from_slice(&index.to_ne_bytes());
    message[8..12].copy_from_slice(&flags.to_ne_bytes());
    message[12..16].copy_from_slice(&flags.to_ne_bytes());
    message
}

/// Turns on the loopback device of the caller's network namespace: without it a program cannot reach itself.
pub(crate) fn raise_loopback() -> Result<(), Failure> {
    let raise = || Socket::open()?.ask(NEW_LINK, 0, Body::new(&link(LOOPBACK, UP)));
    raise().map(drop).step(|| "turn on the loopback device")
}
