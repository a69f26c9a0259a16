//! SIGHUP: what the daemon reads again, and what it does with a fault.

use std::fs;

use anyhow::{Context, Result, ensure};
use cleat_tests_cri::{Node, check};

const IMAGE: &str = "registry.k8s.io/cleat-test/busybox:1";

/// Writes a file below the daemon's folder, has the settings read again and waits until the log tells `words` once more.
fn reload(node: &Node, file: &str, text: &str, words: &str) -> Result<()> {
    let path = node.cleat().folder().join(file);
    fs::create_dir_all(path.parent().context("a folder")?)?;
    fs::write(&path, text).with_context(|| format!("write {file}"))?;
    let told = || Ok::<_, anyhow::Error>(fs::read_to_string(node.cleat().log_path())?.matches(words).count());
    let before = told()?;
    let pid = node.cleat().pid().context("the daemon runs")?;
    ensure!(node.cleat().world().command("kill").args(["-HUP", &pid.to_string()]).status()?.success());
    node.until(words, || Ok((told()? > before).then_some(())))
}

#[test]
fn privileged_sighup_has_settings_read_again_all_or_nothing() {
    check(Node::builder(), |node| {
        let cri = node.cri();
        cri.pull(IMAGE).context("before")?;
        let registries = node.cleat().folder().join("registries.conf");
        let open = fs::read_to_string(&registries)?;
        let blocked =
            format!("{open}[[registry]]\nlocation = \"registry.k8s.io/cleat-test\"\nblocked = true\n");
        reload(node, "registries.conf", &blocked, "settings were read again")?;
        let refusal = cri.pull(IMAGE).expect_err("its registry is blocked");
        assert!(refusal.message().contains("blocked"), "{refusal}");

        // A fault in one place keeps what is right in the others from being taken.
        fs::write(&registries, open)?;
        reload(node, "cleat.toml.d/90-more.toml", "log.level = \"loud\"\n", "settings stay as they are")?;
        assert!(cri.pull(IMAGE).is_err(), "nothing was taken");

        let more = "log.level = \"warn\"\nruntime.pids_limit = 77\n";
        reload(node, "cleat.toml.d/90-more.toml", more, "which the next start of the daemon goes by")?;
        cri.pull(IMAGE).context("after")?;
        let log = || fs::read_to_string(node.cleat().log_path());
        assert!(log()?.contains("setting=\"runtime.pids_limit\""), "{}", log()?);
        let quiet = log()?;
        cri.pull(IMAGE)?;
        assert_eq!(log()?, quiet, "pulls are told by messages of less weight");
        Ok(())
    });
}
