//! The text of `registries.conf` (containers-registries.conf(5), version 2). Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Registries;

/// Why a text is not a configuration of registries.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or a value of the wrong kind.
    #[error("it is not valid registries.conf")]
    Toml(#[from] Box<toml::de::Error>),
    /// The format of before 2019.
    #[error(
        "it is in version 1 of the format ([registries.search] and so on), which is not supported: use [[registry]]"
    )]
    Version1,
    /// A `[[registry]]` without `prefix` and `location`.
    #[error("a [[registry]] has neither prefix nor location")]
    NoPrefix,
    /// A `[[registry.mirror]]` without `location`.
    #[error("a mirror of {0:?} has no location")]
    NoMirrorLocation(String),
    /// A location or prefix with a scheme, which the format does not have.
    #[error("{0:?} must be a host with an optional port and path, without https://")]
    Scheme(String),
    /// A wildcard anywhere but as the first label.
    #[error("prefix {0:?}: a wildcard may only be the first label, as in *.example.com")]
    Wildcard(String),
    /// A wildcard as a location.
    #[error("location {0:?} may not be a wildcard")]
    WildcardLocation(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    unqualified_search_registries: Option<Vec<String>>,
    short_name_mode: Option<ShortNameMode>,
    #[serde(default, rename = "registry")]
    registries: Vec<RegistryTable>,
    #[serde(default)]
    aliases: BTreeMap<String, String>,
    #[serde(rename = "registries")]
    version_1: Option<toml::Value>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
enum ShortNameMode {
    Enforcing,
    Permissive,
    Disabled,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RegistryTable {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    #[serde(default)]
    blocked: bool,
    #[serde(default)]
    mirror_by_digest_only: bool,
    #[serde(default, rename = "mirror")]
    mirrors: Vec<MirrorTable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct MirrorTable {
    #[serde(default)]
    location: String,
    #[serde(default)]
    insecure: bool,
    pull_from_mirror: Option<PullFrom>,
}

/// Which references a mirror serves.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PullFrom {
    All,
    DigestOnly,
    TagOnly,
}

/// One `[[registry]]`.
#[derive(Clone, Debug)]
pub(super) struct Registry {
    pub(super) prefix: String,
    /// Takes the place of what the prefix matched; empty leaves it.
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
}

/// One `[[registry.mirror]]`.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) pull_from: PullFrom,
}

impl Registries {
    /// From the text of one file.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut registries = Self::default();
        registries.merge(text)?;
        Ok(registries)
    }

    /// Take in one more file: its search list and mode replace those before it, its registries those of the same prefix,
    /// its aliases those of the same name (an empty one removes it).
    pub(super) fn merge(&mut self, text: &str) -> Result<(), ConfigError> {
        let file: File = toml::from_str(text).map_err(Box::new)?;
        if file.version_1.is_some() {
            return Err(ConfigError::Version1);
        }
        for table in file.registries {
            let registry = checked(table)?;
            self.registries.retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
        if let Some(search) = file.unqualified_search_registries {
            search.iter().try_for_each(|host| check_location(host))?;
            self.search = search;
        }
        if let Some(mode) = file.short_name_mode {
            self.enforce_short_names = mode == ShortNameMode::Enforcing;
        }
        for (name, target) in file.aliases {
            if target.is_empty() {
                self.aliases.remove(&name);
            } else {
                self.aliases.insert(name, target);
            }
        }
        Ok(())
    }
}

fn checked(table: RegistryTable) -> Result<Registry, ConfigError> {
    let RegistryTable { prefix, location, insecure, blocked, mirror_by_digest_only, mirrors } = table;
    let location = trimmed(location)?;
    let prefix = if prefix.is_empty() { location.clone() } else { trimmed(prefix)? };
    if prefix.is_empty() {
        return Err(ConfigError::NoPrefix);
    }
    if prefix.strip_prefix("*.").unwrap_or(&prefix).contains('*') {
        return Err(ConfigError::Wildcard(prefix));
    }
    check_location(&location)?;
    let by_default = if mirror_by_digest_only { PullFrom::DigestOnly } else { PullFrom::All };
    let mirror = |table: MirrorTable| {
        let location = trimmed(table.location)?;
        if location.is_empty() {
            return Err(ConfigError::NoMirrorLocation(prefix.clone()));
        }
        check_location(&location)?;
        let pull_from = table.pull_from_mirror.unwrap_or(by_default);
        Ok(Mirror { location, insecure: table.insecure, pull_from })
    };
    let mirrors = mirrors.into_iter().map(mirror).collect::<Result<_, _>>()?;
    Ok(Registry { prefix, location, insecure, blocked, mirrors })
}

fn trimmed(text: String) -> Result<String, ConfigError> {
    if text.contains("://") {
        return Err(ConfigError::Scheme(text));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn check_location(location: &str) -> Result<(), ConfigError> {
    if location.contains('*') {
        return Err(ConfigError::WildcardLocation(location.to_owned()));
    }
    if location.contains("://") {
        return Err(ConfigError::Scheme(location.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        for text in [
            "[registries.search]\nregistries = ['a']",
            "[[registry]]\nblocked = true",
            "[[registry]]\nprefix = 'a.b'\n[[registry.mirror]]\ninsecure = true",
            "[[registry]]\nlocation = 'https://a.b'",
            "[[registry]]\nprefix = 'a.*.b'",
            "[[registry]]\nlocation = '*.b'",
            "unqualified-search-registries = ['http://x']",
            "short-name-mode = 'whatever'",
            "nonsense",
        ] {
            assert!(Registries::parse(text).is_err(), "{text}");
        }
    }
}
