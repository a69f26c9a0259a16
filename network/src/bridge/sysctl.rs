//! The kernel's settings that a routed bridge needs, through `/proc/sys/net` of the calling thread's namespace.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{BridgeConfig, BridgeError};

const IPV4_FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
const IPV4_INTERFACES: &str = "/proc/sys/net/ipv4/conf";
const IPV6_INTERFACES: &str = "/proc/sys/net/ipv6/conf";

/// Turns on forwarding for the families that the network has.
pub(super) fn enable_forwarding(config: &BridgeConfig) -> Result<(), BridgeError> {
    if config.has_ipv4() {
        set(Path::new(IPV4_FORWARDING), "1")?;
    }
    if config.has_ipv6() {
        enable_ipv6_forwarding()?;
    }
    Ok(())
}

/// Lets the bridge take part in connections of 127.0.0.1: packets of the host from there leave by it, and their answers,
/// whose destination is translated back before routing, are taken in.
pub(super) fn route_loopback(bridge: &str) -> Result<(), BridgeError> {
    set(&Path::new(IPV4_INTERFACES).join(bridge).join("route_localnet"), "1")
}

/// Settles an interface's IPv6 before it is set up.
///
/// Router advertisements are never taken: any pod could send one and have its neighbours' traffic come to itself
/// (CVE-2020-10749). A network without IPv6 subnets has no IPv6 at all, so that no packet goes around rules made for
/// IPv4. One with them has IPv6 also where interfaces come up without by default.
pub(super) fn settle_ipv6(interface: &str, has_ipv6: bool) -> Result<(), BridgeError> {
    if has_ipv6 {
        set(&of_interface(interface, "accept_ra"), "0")?;
        return set(&of_interface(interface, "disable_ipv6"), "0");
    }
    match set(&of_interface(interface, "disable_ipv6"), "1") {
        // A kernel without IPv6 has nothing to turn off.
        Err(BridgeError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Whether the host of the calling thread's namespace uses IPv6 at all: a daemon that is told nothing else gives its
/// network an IPv6 subnet only then.
#[must_use]
pub fn host_has_ipv6() -> bool {
    is(&of_interface("all", "disable_ipv6"), "0")
}

/// A forwarding host stops taking router advertisements unless told otherwise (`accept_ra` 2 in the kernel's
/// ip-sysctl.rst). One that learnt its own default route that way would lose it: interfaces that take them now go on.
fn enable_ipv6_forwarding() -> Result<(), BridgeError> {
    let all = of_interface("all", "forwarding");
    if is(&all, "1") {
        return Ok(());
    }
    for interface in interfaces_with_ipv6()? {
        let accept_ra = of_interface(&interface, "accept_ra");
        if !matches!(interface.as_str(), "all" | "default") && is(&accept_ra, "1") {
            set(&accept_ra, "2")?;
        }
    }
    set(&all, "1")
}

fn interfaces_with_ipv6() -> Result<Vec<String>, BridgeError> {
    let failed = |source| BridgeError::ListInterfaces { path: PathBuf::from(IPV6_INTERFACES), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(IPV6_INTERFACES).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}

fn of_interface(interface: &str, setting: &str) -> PathBuf {
    Path::new(IPV6_INTERFACES).join(interface).join(setting)
}

/// Writes a setting unless it is so already: reading takes no lock of the network's, writing does.
fn set(path: &Path, value: &'static str) -> Result<(), BridgeError> {
    if is(path, value) {
        return Ok(());
    }
    fs::write(path, value).map_err(|source| BridgeError::Sysctl { path: path.to_owned(), value, source })
}

/// Whether a setting can be read and is `value`; where it cannot be read, writing it will tell why.
fn is(path: &Path, value: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|found| found.trim_end() == value)
}
