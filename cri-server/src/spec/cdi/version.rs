//! Versions of the specification, and what came with which.

use super::error::CdiError;
use super::file::{Content, Edits};

/// The released ones, oldest first (SPEC.md, "Released versions"). A patch changes no file.
const RELEASED: [&str; 8] = ["0.3", "0.4", "0.5", "0.6", "0.7", "0.8", "1.0", "1.1"];

/// Refuses a file of a version that is not known, or with something in it that its version does not have.
pub(super) fn check(content: &Content) -> Result<(), CdiError> {
    let stated = rank(&content.cdi_version);
    let stated = stated.ok_or_else(|| CdiError::Version(content.cdi_version.clone()))?;
    let of_edits = content.devices.iter().map(|device| &device.container_edits);
    let in_edits = of_edits.chain([&content.container_edits]).flat_map(used_by_edits);
    let too_new = used(content).into_iter().chain(in_edits).find(|(_, needed)| rank(needed) > Some(stated));
    match too_new {
        None => Ok(()),
        Some((feature, needed)) => {
            Err(CdiError::TooOld { stated: content.cdi_version.clone(), feature, needed })
        }
    }
}

/// The place of a version among the released ones.
fn rank(version: &str) -> Option<usize> {
    let version = version.strip_prefix('v').unwrap_or(version);
    let (minor, patch) = version.rsplit_once('.')?;
    patch.parse::<u32>().ok()?;
    RELEASED.iter().position(|released| *released == minor)
}

/// What is used of what came later, with the version it came with.
fn used(content: &Content) -> Vec<(&'static str, &'static str)> {
    let class = content.kind.split_once('/').map_or("", |(_, class)| class);
    let annotated =
        content.annotations.is_some() || content.devices.iter().any(|one| one.annotations.is_some());
    let numbered = content.devices.iter().any(|device| device.name.starts_with(|c: char| c.is_ascii_digit()));
    [
        (numbered, "a device name that starts with a digit", "0.5.0"),
        (annotated, "annotations", "0.6.0"),
        (class.contains('.'), "a dot in its class", "0.6.0"),
    ]
    .into_iter()
    .filter_map(|(is_used, feature, needed)| is_used.then_some((feature, needed)))
    .collect()
}

fn used_by_edits(edits: &Edits) -> Vec<(&'static str, &'static str)> {
    let monitored = edits.intel_rdt.as_ref();
    let monitored = monitored.is_some_and(|rdt| rdt.schemata.is_some() || rdt.enable_monitoring.is_some());
    [
        (edits.mounts.iter().any(|mount| mount.kind.is_some()), "types of mounts", "0.4.0"),
        (edits.device_nodes.iter().any(|node| node.host_path.is_some()), "hostPath of a node", "0.5.0"),
        (edits.intel_rdt.is_some(), "intelRdt", "0.7.0"),
        (!edits.additional_gids.is_empty(), "additionalGids", "0.7.0"),
        (!edits.net_devices.is_empty(), "netDevices", "1.1.0"),
        (monitored, "schemata or enableMonitoring of intelRdt", "1.1.0"),
    ]
    .into_iter()
    .filter_map(|(is_used, feature, needed)| is_used.then_some((feature, needed)))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::file::{Format, parse};
    use super::*;

    #[test]
    fn released_versions_are_known() {
        for (version, expected) in [
            ("0.3.0", Some(0)),
            ("v0.5.0", Some(2)),
            ("1.0.0", Some(6)),
            ("1.1.7", Some(7)),
            ("1.1", None),
            ("0.2.0", None),
            ("1.2.0", None),
            ("10.0.0", None),
            ("1.0.x", None),
            ("", None),
        ] {
            assert_eq!(rank(version), expected, "{version}");
        }
    }

    #[test]
    fn what_came_later_is_not_for_an_older_version() {
        for (first, kind, device) in [
            ("0.3.0", "v.com/c", r#""name": "a""#),
            (
                "0.4.0",
                "v.com/c",
                r#""name": "a", "containerEdits": {"mounts": [
                {"hostPath": "/a", "containerPath": "/b", "type": "none"}]}"#,
            ),
            ("0.5.0", "v.com/c", r#""name": "0""#),
            (
                "0.5.0",
                "v.com/c",
                r#""name": "a", "containerEdits": {"deviceNodes": [
                {"path": "/a", "hostPath": "/b"}]}"#,
            ),
            ("0.6.0", "v.com/c.d", r#""name": "a""#),
            ("0.6.0", "v.com/c", r#""name": "a", "annotations": {}"#),
            ("0.7.0", "v.com/c", r#""name": "a", "containerEdits": {"additionalGids": [1]}"#),
            ("0.7.0", "v.com/c", r#""name": "a", "containerEdits": {"intelRdt": {}}"#),
            (
                "1.1.0",
                "v.com/c",
                r#""name": "a", "containerEdits": {"netDevices": [{"hostInterfaceName": "a", "name": "b"}]}"#,
            ),
        ] {
            for (place, minor) in RELEASED.iter().enumerate() {
                let text =
                    format!(r#"{{"cdiVersion": "{minor}.0", "kind": "{kind}", "devices": [{{{device}}}]}}"#);
                let outcome = parse(Format::Json, text.as_bytes()).map(drop);
                assert_eq!(outcome.is_ok(), Some(place) >= rank(first), "{text}: {outcome:?}");
            }
        }
    }
}
