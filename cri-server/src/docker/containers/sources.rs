//! What binds are made from: a missing folder is made for `-v` and refused for `--mount`, as clients expect.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::request::HostConfig;
use crate::docker::refusal::Refusal;

/// Looks for the paths of the host that are to be bound, on a thread of its own: they may be on a network.
pub(super) async fn prepare(host: &HostConfig) -> Result<(), Refusal> {
    let of_binds = host.binds.iter().filter_map(|bind| bind.split_once(':').map(|(source, _)| source));
    let of_binds = of_binds.filter(|source| source.starts_with('/')).map(|source| (source.into(), true));
    let described = host.mounts.iter().filter(|mount| mount.r#type == "bind");
    let of_mounts =
        described.map(|mount| (PathBuf::from(&mount.source), mount.bind_options.create_mountpoint));
    let sources: Vec<(PathBuf, bool)> = of_binds.chain(of_mounts).collect();
    if sources.is_empty() {
        return Ok(());
    }
    let looked = tokio::task::spawn_blocking(move || {
        sources.iter().try_for_each(|(source, is_made)| look(source, *is_made))
    });
    looked.await.unwrap_or_else(|error| Err(Refusal::failed(format!("look for what is bound: {error}"))))
}

fn look(source: &Path, is_made: bool) -> Result<(), Refusal> {
    let failed = |doing: &str, error: &io::Error| {
        Refusal::failed(format!("{doing} the mount source {}: {error}", source.display()))
    };
    match fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("look at", &error)),
        Err(_) if is_made => fs::create_dir_all(source).map_err(|error| failed("make", &error)),
        Err(_) => Err(Refusal::bad(format!(
            "invalid mount config for type \"bind\": bind source path does not exist: {}",
            source.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_folder_is_made_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert_eq!(look(&path, false).unwrap_err().status().as_u16(), 400);
        look(&path, true).unwrap();
        look(&path, false).unwrap();
    }
}
