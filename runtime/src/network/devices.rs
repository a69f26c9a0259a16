//! Moving devices into a container's network namespace (config-linux.md, "Network Devices").

use std::io;

use cleat_sys::netlink::flags::DUMP;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::netlink::{Body, CREATE, Socket, attribute, number};
use super::{GET_ADDRESS, GET_LINK, LINK_BYTES, NEW_ADDRESS, NEW_LINK, UP, link};
use crate::Failure;
use crate::failure::Step;
use crate::spec::NetDevice;

// Attributes of a device (linux/if_link.h).
const DEVICE_NAME: u16 = 3;
const DEVICE_NAMESPACE_OF_PROCESS: u16 = 19;

/// Bytes of `struct ifaddrmsg`: family, prefix length, flags, scope, then the device's number.
const ADDRESS_BYTES: usize = 8;
// Attributes of an address (linux/if_addr.h).
const PEER: u16 = 1;
const LOCAL: u16 = 2;
const BROADCAST: u16 = 4;
const FLAGS: u16 = 8;
/// `IFA_F_PERMANENT`: no lease, and not made by the kernel from what a router says.
const PERMANENT: u32 = 0x80;
/// What may be asked of a new address: `IFA_F_NODAD`, `IFA_F_HOMEADDRESS`, `IFA_F_MANAGETEMPADDR`,
/// `IFA_F_NOPREFIXROUTE`, `IFA_F_MCAUTOJOIN`. The kernel sets the others itself.
const KEPT_FLAGS: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
/// `RT_SCOPE_UNIVERSE`.
const GLOBAL: u8 = 0;

/// The runtime's network namespace, from where devices are moved.
#[derive(Debug)]
pub(crate) struct Mover(Socket);

/// A device that is in the container's namespace, under a name of no meaning and turned off.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Moved {
    found_as: String,
    wanted: String,
    addresses: Vec<Address>,
}

/// An address that a device had, and shall have again: moving it has taken its addresses away.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Address {
    family: u8,
    prefix_length: u8,
    flags: u32,
    /// Kinds of attributes with their values.
    attributes: Vec<(u16, Vec<u8>)>,
}

impl Mover {
    /// Where the caller is; none where there is nothing to move.
    pub(crate) fn of(devices: &[NetDevice]) -> Result<Option<Self>, Failure> {
        let is_needed = Some(()).filter(|()| !devices.is_empty());
        let open = |()| Socket::open().map(Self).step(|| "connect with the network");
        is_needed.map(open).transpose()
    }

    /// Moves devices into the network namespace of the process `pid`.
    pub(crate) fn send(&self, devices: &[NetDevice], pid: i32) -> Result<Vec<Moved>, Failure> {
        let send = |(number, device): (usize, &NetDevice)| {
            let step = || format!("move network device {}", device.found);
            // Not yet by the wanted name: the kernel would take one that it cannot have only after the move.
            let temporary = format!("moved{number}");
            let index = self.index_of(&device.found).step(step)?;
            let addresses = self.addresses_of(index).step(step)?;
            let request = Body::new(&link(index, 0))
                .with(DEVICE_NAMESPACE_OF_PROCESS, &pid.to_ne_bytes())
                .with_text(DEVICE_NAME, &temporary);
            self.0.ask(NEW_LINK, 0, request).step(step)?;
            Ok(Moved { found_as: temporary, wanted: device.wanted.clone(), addresses })
        };
        devices.iter().enumerate().map(send).collect()
    }

    fn index_of(&self, name: &str) -> io::Result<u32> {
        index_of(&self.0, name)
    }

    /// The addresses of a device that are its own for good and known everywhere.
    fn addresses_of(&self, index: u32) -> io::Result<Vec<Address>> {
        let all = self.0.ask(GET_ADDRESS, DUMP, Body::new(&[0; ADDRESS_BYTES]))?;
        let of_device = all.iter().filter(|answer| number(answer, 4) == Some(index));
        Ok(of_device.filter_map(|answer| Address::lasting(answer)).collect())
    }
}

impl Address {
    /// The address of an answer, if it is one to keep.
    fn lasting(answer: &[u8]) -> Option<Self> {
        let &[family, prefix_length, short_flags, scope, ..] = answer else { return None };
        let flags = attribute(answer, ADDRESS_BYTES, FLAGS).and_then(|value| number(value, 0));
        let flags = flags.unwrap_or(short_flags.into());
        if scope != GLOBAL || flags & PERMANENT == 0 {
            return None;
        }
        let taken = |kind: u16| attribute(answer, ADDRESS_BYTES, kind).map(|value| (kind, value.to_vec()));
        let attributes = [PEER, LOCAL, BROADCAST].into_iter().filter_map(taken).collect();
        Some(Self { family, prefix_length, flags: flags & KEPT_FLAGS, attributes })
    }

    fn request(&self, index: u32) -> Body {
        let mut message = [self.family, self.prefix_length, 0, GLOBAL, 0, 0, 0, 0];
        message[4..].copy_from_slice(&index.to_ne_bytes());
        let body = Body::new(&message).with(FLAGS, &self.flags.to_ne_bytes());
        self.attributes.iter().fold(body, |body, (kind, value)| body.with(*kind, value))
    }
}

/// Fails when the caller's network namespace has a device by a name that one is to get. A template (`eth%d`) is filled in
/// by the kernel.
pub(crate) fn check_names(devices: &[NetDevice]) -> Result<(), Failure> {
    let step = || "look at the container's network devices";
    let socket = Socket::open().step(step)?;
    devices.iter().filter(|device| !device.wanted.contains('%')).try_for_each(|device| {
        match index_of(&socket, &device.wanted) {
            Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => Ok(()),
            Err(error) => Err(error).step(step),
            Ok(_) => Err(Failure::because(
                format!("move network device {}", device.found),
                format!("the container has a device {} already", device.wanted),
            )),
        }
    })
}

/// Names devices that were moved into the caller's network namespace, gives them their addresses and turns them on.
pub(crate) fn settle(moved: &[Moved]) -> Result<(), Failure> {
    let socket = Socket::open().step(|| "connect with the container's network")?;
    moved.iter().try_for_each(|device| {
        let step = || format!("set up network device {}", device.wanted);
        let index = index_of(&socket, &device.found_as).step(step)?;
        let name = Body::new(&link(index, 0)).with_text(DEVICE_NAME, &device.wanted);
        socket.ask(NEW_LINK, 0, name).step(step)?;
        for address in &device.addresses {
            socket.ask(NEW_ADDRESS, CREATE, address.request(index)).step(step)?;
        }
        socket.ask(NEW_LINK, 0, Body::new(&link(index, UP))).map(drop).step(step)
    })
}

/// The number of the device with this name. `ENODEV` when there is none.
fn index_of(socket: &Socket, name: &str) -> io::Result<u32> {
    let request = Body::new(&[0; LINK_BYTES]).with_text(DEVICE_NAME, name);
    let answers = socket.ask(GET_LINK, 0, request)?;
    answers.first().and_then(|answer| number(answer, 4)).ok_or_else(|| Errno::NODEV.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of the kernel's about 10.1.2.3/24 with these flags and this scope.
    fn answer(flags: u32, scope: u8) -> Vec<u8> {
        let mut bytes = vec![2, 24, 0, scope, 7, 0, 0, 0];
        for (kind, value) in [(LOCAL, [10, 1, 2, 3]), (3, *b"eth0"), (FLAGS, flags.to_ne_bytes())] {
            bytes.extend(8_u16.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(value);
        }
        bytes
    }

    #[test]
    fn lasting_addresses_are_kept_without_their_device_s_name() {
        let address = Address::lasting(&answer(PERMANENT | 0x200, GLOBAL)).unwrap();
        let expected = Address {
            family: 2,
            prefix_length: 24,
            flags: 0x200,
            attributes: vec![(LOCAL, vec![10, 1, 2, 3])],
        };
        assert_eq!(address, expected);
        assert_eq!(Address::lasting(&answer(0, GLOBAL)), None, "a lease");
        assert_eq!(Address::lasting(&answer(PERMANENT, 253)), None, "of the link");
        assert_eq!(Address::lasting(&[2, 24]), None);
    }
}
