//! Two doors, one engine: neither finds nor acts on what came in by the other, by a list or by an id.

use anyhow::{Context, Result, ensure};
use cleat_tests_docker::{BUSYBOX, Engine, check};

/// The id of the only group of one: nothing but the daemon's own folder tells it.
fn only_group(engine: &mut Engine) -> Result<String> {
    let folder = engine.cleat().state().join("pods");
    let mut entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let group = entries.next().context("the container's group")??;
    ensure!(entries.next().is_none(), "there is more than one group");
    Ok(group.file_name().to_string_lossy().into_owned())
}

#[test]
fn privileged_docker_containers_are_not_crictls() {
    check(|engine| {
        let id = engine.run(&["run", "-d", "--name", "c1", BUSYBOX, "sleep", "1000"])?;
        let group = only_group(engine)?;
        let crictl = engine.cleat().crictl()?;
        ensure!(crictl.run(&["ps", "-aq"])?.is_empty() && crictl.run(&["pods", "-q"])?.is_empty());
        let stats = crictl.run(&["stats", "-a", "-o", "json"])?;
        ensure!(!stats.contains(id.as_str()), "{stats}");
        let (id, group) = (id.as_str(), group.as_str());
        for command in [
            &["inspect", id][..],
            &["inspect", &id[..13]],
            &["update", "--cpu-share", "2", id],
            &["start", id],
            &["exec", "-s", id, "true"],
            &["exec", id, "true"],
            &["attach", id],
            &["logs", id],
            &["inspectp", group],
            &["port-forward", group, "18080:80"],
        ] {
            let said = crictl.failure(command)?;
            ensure!(
                said.contains("no container has the id") || said.contains("no pod has the id"),
                "{command:?}: {said}"
            );
            ensure!(said.contains("NotFound"), "{command:?}: {said}");
        }
        // Stopping and removing what is unknown does nothing, and whether that is an error is crictl's to say.
        for command in [&["stop", id][..], &["rm", "-f", id], &["stopp", group], &["rmp", "-f", group]] {
            crictl.output(command)?;
        }
        ensure!(
            engine.run(&["inspect", "-f", "{{.State.Running}} {{.HostConfig.CpuShares}}", "c1"])? == "true 0"
        );
        ensure!(engine.run(&["exec", "c1", "ls", "/sys/class/net"])? == "eth0\nlo");
        Ok(())
    });
}

/// A container in a pod, by crictl: its id and its pod's.
fn container_in_pod(engine: &mut Engine) -> Result<[String; 2]> {
    let folder = engine.folder().to_owned();
    let (pod_file, file) = (folder.join("pod.json"), folder.join("container.json"));
    std::fs::write(&pod_file, r#"{"metadata": {"name": "p", "namespace": "n", "uid": "u"}}"#)?;
    let config = format!(
        r#"{{"metadata": {{"name": "c"}}, "image": {{"image": "{BUSYBOX}"}}, "command": ["sleep", "1000"]}}"#
    );
    std::fs::write(&file, config)?;
    let (pod_file, file) = (pod_file.display().to_string(), file.display().to_string());
    let crictl = engine.cleat().crictl()?;
    let pod = crictl.run(&["runp", &pod_file])?;
    let id = crictl.run(&["create", "--no-pull", &pod, &file, &pod_file])?;
    crictl.run(&["start", &id])?;
    Ok([id, pod])
}

#[test]
fn privileged_pods_and_their_containers_are_not_dockers() {
    check(|engine| {
        let [id, pod] = container_in_pod(engine)?;
        ensure!(engine.run(&["ps", "-aq"])?.is_empty());
        for object in [id.as_str(), &id[..12], &pod] {
            for command in [
                &["container", "inspect"][..],
                &["stop"],
                &["kill"],
                &["restart"],
                &["rm"],
                &["start"],
                &["logs"],
                &["attach"],
                &["top"],
                &["stats", "--no-stream"],
                &["wait"],
            ] {
                let said = engine.docker(&[command, &[object]].concat())?;
                ensure!(
                    said.code == 1 && said.err.contains("No such container"),
                    "{command:?} {object}: {said:?}"
                );
            }
            let said = engine.docker(&["exec", object, "true"])?;
            ensure!(said.code == 1 && said.err.contains("No such container"), "exec {object}: {said:?}");
        }
        engine.docker(&["rm", "-f", &id, &pod])?;
        engine.run(&["container", "prune", "-f"])?;
        // An image in use by a pod's container is kept from Docker's clean-up.
        engine.run(&["image", "prune", "-a", "-f"])?;
        let crictl = engine.cleat().crictl()?;
        ensure!(crictl.run(&["exec", "-s", &id, "echo", "up"])? == "up");
        crictl.run(&["rmp", "-f", &pod])?;
        Ok(())
    });
}
