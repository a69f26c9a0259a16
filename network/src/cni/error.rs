//! What can go wrong with plugins.

use std::{fmt, io, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{config::FormatError, result::ResultError};
use crate::chain::chains;

/// A CNI operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// What was kept of a pod's network cannot be used any more.
    #[error("use the network that the pod was attached to")]
    Record(#[source] FormatError),
    /// A value would be read as several arguments by plugins.
    #[error("{key} of {pod_id} is {value:?}, which CNI_ARGS cannot carry")]
    Argument {
        /// The pod.
        pod_id: String,
        /// The argument's name.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// A plugin is in none of the folders.
    #[error("CNI plugin {plugin} is not in {}: install it there", list(.dirs))]
    NotFound {
        /// The plugin's type.
        plugin: String,
        /// Where it was looked for.
        dirs: Vec<PathBuf>,
    },
    /// A plugin could not be started or listened to.
    #[error("execute CNI plugin {plugin} for {command}")]
    Execute {
        /// The plugin's type.
        plugin: String,
        /// `ADD`, `DEL`, ...
        command: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A plugin was killed because it took too long.
    #[error("CNI plugin {plugin} did not finish {command} within {} s and was killed", .limit.as_secs_f32())]
    Timeout {
        /// The plugin's type.
        plugin: String,
        /// `ADD`, `DEL`, ...
        command: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// A plugin was killed because it wrote too much.
    #[error("CNI plugin {plugin} wrote more than {limit_bytes} bytes in {command} and was killed")]
    TooMuchOutput {
        /// The plugin's type.
        plugin: String,
        /// `ADD`, `DEL`, ...
        command: &'static str,
        /// How much it was allowed.
        limit_bytes: usize,
    },
    /// A plugin reported a failure.
    #[error("CNI plugin {plugin} failed {command}")]
    Plugin {
        /// The plugin's type.
        plugin: String,
        /// `ADD`, `DEL`, ...
        command: &'static str,
        /// What it said.
        #[source]
        source: PluginError,
    },
    /// A plugin failed without a report that could be read.
    #[error("CNI plugin {plugin} failed {command} ({status}) without a report: {stderr}")]
    NoReport {
        /// The plugin's type.
        plugin: String,
        /// `ADD`, `DEL`, ...
        command: &'static str,
        /// How it ended.
        status: std::process::ExitStatus,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// What a plugin answered is no result.
    #[error("result of CNI plugin {plugin}")]
    Result {
        /// The plugin's type.
        plugin: String,
        /// Why.
        #[source]
        source: ResultError,
    },
    /// CHECK needs the result of ADD, which has not succeeded.
    #[error("check {pod_id}: it has not been attached")]
    NotAttached {
        /// The pod.
        pod_id: String,
    },
    /// Several plugins of a chain failed.
    #[error("{} CNI plugins failed {command}: {}", .failures.len(), chains(.failures))]
    Several {
        /// `DEL` or `GC`.
        command: &'static str,
        /// Each failure, in the order of execution.
        failures: Vec<CniError>,
    },
}

/// The report of a plugin that failed (CNI specification, section 5, "Error").
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PluginError {
    /// 1 to 99 are the specification's, others the plugin's own.
    pub code: u32,
    /// A short description.
    #[serde(default)]
    pub msg: String,
    /// A longer one.
    #[serde(default)]
    pub details: String,
}

impl PluginError {
    /// Code 3: the container is unknown; nothing of it has to be cleaned up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// Code 11: a transient condition, worth another try later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// Code 50: STATUS says that ADD cannot be served.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Code 51: STATUS says that ADD cannot be served and that existing containers may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: u32 = 51;
}

impl std::error::Error for PluginError {}

impl fmt::Display for PluginError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (code {})", self.msg, self.code)?;
        if self.details.is_empty() { Ok(()) } else { write!(out, ": {}", self.details) }
    }
}

fn list(dirs: &[PathBuf]) -> String {
    dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":")
}
