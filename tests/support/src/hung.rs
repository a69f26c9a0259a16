//! A volume that does not answer, as those of a file server that is gone.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};

use crate::world::World;

/// A FUSE filesystem whose server holds its descriptor and never reads from it: whoever touches the volume waits. Given up
/// when dropped.
#[derive(Debug)]
pub struct HungVolume {
    path: PathBuf,
    server: Child,
}

impl HungVolume {
    /// Mounts it in `world` at `path`, which must not exist yet.
    ///
    /// # Errors
    /// Fails without root, and without FUSE.
    pub fn mount(world: &World, path: &Path) -> Result<Self> {
        fs::create_dir(path).context("make a folder for the hung volume")?;
        let script = "exec 3<>/dev/fuse && \
            mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 hung \"$1\" && echo ready && exec cat";
        let mut command = world.command("sh");
        command.args(["-c", script, "sh"]).arg(path).stdin(Stdio::piped()).stdout(Stdio::piped());
        let server = command.spawn().context("serve the hung volume")?;
        let mut volume = Self { path: path.to_owned(), server };
        let mut line = String::new();
        let output = volume.server.stdout.as_mut().context("output of the hung volume's server")?;
        BufReader::new(output).read_line(&mut line).context("mount the hung volume")?;
        ensure!(line == "ready\n", "the hung volume was not mounted");
        Ok(volume)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ends the server: who waits is told that nobody is there.
    ///
    /// # Errors
    /// Fails when it has ended before.
    pub fn give_up(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.server.kill().context("end the server of the hung volume")?;
        self.server.wait().context("wait for the server of the hung volume").map(drop)
    }
}

impl Drop for HungVolume {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("hung volume: {error:#}");
        }
    }
}
