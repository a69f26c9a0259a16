//! `linux.netDevices`: devices of the host that become the container's.

use std::collections::{HashMap, HashSet};

use oci_spec::runtime::LinuxNetDevice;

use super::{Namespaces, SpecError};

/// `IFNAMSIZ` of linux/if.h, without the end's mark.
const MAX_NAME_BYTES: usize = 15;

/// A device to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// Its name where the runtime is.
    pub(crate) found: String,
    /// Its name in the container, or a template in which the kernel fills in `%d`.
    pub(crate) wanted: String,
}

/// The devices, by name.
pub(super) fn plan(
    specified: Option<&HashMap<String, LinuxNetDevice>>,
    namespaces: &Namespaces,
) -> Result<Vec<NetDevice>, SpecError> {
    let Some(specified) = specified.filter(|map| !map.is_empty()) else { return Ok(Vec::new()) };
    if !namespaces.has_own_network() {
        return Err(SpecError::NeedsNamespace("linux.netDevices", "network"));
    }
    let mut wanted_names = HashSet::new();
    let device = |(found, device): (&String, &LinuxNetDevice)| {
        let wanted = device.name().as_ref().filter(|name| !name.is_empty()).unwrap_or(found);
        let is_taken = !wanted.contains('%') && !wanted_names.insert(wanted.clone());
        if is_taken || !is_name(found) || !is_template(wanted) {
            return Err(SpecError::value("linux.netDevices", format!("{found}: {wanted}")));
        }
        Ok(NetDevice { found: found.clone(), wanted: wanted.clone() })
    };
    let mut planned: Vec<_> = specified.iter().map(device).collect::<Result<_, _>>()?;
    planned.sort_by(|left, right| left.found.cmp(&right.found));
    Ok(planned)
}

/// What the kernel takes for a name (`dev_valid_name`).
fn is_name(name: &str) -> bool {
    let is_refused = |byte: u8| matches!(byte, b'/' | b':' | b'%' | 0) || byte.is_ascii_whitespace();
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME_BYTES && !name.bytes().any(is_refused)
}

/// A name, or one with a number left to the kernel.
fn is_template(name: &str) -> bool {
    is_name(&name.replacen("%d", "0", 1)) && name.len() <= MAX_NAME_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(json: serde_json::Value, own: bool) -> Result<Vec<NetDevice>, SpecError> {
        let mut list = vec![serde_json::json!({ "type": "mount" })];
        list.extend(own.then(|| serde_json::json!({ "type": "network" })));
        let list: Vec<_> = serde_json::from_value(list.into()).unwrap();
        let specified: HashMap<String, LinuxNetDevice> = serde_json::from_value(json).unwrap();
        plan(Some(&specified), &Namespaces::new(&list, None)?)
    }

    #[test]
    fn a_device_keeps_its_name_unless_another_is_wanted() {
        let plan = planned(serde_json::json!({ "eth1": { "name": "ctr%d" }, "eth0": {} }), true).unwrap();
        let device = |found: &str, wanted: &str| NetDevice { found: found.into(), wanted: wanted.into() };
        assert_eq!(plan, [device("eth0", "eth0"), device("eth1", "ctr%d")]);
        assert_eq!(planned(serde_json::json!({}), false).unwrap(), []);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for bad in [
            serde_json::json!({ "eth0": { "name": "a/b" } }),
            serde_json::json!({ "eth0": { "name": "a%s" } }),
            serde_json::json!({ "eth0": { "name": "a%d%d" } }),
            serde_json::json!({ "eth0": { "name": "sixteen-letters-" } }),
            serde_json::json!({ "eth%d": {} }),
            serde_json::json!({ "..": {} }),
            serde_json::json!({ "eth0": { "name": "x" }, "eth1": { "name": "x" } }),
        ] {
            assert!(planned(bad.clone(), true).is_err(), "{bad}");
        }
        let without = planned(serde_json::json!({ "eth0": {} }), false).unwrap_err();
        assert_eq!(without, SpecError::NeedsNamespace("linux.netDevices", "network"));
    }
}
