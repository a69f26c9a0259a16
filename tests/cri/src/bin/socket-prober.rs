//! Opens a socket of each address family whose number it is told, and prints what came of it: a program for containers,
//! to see what their filter lets through.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `AF_ALG`, whose sockets are of sequenced packets only.
const ALGORITHMS: u16 = 38;

fn main() -> Result<()> {
    for argument in std::env::args().skip(1) {
        let family: u16 = argument.parse().with_context(|| format!("{argument} is no family"))?;
        let kind = if family == ALGORITHMS { SocketType::SEQPACKET } else { SocketType::STREAM };
        let opened = socket_with(AddressFamily::from_raw(family), kind, SocketFlags::CLOEXEC, None);
        println!("{family} {}", opened.map_or_else(|error| error.to_string(), |_| "opened".to_owned()));
    }
    Ok(())
}
