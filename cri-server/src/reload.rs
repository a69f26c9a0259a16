//! SIGHUP: settings and the files they name are read again, and those that can be are gone by at once.
//!
//! All of it or nothing: a fault anywhere is told, and everything stays as it was. Settings that need a new start are
//! told by name. What is read whenever it is needed (credentials, certificates of registries, CNI configurations) needs no
//! signal.

use anyhow::{Context, Result};
use tokio::signal::unix::Signal;

use crate::assemble;
use crate::config::cli::Options;
use crate::config::{self, Config, Effective};
use crate::engine::Engine;
use crate::telemetry::Filter;

/// What is needed to read the settings again.
pub(crate) struct Reload {
    options: Options,
    /// What the daemon began with.
    effective: Effective,
    filter: Filter,
}

impl Reload {
    /// With the command line's `options`, the settings that the daemon begins with, and the log's `filter`.
    pub(crate) fn new(options: Options, effective: Effective, filter: Filter) -> Self {
        Self { options, effective, filter }
    }

    /// Reads the settings again at each `hangup`.
    pub(crate) async fn at_each(self, mut hangup: Signal, engine: Engine) {
        while hangup.recv().await.is_some() {
            match self.reload(&engine) {
                Ok(()) => tracing::info!("settings were read again"),
                Err(error) => tracing::error!("settings stay as they are: {error:#}"),
            }
        }
    }

    fn reload(&self, engine: &Engine) -> Result<()> {
        let effective = config::load(&self.options).context("read the settings")?;
        let config = Config::from(&effective);
        let sources = assemble::image_sources(&config.image)?;
        self.filter.set(config.log.level).context("change the log's level")?;
        engine.set_image_sources(sources);
        for setting in effective.differing(&self.effective).filter(|setting| !setting.is_live()) {
            tracing::warn!(
                setting = setting.key,
                "has a new value, which the next start of the daemon goes by"
            );
        }
        Ok(())
    }
}
