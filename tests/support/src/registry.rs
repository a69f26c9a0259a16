//! A real registry with the images of `hack/test-images`, inside a [`World`].

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::binaries::repository;
use crate::machine::full_storage;
use crate::world::World;

/// The port it listens on, on 127.0.0.1: every world has a loopback of its own.
pub const REGISTRY_PORT: u16 = 5000;

/// How long building and pushing all images may take: only the first run has anything to do.
const FILL_LIMIT: Duration = Duration::from_secs(300);

/// How long starting and stopping may take.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running registry. It ends with [`Registry::stop`], which its owner calls before the world goes.
#[derive(Debug)]
pub(crate) struct Running {
    folder: PathBuf,
}

/// The registry of a world, for tests that start one without a daemon.
#[derive(Debug)]
pub struct Registry<'w> {
    world: &'w World,
    running: Running,
}

impl<'w> Registry<'w> {
    /// Starts one in `world` with its log and pid file in `folder`, and fills it.
    ///
    /// # Errors
    /// Fails when it does not listen, or an image cannot be pushed.
    pub fn start(world: &'w World, folder: &Path) -> Result<Self> {
        Ok(Self { world, running: Running::start(world, folder)? })
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.running.stop(self.world) {
            eprintln!("registry: {error:#}");
        }
    }
}

impl Running {
    pub(crate) fn start(world: &World, folder: &Path) -> Result<Self> {
        let running = Self { folder: folder.to_owned() };
        // Shared by all tests and filled once.
        let full = full_storage();
        let storage = full.clone().unwrap_or_else(|| repository().join("target/registry"));
        let port = REGISTRY_PORT.to_string();
        let start = ["start".as_ref(), folder.as_os_str(), port.as_ref(), storage.as_os_str()];
        script(world, "hack/registry", &start, START_LIMIT)?;
        if full.is_some() {
            return Ok(running);
        }
        let push = ["push".as_ref(), storage.as_os_str(), port.as_ref()];
        if let Err(error) = script(world, "hack/test-images", &push, FILL_LIMIT) {
            running.stop(world).context("stop the registry that could not be filled")?;
            return Err(error);
        }
        Ok(running)
    }

    pub(crate) fn stop(&self, world: &World) -> Result<()> {
        script(world, "hack/registry", &["stop".as_ref(), self.folder.as_os_str()], START_LIMIT)
    }
}

fn script(world: &World, name: &str, arguments: &[&OsStr], limit: Duration) -> Result<()> {
    let output = world.run(repository().join(name), arguments, limit)?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} {arguments:?}: {}\n{errors}", output.status);
    Ok(())
}
