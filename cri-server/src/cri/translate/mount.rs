//! Mounts and devices.

use std::path::Path;

use cleat_cri_api::v1::{self, MountPropagation};

use super::field::{absolute_path, climbs, known, refused};
use super::user;
use crate::engine::Result;
use crate::engine::model::{Device, Mount, MountSource, Propagation};

/// The mounts of a container, in the order asked for.
pub(super) fn mounts(mounts: Vec<v1::Mount>) -> Result<Vec<Mount>> {
    mounts.into_iter().enumerate().map(|(index, mount)| one(&format!("mounts[{index}]"), mount)).collect()
}

/// A mount as a status shows it. Memory filesystems are the other front door's; the CRI has no word for them.
pub(super) fn report(mount: &Mount) -> Option<v1::Mount> {
    let (host_path, image, image_sub_path) = match &mount.source {
        MountSource::Host(source) => (text(source), None, String::new()),
        MountSource::Image { image, sub_path } => {
            let image = v1::ImageSpec { image: image.clone(), ..v1::ImageSpec::default() };
            (String::new(), Some(image), sub_path.clone())
        }
        MountSource::Tmpfs(_) | MountSource::Volume { .. } => return None,
    };
    Some(v1::Mount {
        container_path: text(&mount.destination),
        host_path,
        image,
        image_sub_path,
        readonly: mount.read_only,
        selinux_relabel: mount.selinux_relabel,
        propagation: propagation_name(mount.propagation) as i32,
        recursive_read_only: mount.recursive_read_only,
        uid_mappings: mount.users.iter().map(user::told).collect(),
        gid_mappings: mount.groups.iter().map(user::told).collect(),
    })
}

/// The devices of a container.
pub(super) fn devices(devices: Vec<v1::Device>) -> Result<Vec<Device>> {
    devices
        .into_iter()
        .enumerate()
        .map(|(index, device)| one_device(&format!("devices[{index}]"), device))
        .collect()
}

/// A path as text; those that came through this door are UTF-8.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn one(field: &str, mount: v1::Mount) -> Result<Mount> {
    let name = |part: &str| format!("{field}.{part}");
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        let why = "mappings of users and of groups are expected, or neither";
        return Err(refused(&name("uidMappings"), mount.uid_mappings.len(), why));
    }
    let destination = absolute_path(&name("container_path"), &mount.container_path)?;
    if destination.components().count() < 2 || climbs(&destination) {
        return Err(refused(
            &name("container_path"),
            destination,
            "a path below `/` without `..` is expected",
        ));
    }
    let propagation = match known(&name("propagation"), mount.propagation)? {
        MountPropagation::PropagationPrivate => Propagation::Private,
        MountPropagation::PropagationHostToContainer => Propagation::HostToContainer,
        MountPropagation::PropagationBidirectional => Propagation::Bidirectional,
    };
    if mount.recursive_read_only && !(mount.readonly && propagation == Propagation::Private) {
        let why = "the CRI allows it only with readonly and PROPAGATION_PRIVATE";
        return Err(refused(&name("recursive_read_only"), true, why));
    }
    Ok(Mount {
        destination,
        source: source(field, &mount)?,
        read_only: mount.readonly,
        recursive_read_only: mount.recursive_read_only,
        non_recursive: false,
        selinux_relabel: mount.selinux_relabel,
        propagation,
        users: user::ranges(&name("uidMappings"), mount.uid_mappings)?,
        groups: user::ranges(&name("gidMappings"), mount.gid_mappings)?,
    })
}

/// What is mounted: a path of the host, or an image.
fn source(field: &str, mount: &v1::Mount) -> Result<MountSource> {
    let name = |part: &str| format!("{field}.{part}");
    let image = mount.image.as_ref().map_or("", |image| image.image.as_str());
    if image.is_empty() {
        if !mount.image_sub_path.is_empty() {
            let why = "it is a path in an image, and there is none";
            return Err(refused(&name("image_sub_path"), &mount.image_sub_path, why));
        }
        return Ok(MountSource::Host(absolute_path(&name("host_path"), &mount.host_path)?));
    }
    if !mount.host_path.is_empty() {
        return Err(refused(
            &name("host_path"),
            &mount.host_path,
            "it must be empty where an image is mounted",
        ));
    }
    if !mount.readonly {
        return Err(refused(&name("readonly"), false, "an image can only be mounted with readonly set"));
    }
    let sub_path = Path::new(&mount.image_sub_path);
    if sub_path.is_absolute() || climbs(sub_path) {
        let why = "a relative path without `..` is expected";
        return Err(refused(&name("image_sub_path"), &mount.image_sub_path, why));
    }
    Ok(MountSource::Image { image: image.to_owned(), sub_path: mount.image_sub_path.clone() })
}

fn propagation_name(propagation: Propagation) -> MountPropagation {
    match propagation {
        Propagation::Private => MountPropagation::PropagationPrivate,
        Propagation::HostToContainer => MountPropagation::PropagationHostToContainer,
        Propagation::Bidirectional => MountPropagation::PropagationBidirectional,
    }
}

fn one_device(field: &str, device: v1::Device) -> Result<Device> {
    let permissions = device.permissions;
    let known_ones = permissions.bytes().all(|byte| b"rwm".contains(&byte));
    if permissions.is_empty() || !known_ones {
        return Err(refused(
            &format!("{field}.permissions"),
            permissions,
            "one or more of `r`, `w`, `m` are expected",
        ));
    }
    let container_path = absolute_path(&format!("{field}.container_path"), &device.container_path)?;
    if climbs(&container_path) {
        return Err(refused(
            &format!("{field}.container_path"),
            container_path,
            "a path without `..` is expected",
        ));
    }
    Ok(Device {
        host_path: absolute_path(&format!("{field}.host_path"), &device.host_path)?,
        container_path,
        permissions,
    })
}

#[cfg(test)]
mod tests {
    use cleat_cri_api::v1::{IdMapping, ImageSpec};

    use super::*;

    fn mount(container_path: &str, host_path: &str) -> v1::Mount {
        v1::Mount {
            container_path: container_path.into(),
            host_path: host_path.into(),
            ..v1::Mount::default()
        }
    }

    #[test]
    fn mounts_come_back_as_they_were_asked_for() {
        let plain = mount("/data", "/srv/data");
        for asked in [
            v1::Mount { readonly: true, selinux_relabel: true, ..plain.clone() },
            v1::Mount { propagation: 1, ..plain.clone() },
            v1::Mount {
                uid_mappings: vec![IdMapping { host_id: 65_536, container_id: 0, length: 65_536 }],
                gid_mappings: vec![IdMapping { host_id: 65_536, container_id: 0, length: 65_536 }],
                ..plain.clone()
            },
            v1::Mount { propagation: 2, ..plain.clone() },
            v1::Mount { readonly: true, recursive_read_only: true, ..plain.clone() },
            v1::Mount { image: Some(ImageSpec::default()), ..plain.clone() },
        ] {
            let kept = mounts(vec![asked.clone()]).unwrap();
            assert_eq!(report(&kept[0]), Some(v1::Mount { image: None, ..asked }));
        }
        let tmpfs =
            Mount { source: MountSource::Tmpfs(Vec::new()), ..mounts(vec![plain]).unwrap().remove(0) };
        assert_eq!(report(&tmpfs), None);
    }

    #[test]
    fn bad_mounts_are_refused_by_index_and_field() {
        let plain = || mount("/data", "/srv/data");
        for (bad, part) in [
            (mount("data", "/srv"), "container_path"),
            (mount("", "/srv"), "container_path"),
            (mount("/", "/srv"), "container_path"),
            (mount("/a/../b", "/srv"), "container_path"),
            (mount("/data", ""), "host_path"),
            (mount("/data", "srv"), "host_path"),
            (v1::Mount { propagation: 3, ..plain() }, "propagation"),
            (v1::Mount { uid_mappings: vec![IdMapping::default()], ..plain() }, "uidMappings"),
            (
                v1::Mount {
                    uid_mappings: vec![IdMapping::default()],
                    gid_mappings: vec![IdMapping::default()],
                    ..plain()
                },
                "uidMappings",
            ),
            (v1::Mount { recursive_read_only: true, ..plain() }, "recursive_read_only"),
            (
                v1::Mount { recursive_read_only: true, readonly: true, propagation: 1, ..plain() },
                "recursive_read_only",
            ),
        ] {
            let error = mounts(vec![plain(), bad]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("mounts[1].{part} ")), "{error}");
        }
    }

    #[test]
    fn an_image_is_mounted_read_only_and_nothing_else_with_it() {
        let image = || Some(ImageSpec { image: "busybox".into(), ..ImageSpec::default() });
        let good = || v1::Mount {
            image: image(),
            image_sub_path: "a/b".into(),
            readonly: true,
            ..mount("/data", "")
        };
        let kept = mounts(vec![good()]).unwrap();
        assert_eq!(report(&kept[0]), Some(good()));
        for (bad, part) in [
            (v1::Mount { readonly: false, ..good() }, "readonly"),
            (v1::Mount { host_path: "/srv".into(), ..good() }, "host_path"),
            (v1::Mount { image_sub_path: "/a".into(), ..good() }, "image_sub_path"),
            (v1::Mount { image_sub_path: "a/../..".into(), ..good() }, "image_sub_path"),
            (v1::Mount { image: None, host_path: "/srv".into(), ..good() }, "image_sub_path"),
        ] {
            let error = mounts(vec![bad]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("mounts[0].{part} ")), "{error}");
        }
    }

    #[test]
    fn devices_are_absolute_and_permissions_known() {
        for (container_path, host_path, permissions, good) in [
            ("/dev/x", "/dev/y", "rwm", true),
            ("/dev/x", "/dev/y", "r", true),
            ("/dev/x", "/dev/y", "", false),
            ("/dev/x", "/dev/y", "rx", false),
            ("dev/x", "/dev/y", "r", false),
            ("/dev/../etc/x", "/dev/y", "r", false),
            ("/dev/x", "", "r", false),
        ] {
            let device = v1::Device {
                container_path: container_path.into(),
                host_path: host_path.into(),
                permissions: permissions.into(),
            };
            assert_eq!(devices(vec![device]).is_ok(), good, "{container_path} {host_path} {permissions}");
        }
    }
}
