//! `linux.resources.devices`: which devices may be opened and made, as v1 rules or a v2 program.

use cleat_sys::cgroup::Cgroup;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::{ResourceError, device_program};

/// Devices every container may use (config-linux.md, "Default Devices"), and making any node. None: any number.
const DEFAULTS: [(DeviceKind, Option<u32>, Option<u32>, &str); 10] = [
    (DeviceKind::Character, None, None, "m"),
    (DeviceKind::Block, None, None, "m"),
    (DeviceKind::Character, Some(1), Some(3), "rwm"),
    (DeviceKind::Character, Some(1), Some(5), "rwm"),
    (DeviceKind::Character, Some(1), Some(7), "rwm"),
    (DeviceKind::Character, Some(1), Some(8), "rwm"),
    (DeviceKind::Character, Some(1), Some(9), "rwm"),
    (DeviceKind::Character, Some(5), Some(0), "rwm"),
    (DeviceKind::Character, Some(5), Some(2), "rwm"),
    (DeviceKind::Character, Some(136), None, "rwm"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Any,
    Character,
    Block,
}

/// One rule; a later one overrides an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeviceRule {
    pub(super) allow: bool,
    pub(super) kind: DeviceKind,
    pub(super) major: Option<u32>,
    pub(super) minor: Option<u32>,
    /// Of `rwm`.
    pub(super) access: String,
}

/// All rules of a container, the default ones included; none when the specification has none.
#[derive(Debug)]
pub(crate) struct DeviceRules(Vec<DeviceRule>);

impl DeviceRules {
    /// Checks the specified rules and adds the default ones, unless everything is allowed anyway.
    pub(crate) fn new(specified: &[LinuxDeviceCgroup]) -> Result<Self, ResourceError> {
        let mut rules = specified.iter().map(DeviceRule::new).collect::<Result<Vec<_>, _>>()?;
        // What comes before a rule for everything has no effect.
        if let Some(last) = rules.iter().rposition(DeviceRule::is_everything) {
            rules.drain(..last);
        }
        let only_open = matches!(rules.as_slice(), [rule] if rule.is_everything() && rule.allow);
        if !rules.is_empty() && !only_open {
            rules.extend(DEFAULTS.iter().map(|&(kind, major, minor, access)| DeviceRule {
                allow: true,
                kind,
                major,
                minor,
                access: access.into(),
            }));
        }
        Ok(Self(rules))
    }

    /// Makes the rules hold for `cgroup`.
    pub(crate) fn apply(&self, cgroup: &Cgroup) -> Result<(), ResourceError> {
        if self.0.is_empty() {
            return Ok(());
        }
        if !cgroup.layout().is_v1("devices") {
            return device_program::attach(cgroup, &self.0);
        }
        self.0.chunk_by(|one, next| one.allow == next.allow).try_for_each(|rules| {
            let file = if rules[0].allow { "devices.allow" } else { "devices.deny" };
            let lines: Vec<_> = rules.iter().map(DeviceRule::v1_line).collect();
            let lines = lines.iter().map(String::as_str);
            cgroup.write_each("devices", file, lines).map_err(ResourceError::Cgroup)
        })
    }
}

impl DeviceRules {
    /// The rules as systemd's `DeviceAllow` (systemd.resource-control(5)) beneath a denial of everything else: device and
    /// access. None when it cannot express them, or nothing is denied. `known`: `/proc/devices`.
    pub(super) fn for_systemd(&self, known: &str) -> Option<Vec<(String, String)>> {
        let (first, rest) = self.0.split_first()?;
        if first.allow || !first.is_everything() {
            return None;
        }
        rest.iter().map(|rule| Some((rule.systemd_name(known)?, rule.access.clone()))).collect()
    }
}

impl DeviceRule {
    /// All of a number's devices have no name of a node, but that of their driver.
    fn systemd_name(&self, known: &str) -> Option<String> {
        let kind = match self.kind {
            _ if !self.allow => return None,
            DeviceKind::Any => return None,
            DeviceKind::Character => "char",
            DeviceKind::Block => "block",
        };
        match (self.major, self.minor) {
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (None, None) => Some(format!("{kind}-*")),
            (Some(major), None) => Some(format!("{kind}-{}", driver(known, self.kind, major)?)),
            (None, Some(_)) => None,
        }
    }

    fn new(specified: &LinuxDeviceCgroup) -> Result<Self, ResourceError> {
        let invalid = |value: String| ResourceError::Value { field: "devices", value };
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(value) => u32::try_from(value).map(Some).map_err(|_| invalid(value.to_string())),
        };
        let kind = match specified.typ() {
            None | Some(LinuxDeviceType::A) => DeviceKind::Any,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => DeviceKind::Character,
            Some(LinuxDeviceType::B) => DeviceKind::Block,
            Some(LinuxDeviceType::P) => return Err(invalid("type p".into())),
        };
        let access = specified.access().clone().filter(|access| !access.is_empty()).unwrap_or("rwm".into());
        if access.len() > 3 || !access.bytes().all(|letter| b"rwm".contains(&letter)) {
            return Err(invalid(access));
        }
        let (major, minor) = (number(specified.major())?, number(specified.minor())?);
        if kind == DeviceKind::Any && (major.is_some() || minor.is_some()) {
            return Err(invalid("a number without a type".into()));
        }
        Ok(Self { allow: specified.allow(), kind, major, minor, access })
    }

    pub(super) fn is_everything(&self) -> bool {
        let all = ['r', 'w', 'm'].iter().all(|letter| self.access.contains(*letter));
        self.kind == DeviceKind::Any && self.major.is_none() && self.minor.is_none() && all
    }

    /// The line of `devices.allow` and `devices.deny` (cgroup-v1/devices.rst). `a` alone stands for everything.
    fn v1_line(&self) -> String {
        let number = |value: Option<u32>| value.map_or("*".into(), |value| value.to_string());
        let kind = match self.kind {
            DeviceKind::Any => return "a".into(),
            DeviceKind::Character => 'c',
            DeviceKind::Block => 'b',
        };
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// The driver of a number, in `/proc/devices`: character devices, an empty line, block devices.
fn driver(known: &str, kind: DeviceKind, major: u32) -> Option<&str> {
    let (characters, blocks) = known.split_once("\n\n")?;
    let lines = if kind == DeviceKind::Block { blocks } else { characters }.lines();
    let mut pairs = lines.filter_map(|line| line.trim().split_once(' '));
    pairs.find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> Result<Vec<String>, ResourceError> {
        let specified: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        Ok(DeviceRules::new(&specified)?.0.iter().map(DeviceRule::v1_line).collect())
    }

    #[test]
    fn default_devices_follow_a_denial_of_everything() {
        let lines = rules(r#"[{"allow":false,"access":"rwm"}]"#).unwrap();
        assert_eq!(lines[0], "a");
        assert_eq!(lines.len(), 11);
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
    }

    #[test]
    fn a_container_that_may_do_everything_gets_one_rule() {
        let lines = rules(r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"a","access":"rwm"}]"#);
        assert_eq!(lines.unwrap(), ["a"]);
        assert!(rules("[]").unwrap().is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            r#"[{"allow":true,"type":"c","major":-2,"access":"r"}]"#,
            r#"[{"allow":true,"type":"c","access":"x"}]"#,
            r#"[{"allow":true,"type":"p","access":"r"}]"#,
            r#"[{"allow":true,"major":1,"access":"r"}]"#,
        ] {
            assert!(rules(json).is_err(), "{json}");
        }
    }

    #[test]
    fn systemd_gets_what_it_can_express() {
        let known = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  8 sd\n";
        let rules = |json: &str| {
            DeviceRules::new(&serde_json::from_str::<Vec<LinuxDeviceCgroup>>(json).unwrap()).unwrap()
        };
        let told = rules(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":3,"access":"r"},
                {"allow":true,"type":"b","major":8,"access":"m"}]"#,
        );
        let told = told.for_systemd(known).unwrap();
        let has = |name: &str, access: &str| told.contains(&(name.to_owned(), access.to_owned()));
        assert!(
            has("/dev/block/8:3", "r")
                && has("block-sd", "m")
                && has("char-pts", "rwm")
                && has("char-*", "m")
        );
        for cannot in [
            "[]",
            r#"[{"allow":true,"access":"rwm"}]"#,
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":77,"access":"r"}]"#,
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","access":"rwm"},
                {"allow":false,"type":"c","major":1,"minor":3,"access":"w"}]"#,
        ] {
            assert_eq!(rules(cannot).for_systemd(known), None, "{cannot}");
        }
    }
}
