//! Devices and disks of a container that is to be created: which it may use, and how fast. Pure.

use serde_json::{Value, json};

use super::request::{self, HostConfig, Throttle, WeightDevice};
use crate::docker::refusal::Refusal;
use crate::engine::model::{Device, DeviceRule, DiskFigure, DiskLimit, RuleKind};
use crate::spec::Host;

/// What is told where the kernel does not weigh.
const NO_WEIGHT: &str =
    "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.";
/// The same of the weights of single disks.
const NO_WEIGHT_DEVICE: &str = "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.";

/// A device by its path, as `--device` names it.
pub(super) fn device(device: &request::Device) -> Device {
    let inside =
        if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
    let permissions = if device.cgroup_permissions.is_empty() { "rwm" } else { &device.cgroup_permissions };
    Device {
        host_path: device.path_on_host.clone().into(),
        container_path: inside.into(),
        permissions: permissions.to_owned(),
    }
}

/// A rule of `--device-cgroup-rule`: `c 10:* rwm`.
pub(super) fn rule(text: &String) -> Result<DeviceRule, Refusal> {
    parsed_rule(text).ok_or_else(|| Refusal::bad(format!("invalid device cgroup rule format: '{text}'")))
}

fn parsed_rule(text: &str) -> Option<DeviceRule> {
    let mut parts = text.split(' ');
    let kind = match parts.next()? {
        "a" => RuleKind::All,
        "b" => RuleKind::Block,
        "c" => RuleKind::Character,
        _ => return None,
    };
    let (major, minor) = parts.next()?.split_once(':')?;
    let number = |text: &str| match text {
        "*" => Some(None),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok().map(Some),
        _ => None,
    };
    let mut permissions: Vec<char> = parts.next()?.chars().collect();
    let are_known = (1..=3).contains(&permissions.len()) && permissions.iter().all(|c| "rwm".contains(*c));
    if !are_known || parts.next().is_some() {
        return None;
    }
    permissions.sort_unstable();
    permissions.dedup();
    Some(DeviceRule {
        kind,
        major: number(major)?,
        minor: number(minor)?,
        permissions: permissions.into_iter().collect(),
    })
}

/// The limits of single disks, and the weights at them.
pub(super) fn disk_limits(host: &HostConfig) -> Vec<DiskLimit> {
    let lists = [
        (&host.blkio_device_read_bps, DiskFigure::BytesRead),
        (&host.blkio_device_write_bps, DiskFigure::BytesWritten),
        (&host.blkio_device_read_iops, DiskFigure::Reads),
        (&host.blkio_device_write_iops, DiskFigure::Writes),
    ];
    let limit = |figure| {
        move |Throttle { path, rate }: &Throttle| DiskLimit { path: path.into(), figure, rate: *rate }
    };
    let limits = lists.into_iter().flat_map(|(list, figure)| list.iter().map(limit(figure)));
    let weights = host.blkio_weight_device.iter().map(|WeightDevice { path, weight }| DiskLimit {
        path: path.into(),
        figure: DiskFigure::Weight,
        rate: u64::from(*weight),
    });
    limits.chain(weights).collect()
}

/// Takes what this kernel cannot weigh out of a request, and says so.
pub(super) fn discard_weights(host: &mut HostConfig, machine: &Host) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if host.blkio_weight != 0 && !machine.disk_weights {
        host.blkio_weight = 0;
        warnings.push(NO_WEIGHT);
    }
    if !host.blkio_weight_device.is_empty() && !machine.disk_weights {
        host.blkio_weight_device.clear();
        warnings.push(NO_WEIGHT_DEVICE);
    }
    warnings
}

/// The weights as they are in force, for an inspection.
pub(super) fn settle_weights(body: &mut Value, host: &HostConfig) {
    if body["HostConfig"].is_object() && host.blkio_weight == 0 {
        body["HostConfig"]["BlkioWeight"] = json!(0);
    }
    if body["HostConfig"].is_object() && host.blkio_weight_device.is_empty() {
        body["HostConfig"]["BlkioWeightDevice"] = json!([]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::fixture;

    #[test]
    fn rules_are_a_kind_numbers_and_permissions() {
        let rule = |text: &str| rule(&text.to_owned());
        let expected =
            DeviceRule { kind: RuleKind::Character, major: Some(10), minor: None, permissions: "mrw".into() };
        assert_eq!(rule("c 10:* rwm").unwrap(), expected);
        assert_eq!(rule("b *:7 rr").unwrap().permissions, "r");
        assert_eq!(rule("a *:* rwm").unwrap().kind, RuleKind::All);
        for text in [
            "",
            "nosuch",
            "c 1:7",
            "c 1:7 ",
            "c 1:7 x",
            "c 1:7 rwmr",
            "d 1:1 r",
            "c +1:1 r",
            "c 1 r",
            "c 1:7 r r",
        ] {
            assert_eq!(rule(text).unwrap_err().status().as_u16(), 400, "{text:?}");
        }
    }

    #[test]
    fn weights_are_discarded_where_the_kernel_has_none() {
        let text = r#"{"BlkioWeight":5,"BlkioWeightDevice":[{"Path":"/dev/sda","Weight":300}]}"#;
        let discarded = |disk_weights| {
            let mut host: HostConfig = serde_json::from_str(text).unwrap();
            let warnings = discard_weights(&mut host, &Host { disk_weights, ..fixture::host() });
            (warnings.len(), host.blkio_weight, host.blkio_weight_device.len())
        };
        assert_eq!((discarded(false), discarded(true)), ((2, 0, 0), (0, 5, 1)));
    }

    #[test]
    fn each_list_limits_its_own_kind() {
        let text = r#"{"BlkioDeviceReadBps":[{"Path":"/dev/a","Rate":1}],"BlkioDeviceWriteIOps":[{"Path":"/dev/b","Rate":2}]}"#;
        let limits = disk_limits(&serde_json::from_str(text).unwrap());
        let told: Vec<_> = limits.iter().map(|limit| (limit.figure, limit.rate)).collect();
        assert_eq!(told, [(DiskFigure::BytesRead, 1), (DiskFigure::Writes, 2)]);
    }
}
