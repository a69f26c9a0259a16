//! A network configuration list as it is read, checked before anything is executed with it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::version::Version;

/// A list of plugins that together make a network (CNI specification, section 1).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NetworkList {
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) disable_check: bool,
    pub(super) disable_gc: bool,
    pub(super) plugins: Vec<Plugin>,
}

/// One plugin's part of the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plugin {
    /// The name of its program.
    pub(super) kind: String,
    /// Its configuration with everything that only it understands.
    pub(super) config: Map<String, Value>,
}

/// A file that is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It is no JSON, or a field has the wrong type.
    #[error("it is not JSON of the expected form")]
    Json(#[from] serde_json::Error),
    /// The network's name is missing or has characters that the specification does not allow.
    #[error("network name {0:?}: a letter or digit, then letters, digits, `_`, `.` and `-`")]
    Name(String),
    /// No version that we speak is named.
    #[error("cniVersion {0}: one of 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0 is needed")]
    Version(String),
    /// The list is empty.
    #[error("it has no plugins")]
    NoPlugins,
    /// A plugin's type is missing or is no plain file name.
    #[error("plugin type {0:?} is not the name of a program")]
    PluginType(String),
    /// It is about `lo` alone, which every pod has.
    #[error("it only sets up the loopback interface, which every pod has anyway")]
    LoopbackOnly,
}

/// The fields of a list that we understand; a single configuration has its plugin's fields beside them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawList {
    #[serde(default)]
    name: String,
    cni_version: Option<String>,
    #[serde(default)]
    cni_versions: Vec<String>,
    #[serde(default)]
    disable_check: Switch,
    #[serde(default, rename = "disableGC")]
    disable_gc: Switch,
    plugins: Option<Vec<Map<String, Value>>>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// A boolean, which older specifications wrote as a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Switch {
    Bool(bool),
    Text(String),
}

impl Default for Switch {
    fn default() -> Self {
        Self::Bool(false)
    }
}

impl Switch {
    fn is_on(&self) -> bool {
        match self {
            Self::Bool(on) => *on,
            Self::Text(text) => text.eq_ignore_ascii_case("true"),
        }
    }
}

impl NetworkList {
    /// Reads a list, or a single plugin's configuration as a list of one.
    pub(super) fn parse(text: &[u8]) -> Result<Self, FormatError> {
        let whole: Map<String, Value> = serde_json::from_slice(text)?;
        let raw: RawList = serde_json::from_value(Value::Object(whole.clone()))?;
        if !is_network_name(&raw.name) {
            return Err(FormatError::Name(raw.name));
        }
        let version = version(&raw)?;
        let configs = match (raw.plugins, raw.kind) {
            (Some(plugins), _) => plugins,
            (None, Some(_)) => vec![whole],
            (None, None) => Vec::new(),
        };
        let plugins: Vec<_> = configs.into_iter().map(Plugin::new).collect::<Result<_, _>>()?;
        match plugins.as_slice() {
            [] => Err(FormatError::NoPlugins),
            [only] if only.kind == "loopback" => Err(FormatError::LoopbackOnly),
            _ => Ok(Self {
                name: raw.name,
                version,
                disable_check: raw.disable_check.is_on(),
                disable_gc: raw.disable_gc.is_on(),
                plugins,
            }),
        }
    }
}

impl Plugin {
    fn new(config: Map<String, Value>) -> Result<Self, FormatError> {
        let kind = config.get("type").and_then(Value::as_str).unwrap_or_default();
        if is_program_name(kind) {
            Ok(Self { kind: kind.to_owned(), config })
        } else {
            Err(FormatError::PluginType(kind.to_owned()))
        }
    }

    /// Whether the plugin wants to be told the arguments of this capability.
    pub(super) fn declares(&self, capability: &str) -> bool {
        let declared = self.config.get("capabilities").and_then(|all| all.get(capability));
        declared.and_then(Value::as_bool).unwrap_or(false)
    }
}

/// The highest version that we speak among those named.
fn version(raw: &RawList) -> Result<Version, FormatError> {
    let named = || raw.cni_version.iter().chain(&raw.cni_versions);
    named().filter_map(|text| Version::parse(text)).max().ok_or_else(|| {
        let all: Vec<_> = named().map(|text| format!("{text:?}")).collect();
        FormatError::Version(if all.is_empty() { "is missing".to_owned() } else { all.join(", ") })
    })
}

fn is_network_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// A plugin is looked for in given folders only: its type must not lead out of them.
fn is_program_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['/', '\0']) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NetworkList, FormatError> {
        NetworkList::parse(text.as_bytes())
    }

    #[test]
    fn a_list_keeps_what_only_its_plugins_understand() {
        let list = parse(
            r#"{"cniVersion":"1.0.0","name":"net","disableCheck":"true","plugins":[
                {"type":"bridge","bridge":"cni0","ipam":{"type":"host-local"}},
                {"type":"portmap","capabilities":{"portMappings":true,"bandwidth":false}}]}"#,
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.version, list.disable_check), ("net", Version::V1_0_0, true));
        assert_eq!(list.plugins[0].config["ipam"]["type"], "host-local");
        assert!(list.plugins[1].declares("portMappings"));
        assert!(!list.plugins[1].declares("bandwidth") && !list.plugins[1].declares("dns"));
    }

    #[test]
    fn a_single_configuration_is_a_list_of_one() {
        let list = parse(r#"{"cniVersion":"0.3.1","name":"net","type":"bridge","bridge":"cni0"}"#).unwrap();
        assert_eq!(list.plugins.len(), 1);
        assert_eq!(list.plugins[0].config["bridge"], "cni0");
    }

    #[test]
    fn the_highest_common_version_is_chosen() {
        for (fields, version) in [
            (r#""cniVersion":"0.4.0""#, Version::V0_4_0),
            (r#""cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","9.0.0"]"#, Version::V1_1_0),
            (r#""cniVersions":["0.3.0"]"#, Version::V0_3_0),
        ] {
            assert_eq!(parse(&format!(r#"{{{fields},"name":"n","type":"t"}}"#)).unwrap().version, version);
        }
    }

    #[test]
    fn unusable_configurations_tell_why() {
        for (text, why) in [
            ("", "it is not JSON of the expected form"),
            ("[]", "it is not JSON of the expected form"),
            (r#"{"cniVersion":"1.0.0","type":"t"}"#, "network name \"\""),
            (r#"{"cniVersion":"1.0.0","name":"../x","type":"t"}"#, "network name \"../x\""),
            (r#"{"name":"n","type":"t"}"#, "cniVersion is missing"),
            (r#"{"cniVersion":"0.2.0","name":"n","type":"t"}"#, "cniVersion \"0.2.0\""),
            (r#"{"cniVersion":"1.0.0","name":"n"}"#, "it has no plugins"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[]}"#, "it has no plugins"),
            (r#"{"cniVersion":"1.0.0","name":"n","plugins":[{}]}"#, "plugin type \"\""),
            (r#"{"cniVersion":"1.0.0","name":"n","type":"../sh"}"#, "plugin type \"../sh\""),
            (r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#, "it only sets up the loopback"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}
