//! What is kept of a network for a pod that was attached to it.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{CniError, CniNetwork, config::NetworkList};

/// A pod's network as it was at ADD, with ADD's result once that is known: all that DEL and CHECK need, also when the
/// operator has since changed or removed the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniRecord {
    config: Value,
    plugin_dirs: Vec<PathBuf>,
    result: Option<Value>,
}

impl CniRecord {
    pub(super) fn new(list: &NetworkList, plugin_dirs: &[PathBuf], result: Option<Value>) -> Self {
        let config = json!({
            "name": list.name,
            "cniVersion": list.version.as_str(),
            "disableCheck": list.disable_check,
            "disableGC": list.disable_gc,
            "plugins": list.plugins.iter().map(|plugin| &plugin.config).collect::<Vec<_>>(),
        });
        Self { config, plugin_dirs: plugin_dirs.to_vec(), result }
    }

    /// The network the pod was attached to.
    pub fn network(&self, plugin_timeout: Duration) -> Result<CniNetwork, CniError> {
        let list = NetworkList::parse(self.config.to_string().as_bytes()).map_err(CniError::Record)?;
        Ok(CniNetwork { list, plugin_dirs: self.plugin_dirs.clone(), plugin_timeout })
    }

    /// The last plugin's result as it was printed: `prevResult` of DEL and CHECK. None where ADD has not succeeded.
    #[must_use]
    pub fn result(&self) -> Option<&Value> {
        self.result.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_gives_its_network_back() {
        let text = br#"{"cniVersion":"0.4.0","name":"net","disableCheck":true,"plugins":[
            {"type":"bridge","ipam":{"type":"host-local"}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#;
        let list = NetworkList::parse(text).unwrap();
        let record = CniRecord::new(&list, &["/opt/cni/bin".into()], Some(json!({"ips": []})));
        let stored = serde_json::to_string(&record).unwrap();
        let read: CniRecord = serde_json::from_str(&stored).unwrap();
        assert_eq!(read.network(Duration::from_secs(1)).unwrap().list, list);
    }
}
