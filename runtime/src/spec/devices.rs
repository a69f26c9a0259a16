//! Device nodes: those every container has (config-linux.md, "Default Devices") and `linux.devices`.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use rustix::fs::FileType;

use super::SpecError;

/// One node to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    /// Absolute, in the container.
    pub(crate) path: PathBuf,
    pub(crate) kind: FileType,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

const DEFAULTS: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// The specified devices, and before them the default ones that are not specified.
pub(super) fn plan(specified: &[LinuxDevice]) -> Result<Vec<Device>, SpecError> {
    let is_specified =
        |path: &str| specified.iter().any(|device| device.path() == path.as_ref() as &std::path::Path);
    let defaults = DEFAULTS.iter().filter(|(path, ..)| !is_specified(path)).map(|&(path, major, minor)| {
        let kind = FileType::CharacterDevice;
        Ok(Device { path: path.into(), kind, major, minor, mode: 0o666, uid: 0, gid: 0 })
    });
    defaults.chain(specified.iter().map(device)).collect()
}

fn device(specified: &LinuxDevice) -> Result<Device, SpecError> {
    let path = specified.path();
    let invalid = |what: &str| SpecError::value(format!("linux.devices[{}].{what}", path.display()), "");
    let kind = match specified.typ() {
        LinuxDeviceType::B => FileType::BlockDevice,
        LinuxDeviceType::C | LinuxDeviceType::U => FileType::CharacterDevice,
        LinuxDeviceType::P => FileType::Fifo,
        LinuxDeviceType::A => return Err(invalid("type")),
    };
    if !path.is_absolute() || path.file_name().is_none() {
        return Err(invalid("path"));
    }
    let is_fifo = kind == FileType::Fifo;
    let number =
        |value: i64, what| if is_fifo { Ok(0) } else { u32::try_from(value).map_err(|_| invalid(what)) };
    Ok(Device {
        path: path.clone(),
        kind,
        major: number(specified.major(), "major")?,
        minor: number(specified.minor(), "minor")?,
        mode: specified.file_mode().unwrap_or(0o666) & 0o7777,
        uid: specified.uid().unwrap_or(0),
        gid: specified.gid().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_specified_device_replaces_the_default_one() {
        let mut null = LinuxDevice::default();
        null.set_path("/dev/null".into());
        null.set_typ(LinuxDeviceType::C);
        null.set_major(1);
        null.set_minor(3);
        null.set_file_mode(Some(0o600));
        let devices = plan(&[null]).unwrap();
        assert_eq!(devices.len(), 6);
        let found: Vec<_> = devices.iter().filter(|device| device.path.ends_with("null")).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].mode, 0o600);
    }

    #[test]
    fn nonsense_numbers_are_refused() {
        let mut device = LinuxDevice::default();
        device.set_path("/dev/x".into());
        device.set_typ(LinuxDeviceType::C);
        device.set_major(-1);
        assert!(plan(&[device]).is_err());
    }
}
