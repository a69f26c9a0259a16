//! Pods whose containers another OCI runtime makes: the distribution's runc and crun, asked for by crictl.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cleat_cri_api::v1::*;
use cleat_tests_cri::{Node, Pod, check, configs};
use serde_json::Value;

use crate::crictl_pods::{pod_file, start};

/// The cgroup2 hierarchy of a host that has v1 ones, too.
const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// Answers SIGTERM at once, with a code of its own.
const SERVER: &str = "trap 'exit 3' TERM; mkfifo /tmp/silent; exec 3<>/tmp/silent; echo up $GIVEN; while true; do read nothing <&3; done";

/// A program that runs crun where it works: it refuses hosts with hierarchies of both kinds.
fn crun(folder: &Path) -> Result<PathBuf> {
    if !Path::new(UNIFIED).join("cgroup.procs").exists() {
        return Ok("/usr/bin/crun".into());
    }
    let program = folder.join("crun");
    let text =
        format!("#!/bin/sh\nexec unshare --mount sh -c 'umount {UNIFIED} && exec crun \"$@\"' crun \"$@\"\n");
    fs::write(&program, text).context("write a program")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).context("make it executable")?;
    Ok(program)
}

/// Runs `body` on a node with both as handlers.
fn with_handlers(body: impl FnOnce(&mut Node) -> Result<()>) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let crun = crun(folder.path()).expect("crun can be called");
    let settings = format!("runtime.handlers = [\"runc=/usr/sbin/runc\", \"crun={}\"]\n", crun.display());
    check(Node::builder().settings(&settings), body);
}

/// Runs a pod with crictl.
fn run_pod(node: &Node, handler: &str, name: &str) -> Result<String> {
    let file = pod_file(node, name)?.display().to_string();
    node.cleat().crictl()?.run(&["runp", "--runtime", handler, &file])
}

#[test]
fn privileged_containers_of_another_runtime_live_as_ours_do() {
    with_handlers(|node| {
        for handler in ["runc", "crun"] {
            live(node, handler).with_context(|| handler.to_owned())?;
        }
        Ok(())
    });
}

fn live(node: &mut Node, handler: &str) -> Result<()> {
    let pod = run_pod(node, handler, handler)?;
    let id = start(node, &node.cleat().crictl()?, &pod, handler, SERVER)?;
    node.await_log(&id, "up value")?;
    made_by(node, handler, &id)?;
    let limit = ["memory.limit_in_bytes", "memory.max"].map(|name| {
        node.cgroup(&id, "memory")
            .and_then(|folder| Ok(fs::read_to_string(folder.join(name))?))
            .unwrap_or_default()
    });
    assert_eq!(limit.concat().trim(), "67108864");
    execs(node, &id)?;
    // The monitor is its own; the next daemon finds it as any other.
    node.crash_and_restart()?;
    execs(node, &id)?;
    let crictl = node.cleat().crictl()?;
    crictl.run(&["stop", "--timeout", "20", &id])?;
    assert_eq!(node.cri().container(&id)?.exit_code, 3);
    crictl.run(&["rm", &id])?;
    crictl.run(&["stopp", &pod])?;
    crictl.run(&["rmp", &pod])?;
    Ok(())
}

/// Whether it was the handler's runtime that made the container, by what it remembers of it.
fn made_by(node: &Node, handler: &str, id: &str) -> Result<()> {
    let told: Value = node.cleat().crictl()?.json(&["inspect", id])?;
    assert_eq!(told["info"]["runtimeType"], handler);
    let remembered = node.cleat().state().join("containers").join(id).join("runtime/root").join(id);
    ensure!(remembered.is_dir(), "{} is missing", remembered.display());
    Ok(())
}

fn execs(node: &Node, id: &str) -> Result<()> {
    let crictl = node.cleat().crictl()?;
    assert_eq!(crictl.run(&["exec", "-s", id, "sh", "-c", "echo sync $GIVEN"])?, "sync value");
    assert_eq!(crictl.run(&["exec", id, "sh", "-c", "echo streamed; cat /proc/1/comm"])?, "streamed\npause");
    let failed = crictl.failure(&["exec", "-s", id, "sh", "-c", "exit 9"])?;
    ensure!(failed.contains('9'), "{failed}");
    let late = crictl.failure(&["exec", "-s", "--timeout", "1", id, "sleep", "100"])?;
    ensure!(late.contains("DeadlineExceeded"), "{late}");
    node.until("the process that was given up is gone", || {
        Ok(node.cri().processes(id, "sleep 100")?.is_empty().then_some(()))
    })
}

#[test]
fn privileged_another_runtime_makes_terminals_and_says_what_it_cannot() {
    with_handlers(|node| {
        for handler in ["runc", "crun"] {
            let id = run_pod(node, handler, handler)?;
            let config = PodSandboxConfig {
                metadata: Some(PodSandboxMetadata { name: handler.into(), ..Default::default() }),
                log_directory: node.folder().join("logs").join(handler).display().to_string(),
                ..Default::default()
            };
            let pod = Pod { id, config };
            let script = "test -t 0 && test -c /dev/console && echo terminal";
            let terminal = ContainerConfig { tty: true, ..configs::script("terminal", script) };
            assert_eq!(node.output(&pod, &terminal)?.trim(), "terminal", "{handler}");
            let missing = ContainerConfig {
                command: vec!["/no/such/program".to_owned()],
                ..configs::container("missing", cleat_tests_cri::BUSYBOX)
            };
            let id = node.create(&pod, &missing)?;
            let error = node.cri().start(&id).expect_err("there is no such program").to_string();
            ensure!(error.contains("/no/such/program"), "{handler}: {error}");
        }
        let file = pod_file(node, "unknown")?.display().to_string();
        let refused = node.cleat().crictl()?.failure(&["runp", "--runtime", "kata", &file])?;
        ensure!(refused.contains("kata") && refused.contains("runtime.handlers"), "{refused}");
        let info = node.cleat().crictl()?.json(&["info"])?;
        let names: Vec<_> = info["runtimeHandlers"].as_array().into_iter().flatten().collect();
        ensure!(names.len() == 3, "{info}");
        Ok(())
    });
}
