//! What the monitor has to say to whoever reads its standard error (the daemon's log): one line each, and few of them.

use std::fmt::Arguments;
use std::io::Write;

/// Says what is wrong, in one write, so that the lines of monitors that share a standard error do not mix.
pub(crate) fn complain(what: Arguments<'_>) {
    let line = format!("cleat-conmon[{}]: {what}\n", std::process::id());
    if std::io::stderr().write_all(line.as_bytes()).is_err() {
        // Nobody is left to tell, and a reader that is gone is not the container's problem.
    }
}

/// The value of a step whose failure must not stop the ones after it; says so when it failed.
pub(crate) fn best_effort<T, E: std::error::Error>(step: &str, result: Result<T, E>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(inner) = cause {
                text = format!("{text}: {inner}");
                cause = inner.source();
            }
            complain(format_args!("{step}: {text}"));
            None
        }
    }
}
