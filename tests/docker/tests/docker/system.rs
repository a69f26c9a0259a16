//! The engine itself, and what there is none of.

use anyhow::ensure;
use cleat_tests_docker::check;

#[test]
fn privileged_docker_version_info_and_built_in_networks() {
    check(|engine| {
        let version = engine.run(&["version"])?;
        ensure!(version.contains("Server: Cleat") && version.contains("minimum version 1.24"), "{version}");
        let info = engine.run(&["info"])?;
        for line in ["Storage Driver: overlayfs", "Swarm: inactive", "Default Runtime: cleat", " Images: 1"] {
            ensure!(info.contains(line), "{line} is not in {info}");
        }
        let networks = engine.run(&["network", "ls", "--format", "{{.Name}} {{.Driver}}"])?;
        ensure!(networks == "bridge bridge\nhost host\nnone null", "{networks}");
        let gateway =
            engine.run(&["network", "inspect", "bridge", "-f", "{{(index .IPAM.Config 0).Gateway}}"])?;
        ensure!(gateway == "10.213.0.1", "{gateway}");
        Ok(())
    });
}

#[test]
fn privileged_docker_lists_of_what_there_is_not_are_empty() {
    check(|engine| {
        for list in [&["volume", "ls", "-q"], &["plugin", "ls", "-q"]] {
            ensure!(engine.run(list)?.is_empty(), "{list:?}");
        }
        for prune in ["container", "image", "network", "volume"] {
            engine.run(&[prune, "prune", "-f"])?;
        }
        engine.run(&["system", "df"])?;
        let nodes = engine.docker(&["node", "ls"])?;
        ensure!(nodes.code == 1 && nodes.err.contains("not a swarm manager"), "{nodes:?}");
        let missing = engine.docker(&["inspect", "nosuch"])?;
        ensure!(missing.code == 1 && missing.err.contains("No such object: nosuch"), "{missing:?}");
        Ok(())
    });
}
