//! Which network the next pod is attached to: the operator's CNI configuration where there is one, else the built-in
//! bridge.
//!
//! A cluster's CNI configuration often arrives after the daemon has started, by a pod on the host's network. So the
//! folder is looked at for each pod (one `readdir`), and read again when it has changed. Pods keep the network they were
//! attached to: their records say how they are detached.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::SystemTime;

use cleat_network::Network;
use cleat_network::bridge::Bridge;
use cleat_network::cni::{CniNetwork, ConfigError, DEFAULT_PLUGIN_TIMEOUT};
use ipnet::IpNet;

/// Where CNI looks.
#[derive(Clone, Debug)]
pub(crate) struct CniFolders {
    /// Configurations; may be absent.
    pub(crate) configurations: PathBuf,
    /// Plugins, in the order of search.
    pub(crate) plugins: Vec<PathBuf>,
}

/// The networks there may be.
pub(crate) struct Networks {
    bridge: Arc<Network>,
    folders: CniFolders,
    /// What was found when the folder looked like that.
    found: Mutex<Option<(Fingerprint, Arc<Network>)>>,
    attaching: RwLock<()>,
}

/// Why there is no network for a pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworksError {
    /// The folder cannot be read.
    #[error("look for CNI configurations in {path}")]
    Look {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No configuration in it can be used. The bridge does not step in: the operator asked for something else.
    #[error("read the CNI configuration")]
    Configuration(#[source] ConfigError),
}

/// How the folder looks: each file's name, length and time of change.
type Fingerprint = Vec<(PathBuf, u64, Option<SystemTime>)>;

impl Networks {
    /// `bridge`, unless `folders` hold a CNI configuration.
    pub(crate) fn new(bridge: Bridge, folders: CniFolders) -> Self {
        let (found, attaching) = (Mutex::new(None), RwLock::new(()));
        Self { bridge: Arc::new(Network::Bridge(bridge)), folders, found, attaching }
    }

    /// Held from before a pod's attachment is written down until it is made: nobody takes it for garbage meanwhile.
    pub(crate) fn attaching(&self) -> RwLockReadGuard<'_, ()> {
        self.attaching.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by who looks for garbage: no pod is being attached.
    pub(crate) fn at_rest(&self) -> RwLockWriteGuard<'_, ()> {
        self.attaching.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network of pods that are attached from now on.
    pub(crate) fn current(&self) -> Result<Arc<Network>, NetworksError> {
        let fingerprint = self
            .fingerprint()
            .map_err(|source| NetworksError::Look { path: self.folders.configurations.clone(), source })?;
        if fingerprint.is_empty() {
            return Ok(self.bridge.clone());
        }
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, network)) = &*found
            && *known == fingerprint
        {
            return Ok(network.clone());
        }
        let network = Arc::new(self.load().map_err(NetworksError::Configuration)?);
        *found = Some((fingerprint, network.clone()));
        Ok(network)
    }

    /// The built-in network's bridge, whether or not pods are attached to it.
    pub(super) fn default_bridge(&self) -> &Bridge {
        match &*self.bridge {
            Network::Bridge(bridge) => bridge,
            Network::Cni(_) => unreachable!("it is made of a bridge and never replaced"),
        }
    }

    /// What carries out detaches: their records say how, so any network will do.
    pub(crate) fn detacher(&self) -> &Network {
        &self.bridge
    }

    fn load(&self) -> Result<Network, ConfigError> {
        let CniFolders { configurations, plugins } = &self.folders;
        CniNetwork::load(configurations, plugins, DEFAULT_PLUGIN_TIMEOUT).map(Network::Cni)
    }

    fn fingerprint(&self) -> io::Result<Fingerprint> {
        let entries = match fs::read_dir(&self.folders.configurations) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let is_configuration = path
                .extension()
                .is_some_and(|end| ["conf", "conflist", "json"].iter().any(|known| end == *known));
            // A file that went away between the two calls is not there.
            if let (true, Ok(metadata)) = (is_configuration, fs::metadata(&path)) {
                files.push((path, metadata.len(), metadata.modified().ok()));
            }
        }
        files.sort();
        Ok(files)
    }
}

/// The first of the ranges `wanted` that no pod would get an address of, where the built-in network hands out those of
/// `subnets`. Without subnets somebody else hands addresses out, by a configuration of his own.
pub(super) fn unserved(wanted: &[IpNet], subnets: &[IpNet]) -> Option<IpNet> {
    let served = |range: &IpNet| subnets.is_empty() || subnets.iter().any(|subnet| range.contains(subnet));
    wanted.iter().copied().find(|range| !served(range))
}

#[cfg(test)]
mod tests {
    use cleat_network::bridge::BridgeConfig;

    use super::*;

    const CONFIGURATION: &str = r#"{"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "ptp"}]}"#;

    #[test]
    fn a_range_is_served_by_the_subnets_in_it_or_by_somebody_else() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let ours = nets(&["10.9.0.0/16", "fd00:9::/64"]);
        for (wanted, missing) in [
            (nets(&[]), None),
            (nets(&["10.9.0.0/16"]), None),
            (nets(&["10.8.0.0/15", "fd00:9::/64"]), None),
            (nets(&["10.9.1.0/24"]), Some("10.9.1.0/24")),
            (nets(&["10.9.0.0/16", "fd00:8::/64"]), Some("fd00:8::/64")),
        ] {
            assert_eq!(unserved(&wanted, &ours), missing.map(|net| net.parse().unwrap()), "{wanted:?}");
            assert_eq!(unserved(&wanted, &[]), None);
        }
    }

    #[test]
    fn a_configuration_that_arrives_later_is_used_and_one_that_is_broken_is_no_bridge() {
        let folder = tempfile::tempdir().unwrap();
        let bridge = BridgeConfig::new("cleat9", &["10.9.0.0/24".parse().unwrap()], None, true).unwrap();
        let folders = CniFolders { configurations: folder.path().to_owned(), plugins: Vec::new() };
        let networks = Networks::new(Bridge::new(bridge), folders);
        let name = || networks.current().map(|network| network.name().to_owned());
        assert_eq!(name().unwrap(), "cleat9");

        let file = folder.path().join("10-cluster.conflist");
        fs::write(&file, CONFIGURATION).unwrap();
        assert_eq!(name().unwrap(), "cluster");
        fs::write(&file, CONFIGURATION.replace("cluster", "other-name")).unwrap();
        assert_eq!(name().unwrap(), "other-name");

        fs::write(&file, "{").unwrap();
        assert!(name().is_err());
        fs::remove_file(&file).unwrap();
        assert_eq!(name().unwrap(), "cleat9");
    }
}
