//! Pulling, listing and removing images, and what a pull refuses.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cleat_tests_cri::{BUSYBOX, BadRegistry, Flaw, HTTPD, LAYERS, LAYERS_ZSTD, Node, check, configs};
use tonic::Code;

#[test]
fn privileged_an_image_is_pulled_by_tag_and_by_digest() {
    check(Node::builder(), |node| {
        let cri = node.cri();
        let image = cri.image(BUSYBOX)?.context("busybox")?;
        ensure!(image.id.starts_with("sha256:") && image.id.len() == 71, "{image:?}");
        assert_eq!(image.repo_tags, [BUSYBOX]);
        let [digest] = &image.repo_digests[..] else { anyhow::bail!("{image:?}") };
        ensure!(digest.starts_with("registry.k8s.io/cleat-test/busybox@sha256:"), "{digest}");
        ensure!((500_000..8 << 20).contains(&image.size), "{} bytes", image.size);
        cri.remove_image_named(BUSYBOX)?;
        assert_eq!(cri.image(BUSYBOX)?, None);
        let answer = cri.pull(digest)?;
        let by_digest = cri.image(&answer)?.context("the reference a pull answers names the image")?;
        assert_eq!(by_digest.id, image.id);
        assert_eq!((by_digest.repo_tags, by_digest.repo_digests), (vec![], image.repo_digests.clone()));
        assert_eq!(cri.pull(BUSYBOX)?, answer);
        let both = cri.images()?;
        assert_eq!(both.len(), 1, "{both:?}");
        assert_eq!(both[0].repo_tags, [BUSYBOX]);
        for name in [BUSYBOX, &image.id, &image.id[7..20], digest] {
            assert_eq!(cri.image(name)?.map(|found| found.id), Some(image.id.clone()), "{name}");
        }
        Ok(())
    });
}

#[test]
fn privileged_a_users_image_is_told() {
    check(Node::builder().images(&[BUSYBOX, HTTPD]), |node| {
        let httpd = node.cri().image(HTTPD)?.context("httpd")?;
        // No user in it: neither a number nor a name.
        assert_eq!((httpd.uid, &*httpd.username), (None, ""));
        assert!(!httpd.pinned);
        Ok(())
    });
}

#[test]
fn privileged_layers_are_shared_and_go_with_their_last_image() {
    check(Node::builder().images(&[]), |node| {
        let cri = node.cri();
        let size = || -> Result<u64> {
            let usage = cri.image_fs_info(Default::default())?.image_filesystems;
            Ok(usage.first().and_then(|it| it.used_bytes).context("used bytes")?.value)
        };
        let empty = size()?;
        cri.pull(HTTPD)?;
        let with_one = size()?;
        cri.pull(BUSYBOX)?;
        let with_both = size()?;
        // busybox is httpd's first layer, so nothing but its configuration came.
        ensure!(with_both - with_one < 64 << 10, "{with_one} bytes, then {with_both}");
        cri.remove_image_named(HTTPD)?;
        let pod = node.run_pod(configs::pod("shared"))?;
        assert_eq!(node.output(&pod, &configs::script("still", "echo there"))?, "there");
        node.remove_pod(&pod.id)?;
        cri.remove_image_named(BUSYBOX)?;
        ensure!(size()? <= empty + (64 << 10), "{empty} bytes, and then {}", size()?);
        Ok(())
    });
}

#[test]
fn privileged_an_image_in_use_is_not_lost_with_its_name() {
    check(Node::builder().images(&[]), |node| {
        node.cri().pull(BUSYBOX)?;
        let pod = node.run_pod(configs::pod("using"))?;
        let id = node.start(&pod, &configs::sleeper("using"))?;
        let removed = node.cri().remove_image_named(BUSYBOX);
        assert_eq!(node.cri().shell(&id, "/bin/busybox echo works")?, "works", "after {removed:?}");
        node.remove_pod(&pod.id)?;
        node.cri().remove_image_named(BUSYBOX)?;
        Ok(())
    });
}

#[test]
fn privileged_images_of_many_layers_in_both_packings_are_one_content() {
    check(Node::builder().images(&[]), |node| {
        node.cri().pull(LAYERS)?;
        let gzip = node.cri().image(LAYERS)?.context("gzip")?;
        node.cri().pull(LAYERS_ZSTD)?;
        let zstd = node.cri().image(LAYERS_ZSTD)?.context("zstd")?;
        ensure!(gzip.id == zstd.id, "one configuration is one image: {gzip:?} {zstd:?}");
        ensure!(gzip.size > 100 << 20, "{} bytes", gzip.size);
        Ok(())
    });
}

#[test]
fn privileged_a_good_image_of_the_registry_of_bad_ones_can_be_pulled() {
    check(Node::builder().images(&[]), |node| {
        let registry = BadRegistry::start(node.cleat().world(), Flaw::None)?;
        node.cri().pull(&registry.image())?;
        assert!(node.cri().image(&registry.image())?.is_some());
        Ok(())
    });
}

#[test]
fn privileged_bad_images_are_refused_and_leave_nothing() {
    let table: &[(Flaw, Code, &[&str])] = &[
        (Flaw::TruncatedLayer, Code::Unknown, &["RegistryUnavailable", "127.0.0.1:5001/bad/image"]),
        (Flaw::CorruptLayer, Code::DataLoss, &["127.0.0.1:5001/bad/image", "sha256:"]),
        (Flaw::UnknownMediaType, Code::DataLoss, &["application/vnd.example.unknown"]),
        (Flaw::MissingLayer, Code::NotFound, &["127.0.0.1:5001/bad/image", "sha256:"]),
        (Flaw::Unauthorized, Code::Unauthenticated, &["127.0.0.1:5001/bad/image"]),
        (Flaw::Broken, Code::Unknown, &["RegistryUnavailable", "500"]),
    ];
    check(Node::builder().images(&[]).limit(Duration::from_secs(300)), |node| {
        for (flaw, code, words) in table {
            let registry = BadRegistry::start(node.cleat().world(), *flaw)?;
            let begun = Instant::now();
            let status = node.cri().pull(&registry.image()).expect_err("a flaw is refused");
            assert_eq!(status.code(), *code, "{flaw:?}: {status:?}");
            for word in *words {
                assert!(status.message().contains(word), "{flaw:?}: no {word:?} in {status:?}");
            }
            assert!(begun.elapsed() < Duration::from_secs(35), "{flaw:?} took {:?}", begun.elapsed());
            assert_eq!(node.cri().images()?, [], "{flaw:?}");
            node.no_leaks().with_context(|| format!("{flaw:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn privileged_references_that_lead_nowhere_are_refused() {
    let absent = format!("127.0.0.1:5000/cleat-test/busybox@sha256:{}", "0".repeat(64));
    let table: &[(&str, Code, &[&str])] = &[
        ("", Code::InvalidArgument, &["image"]),
        ("registry.k8s.io/UPPER:1", Code::InvalidArgument, &["UPPER"]),
        ("registry.k8s.io/a@sha256:12", Code::InvalidArgument, &["sha256"]),
        ("127.0.0.1:5000/cleat-test/absent:1", Code::NotFound, &["cleat-test/absent:1"]),
        ("127.0.0.1:5000/cleat-test/busybox:absent", Code::NotFound, &["cleat-test/busybox:absent"]),
        // The mirror has no such image, and the registry itself is out of reach: both are told.
        ("registry.k8s.io/cleat-test/absent:1", Code::Unknown, &["RegistryUnavailable", "127.0.0.1:5000"]),
        (&absent, Code::NotFound, &["cleat-test/busybox@sha256:0000"]),
        // Nobody listens there; plain HTTP is allowed.
        ("127.0.0.1:5001/bad/image:1", Code::Unknown, &["RegistryUnavailable", "127.0.0.1:5001", "refused"]),
    ];
    check(Node::builder().images(&[]), |node| {
        for (reference, code, words) in table {
            let status = node.cri().pull(reference).expect_err("it leads nowhere");
            assert_eq!(status.code(), *code, "{reference}: {status:?}");
            for word in *words {
                assert!(status.message().contains(word), "{reference}: no {word:?} in {status:?}");
            }
            node.no_leaks().with_context(|| format!("{reference:?}"))?;
        }
        Ok(())
    });
}

#[test]
fn privileged_a_manifest_other_than_the_digest_asked_for_is_refused() {
    check(Node::builder().images(&[]), |node| {
        let good = BadRegistry::start(node.cleat().world(), Flaw::None)?;
        node.cri().pull(&good.image())?;
        let image = node.cri().image(&good.image())?.context("image")?;
        let digest = image.repo_digests.first().context("digest")?.clone();
        node.cri().remove_image_named(&image.id)?;
        drop(good);
        let _bad = BadRegistry::start(node.cleat().world(), Flaw::OtherManifest)?;
        let status = node.cri().pull(&digest).expect_err("its digest differs");
        assert_eq!(status.code(), Code::DataLoss, "{status:?}");
        assert!(status.message().contains(&digest), "{status:?}");
        Ok(())
    });
}

#[test]
fn privileged_a_full_disk_is_told_and_nothing_stays_on_it() {
    check(Node::builder().images(&[]), |node| {
        let root = node.cleat().root();
        node.cleat_mut().kill()?;
        let shown = root.display();
        node.cleat().world().shell(&format!("mount -t tmpfs -o size=64m cleat-test {shown}"))?;
        node.start_again()?;
        node.cri().pull(BUSYBOX)?;
        let used = || -> Result<BTreeSet<String>> {
            let files = node.cleat().world().shell(&format!("cd {shown} && find ."))?;
            Ok(files.lines().map(ToOwned::to_owned).collect())
        };
        let before = used()?;
        let status = node.cri().pull(LAYERS).expect_err("300 MB do not fit into 64");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        for word in ["cleat-test/layers:gzip", "o space left"] {
            assert!(status.message().contains(word), "no {word:?} in {status:?}");
        }
        // The layers that were under way when the first of them failed go in the background.
        node.until("nothing of the image is left", || {
            Ok(used()?.difference(&before).next().is_none().then_some(()))
        })?;
        let pod = node.run_pod(configs::pod("after"))?;
        assert_eq!(node.output(&pod, &configs::script("after", "echo works"))?, "works");
        node.remove_pod(&pod.id)?;
        node.cleat_mut().kill()?;
        node.cleat().world().shell(&format!("umount {shown}"))?;
        node.start_again()
    });
}
