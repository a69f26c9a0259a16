//! The workspace as `cargo metadata` tells it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// One crate of the workspace.
pub(crate) struct Member {
    pub(crate) name: String,
    /// Names of its dependencies, of the ordinary and the build kind.
    pub(crate) dependencies: Vec<String>,
    /// Names of its dependencies that only tests use.
    pub(crate) dev_dependencies: Vec<String>,
    /// The first files of its libraries and programs.
    pub(crate) roots: Vec<PathBuf>,
}

/// The root of the source tree.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// All crates of the workspace.
pub(crate) fn members() -> Result<Vec<Member>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root());
    let output = command.output().context("run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let packages = metadata["packages"].as_array().context("packages")?;
    packages.iter().map(member).collect()
}

fn member(package: &Value) -> Result<Member> {
    let dependencies = package["dependencies"].as_array().context("dependencies")?;
    let of_kind = |dev: bool| {
        let those = dependencies.iter().filter(|each| (each["kind"] == "dev") == dev);
        those.filter_map(|each| each["name"].as_str().map(ToOwned::to_owned)).collect()
    };
    let targets = package["targets"].as_array().context("targets")?;
    let is_root = |target: &&Value| {
        let kinds = target["kind"].as_array().into_iter().flatten();
        kinds.filter_map(Value::as_str).any(|kind| matches!(kind, "lib" | "bin"))
    };
    let roots =
        targets.iter().filter(is_root).filter_map(|target| target["src_path"].as_str()).map(PathBuf::from);
    Ok(Member {
        name: package["name"].as_str().context("name")?.to_owned(),
        dependencies: of_kind(false),
        dev_dependencies: of_kind(true),
        roots: roots.collect(),
    })
}
