//! Where the programs under test and the tools are.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The root of the source tree.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// The program `name` of this project: from `CLEAT_BIN_DIR`, else from `target/cleat/bin`.
///
/// # Errors
/// Fails when it has not been built.
pub fn binary(name: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("CLEAT_BIN_DIR").map(PathBuf::from);
    let path = folder.unwrap_or_else(|| repository().join("target/cleat/bin")).join(name);
    ensure!(path.is_file(), "{} is missing: run `make build`, or set CLEAT_BIN_DIR", path.display());
    path.canonicalize().with_context(|| format!("resolve {}", path.display()))
}

/// The program `name` that hack/deps built, or the one in `PATH`.
///
/// # Errors
/// Fails when there is none.
pub fn tool(name: &str) -> Result<PathBuf> {
    let built = repository().join("target/tools/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = if built.is_file() { Some(built) } else { places.find(|place| place.is_file()) };
    found.with_context(|| format!("{name} is missing: run `hack/deps test`"))
}
