//! Devices of the host that a container was given: their kinds and numbers.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};

use crate::engine::error::{EngineError, Result};
use crate::engine::model::{Device, DiskLimit};
use crate::spec::{DeviceGrant, DeviceKind, DiskRate, HostDevice};

/// What `devices` grant; a folder grants every device node beneath it.
pub(super) fn grants(devices: &[Device]) -> Result<Vec<DeviceGrant>> {
    let mut grants = Vec::new();
    for device in devices {
        let failed = |error: std::io::Error| {
            EngineError::invalid(format!("device {}", device.host_path.display()), &error)
        };
        let found = walk(&device.host_path, &device.container_path).map_err(failed)?;
        if found.is_empty() {
            let why = "it is neither a device node nor a folder of them".to_owned();
            return Err(EngineError::Invalid { what: format!("device {}", device.host_path.display()), why });
        }
        let permissions = device.permissions.clone();
        grants
            .extend(found.into_iter().map(|device| DeviceGrant { device, permissions: permissions.clone() }));
    }
    Ok(grants)
}

/// The disks that `limits` are for, by their numbers.
pub(super) fn rates(limits: &[DiskLimit]) -> Result<Vec<DiskRate>> {
    let rate = |limit: &DiskLimit| {
        let what = || format!("disk {}", limit.path.display());
        let found = fs::metadata(&limit.path).map_err(|error| EngineError::invalid(what(), &error))?;
        match node(&found, &limit.path) {
            Some(HostDevice { kind: DeviceKind::Block, major, minor, .. }) => {
                Ok(DiskRate { major, minor, figure: limit.figure, rate: limit.rate })
            }
            _ => Err(EngineError::Invalid { what: what(), why: "it is no block device".to_owned() }),
        }
    };
    limits.iter().map(rate).collect()
}

/// All devices of the host at this moment, for a privileged container: some come with a driver or a plug.
pub(super) fn of_host() -> Result<Vec<HostDevice>> {
    let folder = Path::new("/dev");
    walk(folder, folder).map_err(|error| EngineError::step("look for devices", "/dev", &error))
}

/// The device nodes at and beneath `host`, named as they are to be in the container.
fn walk(host: &Path, inside: &Path) -> std::io::Result<Vec<HostDevice>> {
    let metadata = fs::metadata(host)?;
    if !metadata.is_dir() {
        return Ok(node(&metadata, inside).into_iter().collect());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        // Links (/dev/stdin, /dev/core) lead out of the folder; mounted filesystems (/dev/pts, /dev/shm) are not devices.
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            continue;
        }
        let is_mounted = |entry: &fs::DirEntry| entry.metadata().is_ok_and(|own| own.dev() != metadata.dev());
        if kind.is_dir() && is_mounted(&entry) {
            continue;
        }
        match walk(&entry.path(), &inside.join(entry.file_name())) {
            // It went away meanwhile, as loop devices and the like do.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            walked => found.extend(walked?),
        }
    }
    Ok(found)
}

fn node(metadata: &fs::Metadata, inside: &Path) -> Option<HostDevice> {
    let kind = if metadata.file_type().is_char_device() {
        DeviceKind::Character
    } else if metadata.file_type().is_block_device() {
        DeviceKind::Block
    } else {
        return None;
    };
    Some(HostDevice {
        path: inside.to_owned(),
        kind,
        major: u32::try_from(major(metadata.rdev())).ok()?,
        minor: u32::try_from(minor(metadata.rdev())).ok()?,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::model::DiskFigure;

    fn device(path: &str) -> Device {
        Device { host_path: path.into(), container_path: "/dev/x".into(), permissions: "rw".into() }
    }

    #[test]
    fn a_node_is_known_by_its_numbers() {
        let grants = grants(&[device("/dev/null")]).unwrap();
        let node = &grants[0].device;
        assert_eq!((node.kind, node.major, node.minor), (DeviceKind::Character, 1, 3));
        assert_eq!(node.path, Path::new("/dev/x"));
    }

    #[test]
    fn limits_are_of_disks() {
        for path in ["/dev/null", "/etc/passwd", "/no/such/device"] {
            let limit = DiskLimit { path: path.into(), figure: DiskFigure::Reads, rate: 1 };
            assert!(rates(&[limit]).is_err(), "{path}");
        }
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!(grants(&[device("/etc/passwd")]).is_err());
        assert!(grants(&[device("/no/such/device")]).is_err());
    }
}
