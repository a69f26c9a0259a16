//! Images by the command line.

use anyhow::ensure;
use cleat_tests_docker::{BUSYBOX, check};

#[test]
fn privileged_docker_pull_tag_push_rmi() {
    check(|engine| {
        let again = engine.run(&["pull", BUSYBOX])?;
        ensure!(!again.contains("Already exists") && again.contains("Image is up to date for"), "{again}");
        engine.run(&["tag", BUSYBOX, "127.0.0.1:5000/mine/bb:1"])?;
        let pushed = engine.run(&["push", "127.0.0.1:5000/mine/bb:1"])?;
        ensure!(pushed.contains("1: digest: sha256:"), "{pushed}");
        let untagged = engine.run(&["rmi", "127.0.0.1:5000/mine/bb:1"])?;
        // The last name of a repository takes its digests along.
        ensure!(
            untagged
                .starts_with("Untagged: 127.0.0.1:5000/mine/bb:1\nUntagged: 127.0.0.1:5000/mine/bb@sha256:"),
            "{untagged}"
        );
        let deleted = engine.run(&["rmi", BUSYBOX])?;
        ensure!(deleted.contains("Deleted: sha256:"), "{deleted}");
        let pulled = engine.run(&["pull", "127.0.0.1:5000/mine/bb:1"])?;
        for line in ["Pulling fs layer", "Pull complete", "Digest: sha256:", "Downloaded newer image for"] {
            ensure!(pulled.contains(line), "{line} is not in {pulled}");
        }
        let missing = engine.docker(&["pull", "127.0.0.1:5000/none:1"])?;
        ensure!(missing.code == 1 && missing.err.contains("manifest unknown"), "{missing:?}");
        let unknown = engine.docker(&["rmi", "nosuch:1"])?;
        ensure!(unknown.code == 1 && unknown.err.contains("No such image: nosuch:1"), "{unknown:?}");
        Ok(())
    });
}

#[test]
fn privileged_docker_save_load_import_history() {
    check(|engine| {
        // Commands inside begin in the root of their mount namespace.
        let path = |name: &str| engine.folder().join(name).display().to_string();
        let (saved, made) = (path("s.tar"), path("r.tar"));
        engine.run(&["tag", BUSYBOX, "bb:1"])?;
        engine.run(&["save", "-o", &saved, "bb:1"])?;
        engine.run(&["rmi", "bb:1", BUSYBOX])?;
        ensure!(engine.run(&["load", "-i", &saved])? == "Loaded image: bb:1");
        ensure!(engine.run(&["run", "--rm", "bb:1", "echo", "loaded"])? == "loaded");
        let folder = engine.folder().display().to_string();
        let script = "mkdir -p r/bin && cp /bin/busybox r/bin/busybox && ln -s busybox r/bin/sh && tar -C r -cf r.tar .";
        engine.cleat().world().shell(&format!("cd {folder} && {script}"))?;
        let id = engine.run(&[
            "import",
            "-c",
            "CMD [\"sh\", \"-c\", \"echo $A\"]",
            "-c",
            "ENV A=7",
            &made,
            "made:1",
        ])?;
        ensure!(id.starts_with("sha256:"), "{id}");
        ensure!(engine.run(&["run", "--rm", "made:1"])? == "7");
        let history = engine.run(&["history", "--format", "{{.Comment}}", "made:1"])?;
        ensure!(history == "Imported from -", "{history}");
        let command = engine.run(&["image", "inspect", "-f", "{{json .Config.Env}}", "made:1"])?;
        ensure!(command == "[\"A=7\"]", "{command}");
        Ok(())
    });
}
