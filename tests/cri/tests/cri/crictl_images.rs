//! crictl: images.

use anyhow::{Context, bail};
use cleat_tests_cri::{BUSYBOX, HTTPD, Node, check};

#[test]
fn privileged_crictl_pull_images_inspecti_rmi_imagefsinfo() {
    check(Node::builder().images(&[]), |node| {
        let crictl = node.cleat().crictl()?;
        let answer = crictl.run(&["pull", BUSYBOX])?;
        assert!(answer.starts_with("Image is up to date for "), "{answer}");
        let told = crictl.json(&["inspecti", BUSYBOX])?;
        let status = &told["status"];
        let id = status["id"].as_str().context("id")?.to_owned();
        let digest = status["repoDigests"][0].as_str().context("digest")?.to_owned();
        assert_eq!(status["repoTags"][0], BUSYBOX);
        assert!(digest.starts_with("registry.k8s.io/cleat-test/busybox@sha256:"), "{digest}");
        assert_eq!(told["info"]["imageSpec"]["config"]["Cmd"][0], "sh");
        assert_eq!(told["info"]["imageSpec"]["rootfs"]["diff_ids"].as_array().context("layers")?.len(), 1);
        let table = crictl.run(&["images"])?;
        let row = table
            .lines()
            .find(|line| line.starts_with("registry.k8s.io/cleat-test/busybox"))
            .context("a row")?;
        assert!(row.contains(" 1 ") && row.contains(&id["sha256:".len()..][..13]), "{row}");
        crictl.run(&["rmi", BUSYBOX])?;
        assert_eq!(crictl.run(&["images", "-q"])?, "");
        crictl.run(&["pull", &digest])?;
        assert_eq!(crictl.run(&["images", "-q", "--no-trunc"])?, id);
        assert_eq!(crictl.json(&["inspecti", &digest])?["status"]["id"], *id);
        crictl.run(&["pull", HTTPD])?;
        let usage = crictl.json(&["imagefsinfo"])?;
        let Some([filesystem]) = usage["status"]["imageFilesystems"].as_array().map(Vec::as_slice) else {
            bail!("{usage}")
        };
        let used: u64 = filesystem["usedBytes"]["value"].as_str().context("bytes")?.parse()?;
        assert!((1 << 20..16 << 20).contains(&used), "{used}");
        let unknown = crictl.failure(&["pull", "127.0.0.1:5000/cleat-test/absent:1"])?;
        assert!(unknown.contains("NotFound") && unknown.contains("cleat-test/absent:1"), "{unknown}");
        crictl.run(&["rmi", "--all"])?;
        assert_eq!(crictl.run(&["images", "-q"])?, "");
        Ok(())
    });
}
