//! crictl: checkpoints. Where criu itself says that it cannot work on this kernel, that has to be the answer.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use cleat_cri_api::v1::CheckpointContainerRequest;
use cleat_tests_cri::{Node, check};
use serde_json::Value;
use tonic::Code;

use crate::crictl_pods::{run_pod, start};

/// Changes its image in every way, then tells that it lives.
const WRITER: &str = "mkdir /made; echo mine > /made/file; ln -s file /made/link; rm /bin/true; echo up; \
                      i=0; while true; do i=$((i+1)); echo $i > /count; sleep 0.05; done";

/// The daemon's monitors look there, and in no folder of the test's PATH.
const CRIU: &str = "/usr/sbin/criu";

#[test]
fn privileged_crictl_checkpoint() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "checkpoint")?;
        let id = start(node, &crictl, &pod, "writer", WRITER)?;
        node.await_log(&id, "up")?;
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("writer.tar");
        let export = format!("--export={}", archive.display());
        let criu = Command::new(CRIU).arg("check").output().context("criu is installed (hack/deps test)")?;
        let bundle = node.cleat().root().join("containers").join(&id);
        if criu.status.success() {
            crictl.run(&["checkpoint", &export, &id])?;
            read(&archive)?;
            // The archive is replaced by the next one.
            crictl.run(&["checkpoint", &export, &id])?;
            read(&archive)?;
        } else {
            println!(
                "NOT TESTED: criu cannot work on this kernel: {}",
                String::from_utf8_lossy(&criu.stderr)
            );
            let told = crictl.failure(&["checkpoint", &export, &id])?;
            assert!(told.contains("criu says: ") && told.contains("`criu check`"), "{told}");
            assert!(!archive.exists());
        }
        let left: Vec<_> = fs::read_dir(folder.path())?.flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), usize::from(archive.exists()), "{left:?}");
        assert!(!bundle.join("checkpoint").exists(), "a folder is left");
        goes_on(node, &id)
    });
}

/// The container is at work: its count grows.
fn goes_on(node: &Node, id: &str) -> Result<()> {
    let crictl = node.cleat().crictl()?;
    let count = || crictl.run(&["exec", "-s", id, "cat", "/count"]);
    let before = count()?;
    node.until("the count to grow", || Ok((count()? != before).then_some(())))
}

fn tar(arguments: &[&str], archive: &Path, names: &[&str]) -> Result<String> {
    let output = Command::new("tar").args(arguments).arg(archive).args(names).output()?;
    anyhow::ensure!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Everything that CRI-O's archives have is in it, and can be read.
fn read(archive: &Path) -> Result<()> {
    assert_eq!(fs::metadata(archive)?.permissions().mode() & 0o7777, 0o600);
    let names = tar(&["-tf"], archive, &[])?;
    let expected =
        ["config.dump", "spec.dump", "network.status", "rootfs-diff.tar", "deleted.files", "dump.log"];
    for name in expected.into_iter().chain(["checkpoint/pstree.img", "checkpoint/descriptors.json"]) {
        assert!(names.lines().any(|line| line == name), "{name}: {names}");
    }
    let document = |name| -> Result<Value> { Ok(serde_json::from_str(&tar(&["-xOf"], archive, &[name])?)?) };
    assert_eq!(document("config.dump")?["name"], "writer");
    assert_eq!(document("spec.dump")?["annotations"]["io.container.manager"], "cri-o");
    let deleted = document("deleted.files")?;
    assert!(deleted.as_array().context("a list")?.contains(&"/bin/true".into()), "{deleted}");
    let inner = tempfile::NamedTempFile::new()?;
    let output = Command::new("tar").args(["-xOf"]).arg(archive).arg("rootfs-diff.tar").output()?;
    fs::write(inner.path(), output.stdout)?;
    let changed = tar(&["-tf"], inner.path(), &[])?;
    for name in ["made/file", "made/link", "count"] {
        assert!(changed.lines().any(|line| line == name), "{name}: {changed}");
    }
    Ok(())
}

#[test]
fn privileged_a_checkpoint_needs_a_running_container_and_a_place() {
    check(Node::builder(), |node| {
        let crictl = node.cleat().crictl()?;
        let pod = run_pod(node, &crictl, "refused")?;
        let ended = start(node, &crictl, &pod, "ended", "exit 0")?;
        node.await_end(&ended)?;
        let ask = |id: &str, location: &str| {
            let (container_id, location) = (id.to_owned(), location.to_owned());
            node.cri().checkpoint_container(CheckpointContainerRequest { container_id, location, timeout: 5 })
        };
        for (id, location, code) in [
            (&*ended, "/nonexistent/x.tar", Code::FailedPrecondition),
            (&*ended, "x.tar", Code::InvalidArgument),
            (&*ended, "", Code::InvalidArgument),
            ("", "/nonexistent/x.tar", Code::InvalidArgument),
            ("absent", "/nonexistent/x.tar", Code::NotFound),
        ] {
            let status = ask(id, location).err().with_context(|| format!("{id} {location}"))?;
            assert_eq!(status.code(), code, "{status:?}");
        }
        Ok(())
    });
}
