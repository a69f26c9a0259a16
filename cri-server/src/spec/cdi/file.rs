//! A vendor's file, as it is written and as it is checked.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use serde::Deserialize;

use super::error::CdiError;
use super::version;
use crate::engine::model::CdiName;

/// How a file is written: by the end of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `.json`.
    Json,
    /// `.yaml`.
    Yaml,
}

/// What a file says. Unknown fields are refused, as the specification asks: they may be what the device needs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Content {
    pub(super) cdi_version: String,
    pub(super) kind: String,
    /// For people; nothing is done with them.
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) devices: Vec<Device>,
    /// For every container with one of the devices.
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// One device.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    pub(super) container_edits: Edits,
}

/// What a container needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Edits {
    pub(super) env: Vec<String>,
    pub(super) device_nodes: Vec<Node>,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Vec<Hook>,
    pub(super) additional_gids: Vec<u32>,
    pub(super) intel_rdt: Option<IntelRdt>,
    pub(super) net_devices: Vec<NetDevice>,
}

/// A share of caches and memory bandwidth.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct IntelRdt {
    #[serde(rename = "closID")]
    pub(super) clos_id: Option<String>,
    pub(super) l3_cache_schema: Option<String>,
    pub(super) mem_bw_schema: Option<String>,
    pub(super) schemata: Option<Vec<String>>,
    pub(super) enable_monitoring: Option<bool>,
    /// Of old files; the kernel counts without being asked.
    #[serde(rename = "enableCMT")]
    pub(super) _enable_cmt: Option<bool>,
    /// As the former.
    #[serde(rename = "enableMBM")]
    pub(super) _enable_mbm: Option<bool>,
}

/// A network device of the host that becomes the container's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct NetDevice {
    pub(super) host_interface_name: String,
    pub(super) name: String,
}

/// A device node.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) path: PathBuf,
    pub(super) host_path: Option<PathBuf>,
    #[serde(rename = "type")]
    pub(super) kind: Option<NodeKind>,
    /// Zero, where nothing is said.
    #[serde(default)]
    pub(super) major: u32,
    #[serde(default)]
    pub(super) minor: u32,
    pub(super) file_mode: Option<u32>,
    #[serde(default)]
    pub(super) permissions: String,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
}

/// Kind of a device node, as mknod(1) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum NodeKind {
    /// Block device.
    #[serde(rename = "b")]
    Block,
    /// Character device.
    #[serde(rename = "c", alias = "u")]
    Character,
    /// Named pipe.
    #[serde(rename = "p")]
    Fifo,
}

/// A mount.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Mount {
    pub(super) host_path: PathBuf,
    pub(super) container_path: PathBuf,
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    #[serde(default)]
    pub(super) options: Vec<String>,
}

/// A program to run at a moment of the container's life.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Hook {
    pub(super) hook_name: String,
    pub(super) path: PathBuf,
    pub(super) args: Option<Vec<String>>,
    pub(super) env: Option<Vec<String>>,
    pub(super) timeout: Option<i64>,
}

/// Reads and checks a file.
///
/// # Errors
/// When it is not of the specification's form, of a version that is not known, or contradicts itself.
pub(crate) fn parse(format: Format, bytes: &[u8]) -> Result<Content, CdiError> {
    let content: Content = match format {
        Format::Json => serde_json::from_slice(bytes).map_err(CdiError::Json)?,
        Format::Yaml => serde_saphyr::from_slice(bytes).map_err(|error| CdiError::Yaml(Box::new(error)))?,
    };
    if !CdiName::is_kind(&content.kind) {
        return Err(CdiError::Kind(content.kind));
    }
    let mut names = HashSet::new();
    for device in &content.devices {
        if !CdiName::is_device(&device.name) {
            return Err(CdiError::DeviceName(device.name.clone()));
        }
        if !names.insert(&device.name) {
            return Err(CdiError::Twice(device.name.clone()));
        }
    }
    if names.is_empty() {
        return Err(CdiError::Empty);
    }
    version::check(&content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"{
        "cdiVersion": "1.1.0", "kind": "vendor.com/net.class", "annotations": {"a": "b"},
        "devices": [{"name": "0", "annotations": {}, "containerEdits": {
            "env": ["A=b"],
            "deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/null", "type": "c", "major": 1, "minor": 3,
                             "fileMode": 438, "permissions": "rw", "uid": 1, "gid": 2}],
            "mounts": [{"hostPath": "/lib", "containerPath": "/lib", "type": "bind", "options": ["ro"]}],
            "hooks": [{"hookName": "poststop", "path": "/bin/x", "args": ["x"], "env": ["A=b"], "timeout": 1}],
            "additionalGids": [5],
            "intelRdt": {"closID": "x"},
            "netDevices": [{"hostInterfaceName": "eth1", "name": "net1"}]}}],
        "containerEdits": {}}"#;

    fn with(field: &str, value: serde_json::Value) -> Result<Content, CdiError> {
        let mut whole: serde_json::Value = serde_json::from_str(WHOLE).unwrap();
        whole[field] = value;
        parse(Format::Json, whole.to_string().as_bytes())
    }

    #[test]
    fn every_field_of_the_specification_is_known() {
        let content = parse(Format::Json, WHOLE.as_bytes()).unwrap();
        let edits = &content.devices[0].container_edits;
        assert_eq!((edits.env.len(), edits.additional_gids.as_slice()), (1, &[5][..]));
        assert_eq!((edits.device_nodes[0].kind, edits.device_nodes[0].minor), (Some(NodeKind::Character), 3));
        assert!(edits.intel_rdt.is_some() && edits.net_devices.len() == 1);
    }

    #[test]
    fn yaml_says_the_same() {
        let text = "---\ncdiVersion: 0.6.0\nkind: vendor.com/class\ndevices:\n- name: gpu0\n  containerEdits:\n    \
                    env:\n    - A=b # a comment\n    deviceNodes:\n    - path: /dev/x\n      fileMode: 438\n";
        let content = parse(Format::Yaml, text.as_bytes()).unwrap();
        let edits = &content.devices[0].container_edits;
        assert_eq!((content.devices[0].name.as_str(), edits.env[0].as_str()), ("gpu0", "A=b"));
        assert_eq!(edits.device_nodes[0].file_mode, Some(438));
        // JSON is YAML, too.
        assert!(parse(Format::Yaml, WHOLE.as_bytes()).is_ok());
        for bad in ["", "a: [", "- 1", "cdiVersion: 1.0.0\ncdiVersion: 1.0.0\n"] {
            assert!(matches!(parse(Format::Yaml, bad.as_bytes()), Err(CdiError::Yaml(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_document_that_grows_without_bounds_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = vec![format!("*a{}", level - 1); 9].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{before}]\n"));
        }
        assert!(parse(Format::Yaml, text.as_bytes()).is_err());
    }

    #[test]
    fn what_contradicts_the_specification_is_refused() {
        use serde_json::json;
        assert!(matches!(with("cdiVersion", json!("9.0.0")), Err(CdiError::Version(_))));
        assert!(matches!(with("kind", json!("vendor.com")), Err(CdiError::Kind(_))));
        assert!(matches!(with("devices", json!([])), Err(CdiError::Empty)));
        assert!(matches!(with("devices", json!([{"name": "-"}])), Err(CdiError::DeviceName(_))));
        assert!(matches!(with("devices", json!([{"name": "a"}, {"name": "a"}])), Err(CdiError::Twice(_))));
        assert!(matches!(with("unheardOf", json!(1)), Err(CdiError::Json(_))));
        assert!(matches!(with("devices", json!([{"name": "a", "more": 1}])), Err(CdiError::Json(_))));
        let negative = json!({"deviceNodes": [{"path": "/dev/x", "major": -1}]});
        assert!(matches!(with("containerEdits", negative), Err(CdiError::Json(_))));
    }
}
