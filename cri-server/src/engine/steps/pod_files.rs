//! The files of a pod that are mounted into its containers.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use crate::engine::error::{EngineError, Result};
use crate::engine::model::{HostAlias, Mode, UserMapping};
use crate::engine::pod::Pod;
use crate::engine::shared::Shared;
use crate::spec;

/// A host's resolv.conf larger than this is not one.
const RESOLV_CONF_LIMIT_BYTES: u64 = 64 * 1024;

/// Writes /etc/hosts, /etc/hostname and /etc/resolv.conf of a pod that has these addresses.
pub(super) fn write(shared: &Shared, pod: &Pod, addresses: &[IpAddr]) -> Result<()> {
    let paths = shared.paths.pod(&pod.id);
    let object = || format!("pod {}", pod.id);
    let refused = |what: &'static str| move |error: spec::FileError| EngineError::invalid(what, &error);
    let own = &pod.config.hostname;
    let hostname = if own.is_empty() { &shared.host.hostname } else { own };
    let extra = pod.config.extra_hosts.iter().map(entry);
    let hosts = if pod.config.namespaces.network == Mode::Node {
        let lines = spec::host_lines(&extra.collect::<Vec<_>>()).map_err(refused("extra hosts"))?;
        fs::read_to_string("/etc/hosts").unwrap_or_default() + &lines
    } else {
        let domain = pod.config.sysctls.get("kernel.domainname");
        let whole = domain.map(|domain| format!("{hostname}.{domain}"));
        let names: Vec<&str> = whole.as_deref().into_iter().chain([hostname.as_str()]).collect();
        let own = |address: &IpAddr| spec::HostsEntry { address: *address, names: names.clone() };
        let all: Vec<_> = extra.chain(addresses.iter().map(own)).collect();
        spec::hosts_file(&all).map_err(refused("hostname"))?
    };
    let name = spec::hostname_file(hostname).map_err(refused("hostname"))?;
    let resolv_conf = match &pod.config.dns {
        Some(dns) => spec::resolv_conf(dns).map_err(refused("DNS settings"))?,
        None => read_bounded(&shared.settings.host_resolv_conf)
            .map_err(|error| EngineError::step("read the host's resolv.conf", object(), &error))?,
    };
    for (path, text) in [(&paths.hosts, hosts), (&paths.hostname, name), (&paths.resolv_conf, resolv_conf)] {
        fs::write(path, text)
            .and_then(|()| give_to_root(path, pod.config.namespaces.user.mapping()))
            .map_err(|error| EngineError::step("write a pod's file", path.display(), &error))?;
    }
    Ok(())
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
