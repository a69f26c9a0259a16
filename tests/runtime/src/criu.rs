//! criu on this host, for the tests of checkpoint and restore.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Container, text};

/// Whether criu works on this kernel. Where criu itself says that it does not, that is printed, and the container has to
/// be none the worse for an attempt: it is refused, and the container runs on.
///
/// # Panics
/// When criu is missing, or when the container does not take a refusal so.
#[must_use]
pub fn criu_works(container: &Container, counter: &Path) -> bool {
    let check = Command::new("criu").arg("check").output().expect("criu is installed (hack/deps test)");
    if check.status.success() {
        return true;
    }
    let said = text(&check);
    println!("NOT TESTED {}: criu cannot work on this kernel: {said}", container.id);
    // That criu's own reason is told, and nothing made, is a test of its own: not every runtime does so.
    let folder = tempfile::tempdir().expect("a folder can be made");
    assert_survives(container, counter, &folder.path().join("images"), "criu");
    false
}

/// A checkpoint of a container that counts in `counter` has to fail for this reason, and to change nothing.
///
/// # Panics
/// When it does not.
pub fn assert_refused(container: &Container, counter: &Path, reason: &str) {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let images = folder.path().join("images");
    assert_survives(container, counter, &images, reason);
    assert!(!images.exists(), "a folder is left of what could not begin");
}

fn assert_survives(container: &Container, counter: &Path, images: &Path, reason: &str) {
    let refused = checkpoint(container, images, &[]);
    assert!(!refused.status.success() && text(&refused).contains(reason), "{}", text(&refused));
    assert_eq!(container.state()["status"], "running");
    container.await_growth(counter);
}

/// `checkpoint` into a folder.
#[must_use]
pub fn checkpoint(container: &Container, images: &Path, options: &[&str]) -> std::process::Output {
    let mut command = container.command("checkpoint");
    let command = command.arg("--image-path").arg(images).args(options).arg(&container.id);
    command.output().expect("the runtime can be run")
}

/// A folder for PATH in which criu is a script.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn criu_that(script: &str) -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let program: PathBuf = folder.path().join("criu");
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a script can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("a mode can be set");
    folder
}
