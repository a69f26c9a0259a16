//! The files of a pod that are mounted into its containers.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::names;
use crate::engine::error::{EngineError, Result};
use crate::engine::model::{HostAlias, Mode, UserMapping};
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;
use crate::spec;

/// A host's resolv.conf larger than this is not one.
const RESOLV_CONF_LIMIT_BYTES: u64 = 64 * 1024;

/// What is kept of a container's /etc/hosts when an address is added to it.
const HOSTS_LIMIT_BYTES: u64 = 1024 * 1024;

/// Writes /etc/hosts, /etc/hostname and /etc/resolv.conf of a pod that has joined its networks.
pub(super) fn write(shared: &Shared, pod: &Pod) -> Result<()> {
    let paths = shared.paths.pod(&pod.id);
    let refused = |what: &'static str| move |error: spec::FileError| EngineError::invalid(what, &error);
    let hostname = hostname(shared, pod);
    let extra = pod.config.extra_hosts.iter().map(entry);
    let hosts = if pod.config.namespaces.network == Mode::Node {
        let lines = spec::host_lines(&extra.collect::<Vec<_>>()).map_err(refused("extra hosts"))?;
        fs::read_to_string("/etc/hosts").unwrap_or_default() + &lines
    } else {
        let names = own_names(pod, hostname);
        let addresses = pod.joined.iter().flat_map(|place| &place.addresses).map(ipnet::IpNet::addr);
        let all: Vec<_> = extra.chain(addresses.map(|address| own_entry(address, &names))).collect();
        spec::hosts_file(&all).map_err(refused("hostname"))?
    };
    let name = spec::hostname_file(hostname).map_err(refused("hostname"))?;
    let resolv_conf = resolv_conf(shared, pod)?;
    for (path, text) in [(&paths.hosts, hosts), (&paths.hostname, name), (&paths.resolv_conf, resolv_conf)] {
        fs::write(path, text)
            .and_then(|()| give_to_root(path, pod.config.namespaces.user.mapping()))
            .map_err(|error| EngineError::step("write a pod's file", path.display(), &error))?;
    }
    Ok(())
}

/// What /etc/resolv.conf says to a pod on these networks.
fn resolv_conf(shared: &Shared, pod: &Pod) -> Result<String> {
    let own = names::resolution(shared, pod)?.map(|resolution| resolution.file);
    match own.as_ref().or(pod.config.dns.as_ref()) {
        Some(dns) => spec::resolv_conf(dns).map_err(|error| EngineError::invalid("DNS settings", &error)),
        None => host_resolv_conf(shared, pod),
    }
}

/// The host's own.
pub(super) fn host_resolv_conf(shared: &Shared, pod: &Pod) -> Result<String> {
    read_bounded(&shared.settings.host_resolv_conf)
        .map_err(|error| EngineError::step("read the host's resolv.conf", format!("pod {}", pod.id), &error))
}

/// Tells /etc/resolv.conf of a pod that it has other networks `now`, in place, unless its program has changed the file.
pub(super) fn change_resolv_conf(shared: &Shared, pod: &Pod, now: &Pod) -> Result<()> {
    let path = shared.paths.pod(&pod.id).resolv_conf;
    let failed = |error: io::Error| EngineError::step("change a pod's file", path.display(), &error);
    if read_bounded(&path).map_err(failed)? != resolv_conf(shared, pod)? {
        return Ok(());
    }
    fs::write(&path, resolv_conf(shared, now)?).map_err(failed)
}

/// Tells the pod's /etc/hosts of addresses that it has got since; whatever its program has written there stays.
pub(super) fn add_addresses(shared: &Shared, pod: &Pod, addresses: &[IpNet]) -> Result<()> {
    let names = own_names(pod, hostname(shared, pod));
    let entries: Vec<_> = addresses.iter().map(|address| own_entry(address.addr(), &names)).collect();
    let lines = spec::host_lines(&entries).map_err(|error| EngineError::invalid("hostname", &error))?;
    change_hosts(shared, pod, |text| text + &lines)
}

/// Takes the lines of addresses that it has no longer out of the pod's /etc/hosts.
pub(super) fn remove_addresses(shared: &Shared, pod: &Pod, addresses: &[IpNet]) -> Result<()> {
    let gone: Vec<String> = addresses.iter().map(|address| address.addr().to_string()).collect();
    let is_gone = |line: &&str| {
        line.split_whitespace().next().is_some_and(|first| gone.iter().any(|address| address == first))
    };
    change_hosts(shared, pod, |text| {
        text.split_inclusive('\n').filter(|line| !is_gone(line)).collect::<String>()
    })
}

/// In place: the file is mounted into the containers. They may have made of it what they like.
fn change_hosts(shared: &Shared, pod: &Pod, change: impl FnOnce(String) -> String) -> Result<()> {
    let path = shared.paths.pod(&pod.id).hosts;
    fs::File::open(&path)
        .and_then(|file| {
            let mut text = Vec::new();
            io::Read::read_to_end(&mut io::Read::take(file, HOSTS_LIMIT_BYTES), &mut text)?;
            fs::write(&path, change(String::from_utf8_lossy(&text).into_owned()))
        })
        .map_err(|error| EngineError::step("change a pod's file", path.display(), &error))
}

fn hostname<'a>(shared: &'a Shared, pod: &'a Pod) -> &'a str {
    let own = &pod.config.hostname;
    if own.is_empty() { &shared.host.hostname } else { own }
}

/// What a pod is called by itself, with its domain first where it has one.
fn own_names(pod: &Pod, hostname: &str) -> Vec<String> {
    let domain = pod.config.sysctls.get("kernel.domainname");
    let whole = domain.map(|domain| format!("{hostname}.{domain}"));
    whole.into_iter().chain([hostname.to_owned()]).collect()
}

fn own_entry(address: IpAddr, names: &[String]) -> spec::HostsEntry<'_> {
    spec::HostsEntry { address, names: names.iter().map(String::as_str).collect() }
}

fn entry(alias: &HostAlias) -> spec::HostsEntry<'_> {
    spec::HostsEntry { address: alias.address, names: vec![alias.name.as_str()] }
}

/// The pod's root may change its files with a user namespace as it may without one. Given away rather than mounted with
/// mapped owners, for file systems that cannot map them.
fn give_to_root(path: &Path, mapping: Option<&UserMapping>) -> io::Result<()> {
    let Some((uid, gid)) = mapping.map(UserMapping::root) else { return Ok(()) };
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
}

/// The text of a file of the host; empty when there is none.
fn read_bounded(path: &Path) -> io::Result<String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    io::Read::read_to_string(&mut io::Read::take(file, RESOLV_CONF_LIMIT_BYTES), &mut text)?;
    Ok(text)
}
