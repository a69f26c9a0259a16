//! Telling what failed: on standard error, and in the `--log` file in the form the engines read.

use std::fs::OpenOptions;
use std::io::Write;

use super::arguments::Global;
use super::{CommandError, time};

/// Reports a failed command.
pub(super) fn report(global: &Global, error: &CommandError) {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        message.push_str(": ");
        message.push_str(&inner.to_string());
        cause = inner.source();
    }
    write(global, "error", &message);
    eprintln!("cleat-runtime: {message}");
}

/// Notes something that is no failure; seen with `--debug` or in the log only.
pub(super) fn note(global: &Global, message: &str) {
    write(global, "warning", message);
    if global.debug {
        eprintln!("cleat-runtime: {message}");
    }
}

fn write(global: &Global, level: &str, message: &str) {
    let Some(path) = &global.log else { return };
    let time = time::now();
    let line = if global.log_json {
        serde_json::json!({ "level": level, "msg": message, "time": time }).to_string()
    } else {
        format!("time={time:?} level={level} msg={message:?}")
    };
    let opened = OpenOptions::new().create(true).append(true).open(path);
    if let Err(error) = opened.and_then(|mut file| writeln!(file, "{line}")) {
        eprintln!("cleat-runtime: write to {}: {error}", path.display());
    }
}
