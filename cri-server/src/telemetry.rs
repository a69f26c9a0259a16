//! The daemon's own log: on standard error, for people or for programs.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat, LogLevel};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("set up the log: one is set up already")]
pub(crate) struct TelemetryError(#[source] TryInitError);

/// Sends everything that is logged from now on, anywhere in the process, to standard error.
///
/// # Errors
/// Fails when the process has a log already.
pub(crate) fn start(log: Log) -> Result<(), TelemetryError> {
    let builder = tracing_subscriber::fmt()
        .with_max_level(filter(log.level))
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    let started = match log.format {
        LogFormat::Text => builder.finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(TelemetryError)
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
