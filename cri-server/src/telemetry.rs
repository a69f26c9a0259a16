//! The daemon's own log: on standard error, for people or for programs.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

use crate::config::{Log, LogFormat, LogLevel};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up the log: one is set up already")]
pub(crate) struct TelemetryError(#[source] TryInitError);

/// Changes which messages are logged.
pub(crate) struct Filter(reload::Handle<Targets, Registry>);

impl Filter {
    /// Logs messages of `level` and above from now on.
    pub(crate) fn set(&self, level: LogLevel) -> Result<(), reload::Error> {
        self.0.reload(targets(level))
    }
}

/// Sends everything that is logged from now on, anywhere in the process, to standard error.
///
/// # Errors
/// Fails when the process has a log already.
pub(crate) fn start(log: Log) -> Result<Filter, TelemetryError> {
    let lines =
        tracing_subscriber::fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    let registry = tracing_subscriber::registry();
    let (filter, handle) = reload::Layer::new(targets(log.level));
    let started = match log.format {
        LogFormat::Text => registry.with(lines.with_filter(filter)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true).with_filter(filter)).try_init(),
    };
    started.map(|()| Filter(handle)).map_err(TelemetryError)
}

/// The level is for Cleat's own crates (their names share a start); what others say below a warning would drown them.
fn targets(level: LogLevel) -> Targets {
    Targets::new().with_default(LevelFilter::WARN.min(filter(level))).with_target("cleat", filter(level))
}

fn filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
