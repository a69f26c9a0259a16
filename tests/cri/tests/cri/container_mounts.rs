//! Mounts of the host in containers.

use std::fs;

use anyhow::{Context, Result};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, check, configs};

#[test]
fn privileged_folders_and_files_are_mounted_writable_or_not() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("mounts"))?;
        let folder = node.folder().join("volume");
        fs::create_dir(&folder).context("make a volume")?;
        fs::write(folder.join("file"), "of the host\n").context("fill the volume")?;
        let mut config = configs::script(
            "mounts",
            "cat /rw/file /ro/file /single; echo container >/rw/new; touch /ro/x 2>&1; echo x >/single 2>/dev/null || \
             echo single",
        );
        let readonly = |mount: Mount| Mount { readonly: true, ..mount };
        config.mounts = vec![
            configs::mount(&folder, "/rw"),
            readonly(configs::mount(&folder, "/ro")),
            readonly(configs::mount(&folder.join("file"), "/single")),
        ];
        let finished = node.run(&pod, &config)?;
        assert_eq!(
            finished.stdout(),
            "of the host\nof the host\nof the host\ntouch: /ro/x: Read-only file system\nsingle"
        );
        assert_eq!(
            fs::read_to_string(folder.join("new")).context("what the container wrote")?,
            "container\n"
        );
        let told: Vec<_> =
            finished.status.mounts.iter().map(|mount| (&*mount.container_path, mount.readonly)).collect();
        assert_eq!(told, [("/rw", false), ("/ro", true), ("/single", true)]);
        Ok(())
    });
}

#[test]
fn privileged_mounts_below_a_recursively_readonly_one_are_readonly_too() {
    check(Node::builder(), |node| {
        let pod = node.run_pod(configs::pod("rro"))?;
        let folder = node.folder().join("outer");
        let shown = folder.display();
        node.cleat()
            .world()
            .shell(&format!("mkdir -p {shown}/inner && mount -t tmpfs cleat-test {shown}/inner"))?;
        let run = |name: &str, recursive: bool| -> Result<String> {
            let mut config = configs::script(name, "touch /volume/inner/x 2>&1 && echo written; true");
            let mount = configs::mount(&folder, "/volume");
            config.mounts = vec![Mount { readonly: true, recursive_read_only: recursive, ..mount }];
            node.output(&pod, &config)
        };
        assert_eq!(run("plain", false)?, "written");
        assert_eq!(run("recursive", true)?, "touch: /volume/inner/x: Read-only file system");
        node.cleat().world().shell(&format!("umount {shown}/inner"))?;
        Ok(())
    });
}

#[test]
fn privileged_mounts_propagate_as_asked_for() {
    check(Node::builder().shared_mounts(), |node| {
        let world = node.cleat().world();
        let folder = node.folder().join("shared");
        let shown = folder.display();
        // A group of its own, else each mount below would be made on the folder underneath as well.
        world.shell(&format!(
            "mkdir -p {shown}/late {shown}/back && mount --bind {shown} {shown} && \
             mount --make-private {shown} && mount --make-shared {shown}"
        ))?;
        let mut config = configs::pod("propagation");
        configs::pod_security(&mut config).privileged = true;
        let pod = node.run_pod(config)?;
        let start = |name: &str, propagation: MountPropagation| -> Result<String> {
            let mut config = configs::sleeper(name);
            configs::security(&mut config).privileged = true;
            config.mounts = vec![Mount { propagation: propagation.into(), ..configs::mount(&folder, "/v") }];
            node.start(&pod, &config)
        };
        let private = start("private", MountPropagation::PropagationPrivate)?;
        let slave = start("slave", MountPropagation::PropagationHostToContainer)?;
        let shared = start("shared", MountPropagation::PropagationBidirectional)?;
        let count = |place: &str| format!("grep -c ' {place} ' /proc/self/mounts || true");
        world.shell(&format!("mount -t tmpfs cleat-test {shown}/late"))?;
        for (id, expected) in [(&private, "0"), (&slave, "1"), (&shared, "1")] {
            assert_eq!(node.cri().shell(id, &count("/v/late"))?, expected);
        }
        for id in [&private, &slave] {
            node.cri().shell(id, "mount -t tmpfs cleat-test /v/back")?;
            assert_eq!(world.shell(&count(&format!("{shown}/back")))?, "0\n");
        }
        node.cri().shell(&shared, "mount -t tmpfs cleat-test /v/back")?;
        assert_eq!(world.shell(&count(&format!("{shown}/back")))?, "1\n");
        world.shell(&format!("umount {shown}/back; umount {shown}/late; umount {shown}"))?;
        Ok(())
    });
}
