//! Images as volumes of containers.

use std::time::Duration;

use anyhow::Result;
use cleat_cri_api::v1::*;
use cleat_tests_cri::{BUSYBOX, LAYERS, Node, check, configs};
use tonic::Code;

/// Unpacking the large image takes a program without optimisations a while.
const LIMIT: Duration = Duration::from_secs(240);

fn image(name: &str, sub_path: &str, at: &str) -> Mount {
    Mount {
        container_path: at.to_owned(),
        image: Some(ImageSpec { image: name.to_owned(), ..Default::default() }),
        image_sub_path: sub_path.to_owned(),
        readonly: true,
        ..Default::default()
    }
}

#[test]
fn privileged_an_image_and_its_parts_are_read_only_volumes() {
    check(Node::builder().limit(LIMIT), |node| {
        let pod = node.run_pod(configs::pod("volumes"))?;
        node.cri().pull(LAYERS)?;
        let mut config = configs::script(
            "volumes",
            "cat /all/etc/top-layer /part/above /file; ls -A /part; ls /all/special/removed 2>&1; touch /all/x 2>&1; \
             touch /part/x 2>&1; /one/bin/true 2>&1; grep -c ' / .*overlay' /proc/self/mountinfo",
        );
        config.mounts = vec![
            image(LAYERS, "", "/all"),
            image(LAYERS, "special/opaque", "/part"),
            image(LAYERS, "special/becomes-file", "/file"),
            image(BUSYBOX, "", "/one"),
        ];
        let finished = node.run(&pod, &config)?;
        let expected = [
            "on top",
            "upper",
            "upper",
            "above",
            "ls: /all/special/removed: No such file or directory",
            "touch: /all/x: Read-only file system",
            "touch: /part/x: Read-only file system",
            "sh: /one/bin/true: Permission denied",
        ];
        let stdout = finished.stdout();
        assert!(stdout.starts_with(&expected.join("\n")), "{stdout}\n{}", finished.stderr());
        let told = finished.status.mounts.iter().find(|mount| mount.container_path == "/part");
        assert_eq!(told, Some(&image(LAYERS, "special/opaque", "/part")));
        Ok(())
    });
}

#[test]
fn privileged_a_volume_outlives_its_image_as_long_as_its_container() {
    check(Node::builder().limit(LIMIT), |node| {
        let pod = node.run_pod(configs::pod("held"))?;
        node.cri().pull(LAYERS)?;
        let mut config = configs::script("held", "cat /all/etc/top-layer");
        config.mounts = vec![image(LAYERS, "", "/all")];
        let id = node.create(&pod, &config)?;
        node.cri().remove_image_named(LAYERS)?;
        node.cri().start(&id)?;
        assert_eq!(node.await_end(&id)?.exit_code, 0);
        Ok(())
    });
}

#[test]
fn privileged_what_cannot_be_mounted_is_told_in_the_kubelets_words() {
    check(Node::builder(), |node| -> Result<()> {
        let pod = node.run_pod(configs::pod("refused"))?;
        let refused = |mount: Mount| {
            let mut config = configs::script("refused", "true");
            config.mounts = vec![mount];
            let error = node.create(&pod, &config).unwrap_err();
            error.downcast_ref::<tonic::Status>().cloned().unwrap_or_else(|| panic!("{error:?}"))
        };
        for mount in [
            image("registry.k8s.io/cleat-test/never-pulled:1", "", "/v"),
            image(BUSYBOX, "no/such/folder", "/v"),
        ] {
            let status = refused(mount);
            assert_eq!(status.code(), Code::Unknown, "{status:?}");
            assert!(status.message().starts_with("ImageVolumeMountFailed: "), "{status:?}");
        }
        for mount in [
            Mount { readonly: false, ..image(BUSYBOX, "", "/v") },
            Mount { host_path: "/tmp".into(), ..image(BUSYBOX, "", "/v") },
            image(BUSYBOX, "../etc", "/v"),
        ] {
            assert_eq!(refused(mount).code(), Code::InvalidArgument);
        }
        Ok(())
    });
}
