//! The node tells what it is.

use anyhow::Context;
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check};

#[test]
fn privileged_the_node_tells_its_version_status_and_driver() {
    check(Node::builder(), |node| {
        let cri = node.cri();
        let version = cri.version(VersionRequest::default())?;
        assert_eq!(
            (&*version.version, &*version.runtime_name, &*version.runtime_api_version),
            ("0.1.0", "cleat", "v1")
        );
        assert!(!version.runtime_version.is_empty());
        let status = cri.status(StatusRequest { verbose: true })?;
        let conditions = status.status.context("status")?.conditions;
        for name in ["RuntimeReady", "NetworkReady"] {
            let condition = conditions.iter().find(|condition| condition.r#type == name);
            assert!(condition.context("a condition")?.status, "{name}: {conditions:?}");
        }
        assert!(status.features.context("features")?.supplemental_groups_policy);
        assert!(!status.info.is_empty(), "verbose tells more");
        let driver = cri.runtime_config(RuntimeConfigRequest {})?.linux.context("linux")?.cgroup_driver();
        assert_eq!(driver, CgroupDriver::Cgroupfs);
        let usage = cri.image_fs_info(ImageFsInfoRequest {})?;
        let of_images = usage.image_filesystems.first().context("image filesystem")?;
        let used = of_images.used_bytes.as_ref().context("used bytes")?.value;
        // busybox is one file of 1 to 4 MB under many names.
        assert!((1 << 20..16 << 20).contains(&used), "{used} bytes");
        let mountpoint = &of_images.fs_id.as_ref().context("mount point")?.mountpoint;
        assert!(mountpoint.starts_with(&node.cleat().root().display().to_string()), "{mountpoint}");
        Ok(())
    });
}
